"""Executes notebooks from top to bottom, and writes what they show.

    python examples/notebooks/run.py                                      # all, in place
    python examples/notebooks/run.py 01 --set steps=50 --out /tmp/tried    # one, small, somewhere else

`--set name=value` overrides the cell tagged `parameters`, in a cell of its own after it, as papermill does. A
kernel runs in the notebook's own folder, as Jupyter's does. Needs
`pip install 'diffkit[notebooks]' diffkit-energy`.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

HERE = Path(__file__).parent
QUIET = "--IPKernelApp.log_level=ERROR"
STRICT = (  # of the cells, not of the kernel's own code
    "--IPKernelApp.exec_lines=import warnings; warnings.simplefilter('error'); "
    "warnings.filterwarnings('ignore', module='ipykernel')"
)


def found(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks whose names begin with one of `names`; all where none is given."""
    every = sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in every):
            raise click.UsageError(f"no notebook begins with {name!r}: {', '.join(p.stem for p in every)}")
    return [path for path in every if not names or path.name.startswith(tuple(names))]


def tagged(notebook: Any, tag: str) -> list[Any]:
    """The cells with a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def parameters(notebook: Any) -> set[str]:
    """The names that the cell tagged `parameters` assigns."""
    (cell,) = tagged(notebook, "parameters")
    statements = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
    return {target.id for node in statements for target in node.targets if isinstance(target, ast.Name)}


def inject(notebook: Any, values: Mapping[str, Any]) -> None:
    """Puts the values of parameters that the notebook has into a cell of their own; an older one goes."""
    for old in tagged(notebook, "injected-parameters"):
        notebook.cells.remove(old)
    known = {name: value for name, value in values.items() if name in parameters(notebook)}
    if known:
        source = "\n".join(f"{name} = {value!r}" for name, value in known.items())
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]}, id="injected")
        notebook.cells.insert(notebook.cells.index(tagged(notebook, "parameters")[0]) + 1, cell)


def execute(path: Path, values: Mapping[str, Any], *, strict: bool = False) -> Any:
    """The notebook with what its cells show.

    Args:
        values: of parameters.
        strict: warnings are errors.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    inject(notebook, values)
    # What a cell calls by `!diffkit` is this interpreter's.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=[QUIET, STRICT] if strict else [QUIET],
    )
    client.execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["executed"] = fingerprint(notebook)
    return notebook


def fingerprint(notebook: Any) -> str:
    """Of the cells of code: kept pictures whose cells have changed since are found out by it."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def lighten(notebook: Any) -> None:
    """Leaves each picture 256 colours where that makes it smaller; a rare colour is one of them."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if (encoded := output.get("data", {}).get("image/png")) is not None:
                whole, light = base64.b64decode(encoded), io.BytesIO()
                picture = Image.open(io.BytesIO(whole)).convert("RGB")
                method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
                picture.quantize(256, method, kmeans=4, dither=dither).save(light, "png", optimize=True)
                output.data["image/png"] = base64.b64encode(min(whole, light.getvalue(), key=len)).decode()


def value_of(text: str) -> tuple[str, Any]:
    """`name=value`, the value a Python literal, or else a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text}: write it as name=value")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="By default in place.")
@click.option("--strict", is_flag=True, help="Warnings are errors.")
def main(names: tuple[str, ...], settings: tuple[str, ...], out: Path | None, strict: bool) -> None:
    """Execute the notebooks whose names begin with NAME, or all, and tell how long each took."""
    chosen, values = found(names), dict(map(value_of, settings))
    known = set().union(*(parameters(nbformat.read(path, as_version=4)) for path in chosen))
    if values.keys() - known:
        unknown = ", ".join(sorted(values.keys() - known))
        raise click.UsageError(f"no parameter is called {unknown}; there are {', '.join(sorted(known))}")
    for path in chosen:
        began = time.monotonic()
        try:
            notebook = execute(path, values, strict=strict)
        except CellExecutionError as error:
            raise click.ClickException(f"{path.name} failed\n{error}") from None
        lighten(notebook)
        target = (out or path.parent) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        click.echo(f"{path.name}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
