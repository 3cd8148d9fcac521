"""The plugin guide, followed to the letter: every block is written or run, in the order of the page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from temporary_environment import Environment

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "plugins.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody with the page before them, in an empty folder."""

    def __init__(self, environment: Environment, place: Path) -> None:
        self.environment, self.place = environment, place
        self.said = ""

    def write(self, body: str) -> None:
        """A file, named in the block's first line, or what is added to one."""
        first, rest = body.split("\n", 1)
        name, added = re.fullmatch(r"# ([\w/.]+)(, added at the end)?", first).groups()  # type: ignore[union-attr]
        path = self.place / name
        assert not added or path.is_file()
        path.write_text(path.read_text() + "\n" + rest if added else body)

    def type(self, line: str) -> None:
        """A command, which has to end as the page says."""
        command, _, comment = line.partition("#")
        words = shlex.split(command)
        if words[0] == "cd":
            self.place = self.place / words[1]
            return
        done = self._run(words)
        self.said = done.stdout + done.stderr
        assert done.returncode == (2 if comment.strip() == "refused" else 0), f"{line}\n{self.said}"

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        if words[0] in ("diffkit", "pytest"):
            return self.environment.python("-m", *words, cwd=self.place)
        assert words[:2] in (["pip", "install"], ["pip", "wheel"]), words
        alone = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        there = [] if words[1] == "wheel" else ["--python", str(self.environment.interpreter)]
        call = [sys.executable, "-m", "pip", *there, *words[1:2], *alone, *words[2:]]
        return subprocess.run(call, cwd=self.place, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    "until", ["## Your own equation", pytest.param("", marks=pytest.mark.prove)], ids=["start", "whole"]
)
def test_the_page_from_the_top(until: str, tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert until in text
    reader = Reader(Environment.at(tmp_path / "environment"), tmp_path)
    said: dict[str, str] = {}
    for kind, body in BLOCK.findall(text.partition(until)[0] if until else text):
        if kind in ("python", "toml"):
            reader.write(body)
        elif kind == "console":
            for line in body.splitlines():
                reader.type(line)
                said[line] = reader.said
        else:
            assert kind == "text", kind
    assert "midpoint" in said["diffkit list sampler"]
    assert "share" not in said["diffkit show sampler midpoint"]
    if until:
        return
    assert float(said["diffkit order midpoint"]) == pytest.approx(2.0, abs=0.1)
    assert re.search(r"^  order .*from diffkit-midpoint", said["diffkit --help"], flags=re.MULTILINE)
    assert "house rule" in reader.said
    assert list((tmp_path / "midpoint" / "dist").glob("diffkit_midpoint-0.1.0-*.whl"))


def test_the_broken_law_that_it_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffkit.testing import LawBroken, laws

    text = PAGE.read_text(encoding="utf-8")
    (source,) = [
        body for kind, body in BLOCK.findall(text) if body.startswith("# diffkit_midpoint/sampler.py")
    ]
    (quoted,) = [body.strip() for kind, body in BLOCK.findall(text) if kind == "text"]
    (tmp_path / "overstated.py").write_text(
        source.replace("return 2 if self.share == 0.5 else 1", "return 3")
    )
    monkeypatch.syspath_prepend(tmp_path)
    (order,) = [law for law in laws("sampler") if law.name == "order"]
    with pytest.raises(LawBroken) as caught:
        order(__import__("overstated").Midpoint())
    assert f"order is broken: {caught.value.counterexample}".startswith(quoted)


def test_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) >= 5
    for link in links:
        assert (PAGE.parent / link).exists(), link
