"""`diffkit new`: a package for a component of one's own, which works before a line of it is changed."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

import diffkit
from diffkit.cli import complete
from diffkit.discovery import Kind
from diffkit.errors import ComponentError, ConfigError
from diffkit.registry import components, find_kind

__all__ = ["command"]

_TEMPLATES = Path(__file__).with_name("templates")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.command("new")
@click.argument("kind", shell_complete=complete.kinds)
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where the folder NAME is made; by default here.",
)
def command(kind: str, name: str, out: Path) -> None:
    """Write a package for a component of your own.

    The folder NAME gets a small working component of that KIND, its entry point, its tests, a
    README and a workflow for continuous integration. NAME is what configurations will call it.
    """
    chosen = find_kind(kind)
    _refuse_unfit(chosen.name, name)
    files = dict(_rendered(chosen, name))
    folder = out / name
    try:
        folder.mkdir(parents=True)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written ({error.strerror or error})",
            "a folder that is not there yet, in a place that can be written to",
            "Choose another name, or another place with --out",
        ) from error
    click.echo(f"package: {folder}")
    click.echo(
        f"next: cd {shlex.quote(str(folder))} && pip install -e '.[test]' && diffkit check {kind} {name}"
    )


def _refuse_unfit(kind: str, name: str) -> None:
    """Names that cannot be a component's, or that are taken."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a new {kind}",
            "small letters and digits, a letter first, words joined by -",
            "Write it like my-first-one",
        )
    for info in components(kind):
        if info.name == name:
            raise ComponentError(
                f"There is a {kind} {name!r} already, of {info.distribution} {info.version}",
                "",
                "Choose a name of your own: of two that share one, neither can be named by it",
            )
    if importlib.util.find_spec(_package(name)) is not None:
        raise ConfigError(
            f"The package would be called {_package(name)}, which is installed already",
            "a name of one's own",
            "Choose another",
        )


def _package(name: str) -> str:
    return f"diffkit_{name.replace('-', '_')}"


def _rendered(kind: Kind, name: str) -> Iterator[tuple[str, str]]:
    """Every file of the package, by its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    package = _package(name)
    cls = "".join(word.capitalize() for word in name.split("-"))
    values = {
        "kind": kind.name,
        "group": kind.group,
        "api": kind.version,
        "name": name,
        "cls": cls,
        "package": package,
        "distribution": f"diffkit-{name}",
        "version": diffkit.__version__,
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    sources = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".github/workflows/test.yml": "workflow.yml",
        f"tests/test_{kind.name}.py": "test.py",
        "example.yaml": "example.yaml",
        f"{package}/{kind.name}.py": f"components/{kind.name}.py",
    }
    yield f"{package}/__init__.py", ""
    yield f"{package}/py.typed", ""
    for path, template in sources.items():
        text = environment.get_template(f"{template}.jinja").render(values)
        if template.startswith("components/"):
            _refuse_taken(cls, text)
        yield path, text


def _refuse_taken(cls: str, text: str) -> None:
    """Class names that Python keeps, or that the module needs for something else."""
    if keyword.iskeyword(cls) or cls in _imported(text):
        raise ConfigError(
            f"The class would be called {cls}, which means something else already",
            "a name of one's own",
            "Choose another name, of two words say",
        )


def _imported(text: str) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}
