"""The page in a real browser: silence, no request, tabs, slider, matrix, themes, widths, keyboard, zoom."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium
from synthetic_run import make_run

from diffkit import report
from diffkit.cli.main import commands

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
    assert browser.run("[...document.images].every((image) => image.naturalWidth > 40)")
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
        const button = document.querySelectorAll("#process .zoom")[1];
        button.click();
        const found = { open: dialog.open, caption: dialog.querySelector("p").textContent };
        found.same = stage.querySelector("img").src === button.querySelector("img").src;
        found.alt = stage.querySelector("img").alt === button.querySelector("img").alt;
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
    browser.run("document.querySelector('nav a[href=\"#provenance\"]').click()")
    browser.run("""(async () => {
        const status = document.querySelector(".copied");
        document.querySelector(".copy").click();
        while (!status.textContent) await new Promise((done) => setTimeout(done, 10));
    })()""")
    status, selected = browser.run("[document.querySelector('.copied').textContent, String(getSelection())]")
    assert status == "Copied." or selected.strip() == "diffkit run runs/digits-1f2e3d4c"
    assert browser.console == []


SELECTED = """(() => {
    const shown = [...document.querySelectorAll("main > section")].filter((each) => !each.hidden);
    const tabs = [...document.querySelectorAll("[role=tab]")];
    const chosen = tabs.filter((tab) => tab.ariaSelected === "true");
    const reachable = tabs.filter((tab) => tab.tabIndex === 0);
    return [shown, chosen, reachable].map((found) => found.map((each) => each.id.replace("tab-", "")));
})()"""


def test_tabs_show_one_section_at_a_time_by_mouse_and_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.run(SELECTED) == [["samples"]] * 3
    browser.run("document.querySelector('nav a[href=\"#training\"]').click()")
    assert browser.run(SELECTED) == [["training"]] * 3
    for key, section in [
        ("ArrowRight", "figures"),
        ("ArrowLeft", "training"),
        ("End", "provenance"),
        ("ArrowRight", "samples"),
        ("ArrowLeft", "provenance"),
        ("Home", "samples"),
    ]:
        browser.press(key)
        assert browser.run(SELECTED) == [[section]] * 3
        assert browser.run("document.activeElement.id") == f"tab-{section}"
        assert browser.run("location.hash") == f"#{section}"
    assert browser.console == []


def test_tabs_are_named_after_what_they_show(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.run("""[...document.querySelectorAll("[role=tab]")].every((tab) => {
        const panel = document.getElementById(tab.getAttribute("aria-controls"));
        return panel.role === "tabpanel" && panel.getAttribute("aria-labelledby") === tab.id;
    })""")


def test_an_address_leads_to_its_section_and_a_search_opens_it(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("location.hash = '#figures'")
    settle(browser)
    assert browser.run(SELECTED)[0] == ["figures"]
    browser.run("document.querySelector('#training').dispatchEvent(new Event('beforematch'))")
    assert browser.run(SELECTED)[0] == ["training"]


def test_the_navigation_stays_in_sight(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("scrollTo({top: 1e6, behavior: 'instant'})")
    settle(browser)
    assert browser.run("scrollY") > 0
    assert browser.run("document.querySelector('nav').getBoundingClientRect().top") == 0


BOXES = """
    const [film, picture] = [".film", ".film img"].map((each) => document.querySelector(each));
    const [box, whole] = [film, picture].map((each) => each.getBoundingClientRect());
"""
SIZES = f"(() => {{ {BOXES} return [whole.height / box.height, box.width / whole.width]; }})()"
FRAME = f"""(() => {{
    {BOXES}
    const frame = Math.round((box.top - whole.top) / box.height);
    return [frame, document.querySelector(".player output").textContent];
}})()"""


def test_a_slider_goes_through_the_reverse_process(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('nav a[href=\"#process\"]').click()")
    assert browser.run(SIZES) == pytest.approx([10, 1], rel=1e-2)
    assert browser.run(FRAME) == [9, "t = 0.00"]
    browser.run("document.querySelector('#process input').focus()")
    browser.press("ArrowLeft")
    assert browser.run(FRAME) == [8, "t = 0.11"]
    browser.press("Home")
    assert browser.run(FRAME) == [0, "t = 1.00"]
    told = browser.run("document.querySelector('#process input').getAttribute('aria-valuetext')")
    assert told == "t = 1.00, frame 1 of 10"
    assert browser.console == []


def test_the_film_plays_to_its_end_and_stops(browser: Chromium, page: Path) -> None:
    browser.open(page)
    seen = browser.run("""(async () => {
        const [play, slider] = [document.querySelector(".play"), document.querySelector(".player input")];
        slider.value = 6;
        slider.dispatchEvent(new Event("input"));
        play.click();
        const seen = new Set([play.textContent]);
        while (play.textContent === "Pause") {
            seen.add(slider.value);
            await new Promise((done) => setTimeout(done, 20));
        }
        return [...seen, play.textContent];
    })()""")
    assert seen == ["Pause", "6", "7", "8", "Play"]
    assert browser.run("document.querySelector('.player input').value") == "9"


def test_a_cell_of_the_matrix_says_why(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('nav a[href=\"#compatibility\"]').click()")
    why = "document.querySelector('.why').innerText"
    assert browser.run(why).startswith("dpm-solver++ with vp: allowed")
    cell = "document.querySelector('[data-pair=\"exponential-integrator with ve\"]')"
    for act in ("dispatchEvent(new PointerEvent('pointerenter'))", "focus()", "click()"):
        browser.run("document.activeElement.blur(); document.querySelector('.cell').focus()")
        assert "exponential" not in browser.run(why)
        browser.run(f"{cell}.{act}")
        told = browser.run(why)
        assert told.startswith("exponential-integrator with ve: refused")
        assert "drift" in told
        assert "ddim" in told, "the remedy"
    assert (
        browser.run("[...document.querySelectorAll('.cell')].filter((each) => each.tabIndex === 0).length")
        == 1
    )
    browser.run(f"{cell}.focus()")
    browser.press("ArrowRight")
    assert browser.run(why).startswith("exponential-integrator with vp")
    browser.press("ArrowUp")
    assert browser.run(why).startswith("euler-maruyama with vp")
    assert browser.run("document.activeElement.tabIndex") == 0


def test_the_theme_is_turned_by_a_button_and_stays_turned(browser: Chromium, page: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.open(page, prefers_color_scheme="dark")
    by_system, label = browser.run(colour), browser.run("document.querySelector('.theme').ariaLabel")
    assert label == "Light theme"
    browser.run("document.querySelector('.theme').click()")
    light = browser.run(colour)
    assert light != by_system
    assert browser.run("document.querySelector('.theme').ariaLabel") == "Dark theme"
    browser.open(page, prefers_color_scheme="dark")
    assert browser.run(colour) == light
    browser.run("document.querySelector('.theme').click()")
    assert browser.run(colour) == by_system
    browser.run("localStorage.clear()")


def test_without_javascript_everything_is_there(browser: Chromium, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, width=390)
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    heights = browser.run("[...document.querySelectorAll('main > section')].map((each) => each.offsetHeight)")
    assert len(heights) == 7
    assert min(heights) > 100
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("[...document.querySelectorAll('details')].every((each) => each.open)")
    assert "exponential-integrator with ve" in browser.run("document.body.innerText")


def test_paper_shows_every_section_in_light_colours(browser: Chromium, page: Path) -> None:
    browser.open(page, prefers_color_scheme="dark")
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        browser.run("dispatchEvent(new Event('beforeprint'))")
        heights = browser.run(
            "[...document.querySelectorAll('main > section')].map((each) => each.offsetHeight)"
        )
        assert min(heights) > 60
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(247, 248, 249)"
        assert not browser.run("document.querySelector('nav').offsetHeight")
        assert browser.run("[...document.querySelectorAll('details')].every((each) => each.open)")
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("theme,width", [("light", 1280), ("dark", 390)])
def test_the_page_of_several_runs_is_like_the_others(
    browser: Chromium, tmp_path: Path, theme: str, width: int
) -> None:
    home = tmp_path / "runs"
    folders = [str(make_run(home / name, name)) for name in ("first", "second")]
    page = home / "both.html"
    commands(["compare", *folders, "--html", str(page), "--quiet"], standalone_mode=False, obj={})
    browser.open(page, width=width, prefers_color_scheme=theme)
    assert browser.run("tabs.length") == 3
    for tab, section in enumerate(("figures", "samples", "settings")):
        browser.run(f"tabs[{tab}].click()")
        assert browser.run(SELECTED) == [[section]] * 3
        assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("tabs[1].click()")
    tops = browser.run("[...document.images].map((image) => image.getBoundingClientRect().top)")
    assert (tops[0] == tops[1]) == (width > 800), "beside each other where there is room"
    assert browser.run(CONTRAST)[1] >= 4.5
    assert browser.console == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]


CONTRAST = """(() => {
    const luminance = (colour) => {
        const linear = colour.match(/[0-9.]+/g).slice(0, 3).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const paper = luminance(getComputedStyle(document.body).backgroundColor);
    const marks = ".lead, .soft, .status, .ticks, .value, .cell";
    const words = `h1, h2, figcaption, nav a, dt, dd, td, summary, ${marks}`;
    const behind = (each) => {
        for (let box = each; box; box = box.parentElement) {
            const colour = getComputedStyle(box).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)") return luminance(colour);
        }
    };
    const texts = [...document.querySelectorAll(words)];
    const found = texts.map((text) => contrast(behind(text), luminance(getComputedStyle(text).color)));
    return [paper, Math.min(...found)];
})()"""


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_and_widths(browser: Chromium, page: Path, theme: str, width: int) -> None:
    browser.open(page, width=width, prefers_color_scheme=theme)
    paper, contrast = browser.run(CONTRAST)
    assert paper < 0.05 if theme == "dark" else paper > 0.8
    assert contrast >= 4.5, "WCAG 2.2, success criterion 1.4.3"
    for tab in range(browser.run("tabs.length")):
        browser.run(f"tabs[{tab}].click()")
        assert browser.run("document.documentElement.scrollWidth") <= width, "nothing sticks out sideways"
    buttons = "[...document.querySelectorAll('button')]"
    assert browser.run(f"{buttons}.every((button) => button.ariaLabel || button.textContent.trim())")
    assert browser.console == []


@pytest.mark.parametrize("wish,behaviour", [("reduce", "auto"), ("no-preference", "smooth")])
def test_motion_is_as_much_as_the_reader_wants(
    browser: Chromium, page: Path, wish: str, behaviour: str
) -> None:
    browser.open(page, prefers_reduced_motion=wish)
    assert browser.run("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
    browser.run("document.querySelector('nav a[href=\"#process\"]').click()")
    assert browser.run("document.querySelector('.play').offsetHeight > 0") == (wish != "reduce")
