"""The page in a real browser: no console message, no request, themes, widths, keyboard, zoom and copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium
from synthetic_run import make_run

from diffkit import report

PROGRAM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium on PATH")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.build(make_run(tmp_path_factory.mktemp("runs") / "digits-1f2e3d4c"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as started:
        yield started


def settle(browser: Chromium) -> None:
    """Waits for two frames, so that scrolling and layout have reached the page."""
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_console_is_silent_and_nothing_is_requested(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("Promise.all([...document.images].map((image) => image.decode()))")
    assert browser.run("[...document.images].every((image) => image.naturalWidth > 100)")
    assert browser.console == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]


def test_what_should_be_silent_is_listened_to(browser: Chromium, page: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    noise = (
        "<script>console.warn('planted'); absent();</script><img src='https://example.invalid/x.png' alt=''>"
    )
    planted.write_text(page.read_text(encoding="utf-8").replace("</body>", noise), encoding="utf-8")
    browser.open(planted)
    heard = " ".join(browser.console)
    assert "planted" in heard
    assert "absent is not defined" in heard
    assert "violates the following Content Security Policy" in heard


def test_a_picture_opens_enlarges_fits_and_closes_by_mouse(browser: Chromium, page: Path) -> None:
    browser.open(page)
    found = browser.run("""(() => {
        const dialog = document.querySelector("dialog");
        const stage = dialog.querySelector(".stage");
        const press = (how) => dialog.querySelector(`[data-zoom="${how}"]`).click();
        const width = () => stage.querySelector("img").getBoundingClientRect().width;
        document.querySelectorAll(".zoom")[1].click();
        const found = { open: dialog.open, caption: dialog.querySelector("p").textContent };
        found.same = stage.querySelector("img").src === document.images[1].src;
        found.alt = stage.querySelector("img").alt === document.images[1].alt;
        found.fits = stage.scrollWidth <= stage.clientWidth && stage.scrollHeight <= stage.clientHeight;
        const fitted = width();
        press("2"); press("2"); found.larger = width() / fitted;
        found.scrolls = stage.scrollWidth > stage.clientWidth;
        press("0.5"); found.smaller = width() / fitted;
        press("0"); found.again = width() / fitted;
        press("close"); found.closed = !dialog.open;
        return found;
    })()""")
    assert found.pop("caption") == "Forward: examples of the data set turn into noise."
    scales = [found.pop(name) for name in ("larger", "smaller", "again")]
    assert scales == pytest.approx([4, 2, 1], rel=1e-3)
    assert set(found.values()) == {True}
    assert browser.console == []


def test_a_picture_opens_enlarges_fits_and_closes_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    width = "document.querySelector('.stage img').getBoundingClientRect().width"
    browser.run("document.querySelector('.zoom').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('dialog').open")
    assert browser.run("document.activeElement.className") == "stage", "so that arrow keys scroll the picture"
    fitted = browser.run(width)
    browser.press("+")
    assert browser.run(width) == pytest.approx(2 * fitted, rel=1e-3)
    browser.press("0")
    assert browser.run(width) == pytest.approx(fitted, rel=1e-3)
    browser.press("Escape")
    assert not browser.run("document.querySelector('dialog').open")
    assert browser.run("document.activeElement === document.querySelector('.zoom')"), "focus comes back"


def test_the_first_tab_offers_to_skip_the_navigation(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.run("document.activeElement.hash") == "#content"
    assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0


def test_the_command_is_copied_or_at_least_selected(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("""(async () => {
        const status = document.querySelector(".copied");
        document.querySelector(".copy").click();
        while (!status.textContent) await new Promise((done) => setTimeout(done, 10));
    })()""")
    status, selected = browser.run("[document.querySelector('.copied').textContent, String(getSelection())]")
    assert status == "Copied." or selected.strip() == "diffkit run runs/digits-1f2e3d4c"
    assert browser.console == []


def test_the_navigation_stays_in_sight_and_follows_the_reader(browser: Chromium, page: Path) -> None:
    browser.open(page)
    marked = "[...document.querySelectorAll('nav [aria-current]')].map((link) => link.hash)"
    assert browser.run(marked) == ["#samples"]
    browser.run("scrollTo({top: document.getElementById('training').offsetTop - 100, behavior: 'instant'})")
    settle(browser)
    assert browser.run(marked) == ["#training"]
    assert browser.run("document.querySelector('nav').getBoundingClientRect().top") == 0
    browser.run("scrollTo({top: 1e6, behavior: 'instant'})")
    settle(browser)
    assert browser.run(marked) == ["#again"]


CONTRAST = """(() => {
    const luminance = (colour) => {
        const linear = colour.match(/[0-9.]+/g).slice(0, 3).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const paper = luminance(getComputedStyle(document.body).backgroundColor);
    const words = "h1, h2, .lead, .soft, figcaption, nav a, .status, dt, dd, td, .ticks, .value, summary";
    const inks = [...document.querySelectorAll(words)].map((text) => getComputedStyle(text).color);
    return [paper, Math.min(...inks.map((ink) => contrast(paper, luminance(ink))))];
})()"""


@pytest.mark.parametrize("width", [320, 700, 1600])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_and_widths(browser: Chromium, page: Path, theme: str, width: int) -> None:
    browser.open(page, width=width, prefers_color_scheme=theme)
    paper, contrast = browser.run(CONTRAST)
    assert paper < 0.05 if theme == "dark" else paper > 0.8
    assert contrast >= 4.5, "WCAG 2.2, success criterion 1.4.3"
    assert browser.run("document.documentElement.scrollWidth") <= width, "nothing sticks out sideways"
    buttons = "[...document.querySelectorAll('button')]"
    assert browser.run(f"{buttons}.every((button) => button.ariaLabel || button.innerText)")
    assert browser.console == []


@pytest.mark.parametrize("wish,behaviour", [("reduce", "auto"), ("no-preference", "smooth")])
def test_motion_is_as_much_as_the_reader_wants(
    browser: Chromium, page: Path, wish: str, behaviour: str
) -> None:
    browser.open(page, prefers_reduced_motion=wish)
    assert browser.run("getComputedStyle(document.documentElement).scrollBehavior") == behaviour


def test_on_a_narrow_page_the_current_link_is_brought_into_sight(browser: Chromium, page: Path) -> None:
    browser.open(page, width=360)
    browser.run("scrollTo({top: 1e6, behavior: 'instant'})")
    settle(browser)
    left, right = browser.run("""(() => {
        const box = document.querySelector("nav [aria-current]").getBoundingClientRect();
        return [box.left, box.right];
    })()""")
    assert 0 <= left < right <= 360
