"""The code in docs/pictures.md gives figures that can be drawn, and every function has its place there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from diffkit import plots

PAGE = Path(__file__).parent.parent / "docs" / "pictures.md"
TEXT = PAGE.read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
FAST = {"steps=2000": "steps=50", "(1, 2, 3, 4, 5, 20, 100)": "(1, 2, 5)", "steps=20,": "steps=3,"}


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    drawn: list[Figure] = []
    for code in PYTHON:
        for slow, fast in FAST.items():
            code = code.replace(slow, fast)
        for statement in ast.parse(code).body:
            exec(compile(ast.Module([statement], []), "pictures.md", "exec"), names)
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "figure":
                drawn.append(names["figure"])
    for figure in drawn:
        figure.canvas.draw()
    assert len(drawn) > 15
    assert (tmp_path / "embedding.png").stat().st_size > 1000


@pytest.mark.parametrize("name", plots.__all__)
def test_every_function_is_on_the_page(name: str) -> None:
    assert re.search(rf"plots\.{name}\(", TEXT)


def test_its_pictures_are_there_and_small() -> None:
    shown = [PAGE.parent / name for name in re.findall(r"\]\((pictures/[\w-]+\.png)\)", TEXT)]
    assert len(shown) >= 4
    assert sum(path.stat().st_size for path in shown) < 300_000
    assert set(shown) == set((PAGE.parent / "pictures").glob("*.png"))
