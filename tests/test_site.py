"""The documentation site builds without a warning, says what the code says, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium
from pages import DOCS, ROOT
from ruamel.yaml import YAML

from diffkit.testing.lawbook import schedule as schedule_laws

REFERENCE = str(DOCS / "_site" / "reference.py")
READ = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").glob("*/README.md")])


def anchors(page: Path) -> set[str]:
    """What `#...` may name, made of the headings as the site (and a forge) makes it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


def dead_links(page: Path) -> list[str]:
    """The links of a page, to files and to headings, that lead nowhere."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# A title, `coded`\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[1](b.md#a-title-coded) [2](b.md#other) [3](c.md) [4](#none) [5](https://example.org/c.md)"
    )
    assert dead_links(page) == ["b.md#other", "c.md", "#none"]


def test_every_page_is_in_the_navigation() -> None:
    config = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(node: Any) -> Iterator[str]:
        for each in node.values() if isinstance(node, dict) else node:
            yield from [each] if isinstance(each, str) else leaves(each)

    listed = sorted(leaves(config["nav"]))
    assert listed == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_is_what_the_code_says() -> None:
    # In a process of its own: what other tests install and invoke would be told of too.
    command = [sys.executable, REFERENCE, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reference_that_differs_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schedule_laws, "LAWS", schedule_laws.LAWS[1:])
    assert runpy.run_path(REFERENCE)["main"](["--check"]) == 1
    assert "laws.md. Run `make reference`" in capsys.readouterr().out


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built; any warning is an error."""
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_equations_are_drawn_and_nothing_is_fetched(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert len(pages) > 25
    assert pages[site / "mathematics.html"].count("<math") > 100
    for page, text in pages.items():
        assert "arithmatex" not in text, page
        assert not re.findall(r'(?:src|<link[^>]* href)="(?:https?:)?//[^"]*"', text), page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on PATH")
def test_in_a_browser_from_a_folder(site: Path, tmp_path: Path) -> None:
    """Narrow pages do not scroll sideways, equations have a size, the search finds, the console is silent."""
    with Chromium(str(shutil.which("chromium")), tmp_path) as browser:
        for name in ("mathematics", "plugins", "own_images", "work_precision", "reference/matrix"):
            browser.open(site / f"{name}.html", width=390)
            assert browser.run("document.documentElement.scrollWidth") == 390, name
            assert browser.console == [], name
            assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        browser.open(site / "mathematics.html", width=1300, prefers_color_scheme="dark")
        assert (
            browser.run("Math.min(...[...document.querySelectorAll('math')].map((m) => m.clientWidth))") > 3
        )
        found = browser.run("""(async () => {
            const field = document.querySelector(".md-search__input");
            for (let n = 0; n < 100; n++) {
                field.focus(); field.value = "tweedie";
                field.dispatchEvent(new Event("keyup", { bubbles: true }));
                await new Promise((done) => setTimeout(done, 50));
                const link = document.querySelector(".md-search-result__link");
                if (link) return link.href;
            }
        })()""")
        assert "conditioning.html" in found
