"""What the pages tell a reader to type and to write does what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from pages import DOCS, ROOT, Reader, blocks
from temporary_environment import Environment

import diffkit

# These have tests of their own, below or beside their subject, which look at what comes out.
OWN = {"README.md", "conditioning.md", "energy.md", "parallel.md", "pictures.md", "plugins.md"}
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.name not in OWN and blocks(page)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody in a folder with the example configurations."""
    made = Reader(tmp_path)
    made.furnish()
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_from_the_top(page: Path, reader: Reader) -> None:
    reader.follow(blocks(page))


def test_the_readme(reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    reader.follow(blocks(ROOT / "README.md"))
    deviation, calls = re.findall(r"[\d.]+", capsys.readouterr().out)
    assert float(deviation) == pytest.approx(0.5, abs=0.03)
    assert int(calls) == 20
    (refusal,) = [said for line, said in reader.said.items() if "refused" in line]
    assert "linear drift" in refusal
    assert "ddim" in refusal


def test_conditioning(reader: Reader) -> None:
    reader.follow(blocks(DOCS / "conditioning.md"))
    told = reader.names
    assert told["images"].shape == (4, 8, 1, 8, 8)
    assert (reader.place / "completed.png").stat().st_size > 1000
    torch.testing.assert_close(told["frames"][0], told["a"], atol=0.02, rtol=0.0)
    torch.testing.assert_close(told["frames"][-1], told["b"], atol=0.02, rtol=0.0)
    blur = diffkit.create("operator", "blur", width=0.8)
    assert float((blur.apply(told["restored"]) - told["y"]).std()) < 0.1


@pytest.mark.prove  # four launches of two processes each
def test_several_processes(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    reader.follow(blocks(DOCS / "parallel.md"))
    assert list(reader.place.glob("runs/digits-*/report.html"))


@pytest.mark.parametrize(
    "until", ["## Your own equation", pytest.param("", marks=pytest.mark.prove)], ids=["start", "whole"]
)
def test_the_plugin_guide(until: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path, Environment.at(tmp_path / "environment"))
    reader.follow(blocks(DOCS / "plugins.md", until))
    assert "midpoint" in reader.said["diffkit list sampler"]
    assert "share" not in reader.said["diffkit show sampler midpoint"]
    if until:
        return
    assert float(reader.said["diffkit order midpoint"]) == pytest.approx(2.0, abs=0.1)
    shown = reader.said["diffkit --help"]
    assert re.search(r"^  order .*from diffkit-midpoint", shown, flags=re.MULTILINE)
    (refusal,) = [said for line, said in reader.said.items() if "refused" in line]
    assert "house rule" in refusal
    assert list((tmp_path / "midpoint" / "dist").glob("diffkit_midpoint-0.1.0-*.whl"))


def test_the_broken_law_that_the_guide_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffkit.testing import LawBroken, laws

    page = blocks(DOCS / "plugins.md")
    (source,) = [body for _, body in page if body.startswith("# diffkit_midpoint/sampler.py")]
    (quoted,) = [body.strip() for kind, body in page if kind == "text"]
    (tmp_path / "overstated.py").write_text(
        source.replace("return 2 if self.share == 0.5 else 1", "return 3")
    )
    monkeypatch.syspath_prepend(tmp_path)
    (order,) = [law for law in laws("sampler") if law.name == "order"]
    with pytest.raises(LawBroken) as caught:
        order(__import__("overstated").Midpoint())
    assert f"order is broken: {caught.value.counterexample}".startswith(quoted)
