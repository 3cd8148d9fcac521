"""The page of a run: whole, self-contained, escaped, honest about what is missing."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_run import CONFIG, make_run, manifest, metrics

from diffkit import report
from diffkit.compatibility import matrix
from diffkit.errors import InputError
from diffkit.registry import Registry, current, using

VOID = {"meta", "link", "img", "br", "input", "hr"}
PIECES = ["config.yaml", "manifest.json", "metrics.json", "log.jsonl", "samples.npz"]
PICTURES = ["samples.png", "forward.png", "reverse.png", "loss.png"]


class Page(HTMLParser):
    """Elements with their attributes, the visible text, and proof that tags are well nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.stack: list[str] = []
        self.html = html
        self.feed(html)
        assert self.stack == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script", "title"} & set(self.stack):
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def elements_with(self, key: str, value: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if attributes.get(key) == value]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "digits-1f2e3d4c")


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def built(folder: Path) -> Page:
    path = report.build(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def with_metrics(folder: Path, **entries: Any) -> Page:
    (folder / "metrics.json").write_text(json.dumps(entries))
    return built(folder)


def test_the_page_names_the_data_inside_a_wrapper(own_run: Path) -> None:
    wrapped = CONFIG.replace(
        "dataset: {name: digits}", "dataset: {name: normalized, dataset: {name: digits}}"
    )
    (own_run / "config.yaml").write_text(wrapped)
    assert "learnt normalized digits through" in built(own_run).text


def test_the_page_tells_the_whole_run(run: Path) -> None:
    text = built(run).text
    sentence = (
        "The network unet learnt digits through the vp process with the cosine schedule in 2,000 steps; "
        "dpm-solver++ drew 64 samples in 20 steps."
    )
    told = manifest()
    expected = [
        sentence,
        told["command"],
        told["git"],
        told["model"],
        told["created"],
        *told["checksums"].values(),
        *told["compatibility"][0].values(),
        "64 x 1 x 8 x 8",
        "2.35 min",
        "1.93 s",
        "classifier:digits:3f1c0d22",
        "channels: 32",
        "Incomplete",
    ]
    absent = [piece for piece in expected if piece not in text]
    assert absent == ["Incomplete"]


def test_every_component_is_a_row_with_its_distribution_and_version(run: Path) -> None:
    html = re.sub(r"\s+", " ", built(run).html)
    for part in manifest()["components"]:
        name = f'<th scope="row">{part["name"]}</th>'
        row = f"<tr><td>{part['kind']}</td>{name}<td>diffkit</td><td>0.1.0</td></tr>"
        assert row in html


def test_the_page_loads_nothing(run: Path) -> None:
    page = built(run)
    for _, attributes in page.elements:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert "url(" not in page.html
    assert "@import" not in page.html
    (policy,) = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_pictures_are_embedded_byte_by_byte_with_alternatives(run: Path) -> None:
    page = built(run)
    images = page.all("img")
    embedded = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images]
    order = ["samples.png", "frames.png", "reverse.png", "forward.png", "schedule.png"]
    order += ["loss.png", "two-pixels.png"]
    assert embedded == [(run / name).read_bytes() for name in order]
    assert all(len(image["alt"]) > 20 for image in images)
    assert len({image["alt"] for image in images}) == len(images)
    assert all(int(image["width"]) > 0 and int(image["height"]) > 0 for image in images)
    with Image.open(run / "reverse.png") as picture:
        assert (int(images[2]["width"]), int(images[2]["height"])) == picture.size


def test_the_page_is_small_and_accessible_in_structure(run: Path) -> None:
    page = built(run)
    assert len(page.html.encode()) < 1_000_000
    assert page.html.startswith("<!doctype html>")
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= targets
    assert {section["id"] for section in page.all("section")} <= {a["href"][1:] for a in page.all("a")}


def test_strings_of_the_run_cannot_become_markup(own_run: Path) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    told = manifest(name=evil)
    told["command"] = told["git"] = told["created"] = evil
    told["components"][0] = dict.fromkeys(told["components"][0], evil)
    told["compatibility"][0] = dict.fromkeys(told["compatibility"][0], evil)
    for key in ("versions", "checksums", "timing"):
        told[key] = {evil: evil}
    (own_run / "manifest.json").write_text(json.dumps(told))
    (own_run / "config.yaml").write_text(f"name: digits\nnetwork: {json.dumps(evil)}\n")
    entry = metrics()["fid"]
    entry["count"] = entry["details"]["features"] = evil
    (own_run / "metrics.json").write_text(json.dumps({evil: entry}))
    (own_run / "<img onerror=alert(1)>.png").write_bytes((own_run / "loss.png").read_bytes())
    page = built(own_run)
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 8
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count("<script>alert('x')</script>") >= 12


@pytest.mark.parametrize("name", [*PIECES, *PICTURES])
def test_a_missing_piece_is_named_and_the_rest_stays(own_run: Path, name: str) -> None:
    complete = built(own_run)
    (own_run / name).unlink()
    page = built(own_run)
    assert f"{name} is not in the run folder." in page.text
    assert f"Incomplete: {name}." in page.text
    assert len(page.all("img")) == len(complete.all("img")) - (name in PICTURES)
    assert [section["id"] for section in page.all("section")] == [s["id"] for s in complete.all("section")]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00{", b"[1, 2", b"- 1\n- 2\n", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("name", [name for name in (*PIECES, *PICTURES) if name != "log.jsonl"])
def test_a_damaged_piece_is_named(own_run: Path, name: str, content: bytes) -> None:
    (own_run / name).write_bytes(content)
    page = built(own_run)
    assert f"{name} cannot be read: " in page.text
    assert f"Incomplete: {name}." in page.text


@pytest.mark.parametrize(
    "told",
    [
        {"components": 3, "compatibility": {"a": 1}, "versions": [1], "checksums": "x", "timing": None},
        {"components": [1, None, {}], "compatibility": [{"status": None}], "timing": {"training": "long"}},
    ],
)
def test_a_manifest_of_another_shape_does_no_harm(own_run: Path, told: dict[str, Any]) -> None:
    (own_run / "manifest.json").write_text(json.dumps(told))
    (own_run / "config.yaml").write_text("name: other\nsde: 3\nsampling: [1]\n")
    page = built(own_run)
    assert page.all("title") == [{}]
    assert "<title>other · diffkit</title>" in page.html
    assert "The manifest does not say how to run it again." in page.text


def test_a_log_cut_off_in_the_middle_of_a_line_counts_up_to_there(own_run: Path) -> None:
    (own_run / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 7, "loss": 0.25}\n{"step": 8, "lo')
    text = built(own_run).text
    assert "in 7 steps" in text
    assert "Last loss 0.25" in text


def test_figures_stand_beside_their_floors(own_run: Path) -> None:
    page = with_metrics(own_run, **metrics())
    rows = re.findall(r'<th scope="row">(fid|inception-score)</th>(.*?)</tr>', page.html, flags=re.S)
    found = {name: re.findall(r'<td class="number">(.*?)</td>', row, flags=re.S) for name, row in rows}
    cells = {
        name: [" ".join(re.sub("<.*?>", "", cell).split()) for cell in row] for name, row in found.items()
    }
    count = "1000 (floor: 360)"
    assert cells["fid"] == ["11.87 ± 0.41", "4.31 ± 0.22", "812.0 ± 6.5", "2.75", count]
    assert cells["inception-score"] == ["8.920 ± 0.070", "9.310 ± 0.050", "1.420 ± 0.020", "0.958", count]


def test_a_figure_without_error_floor_or_finite_value_is_still_a_row(own_run: Path) -> None:
    lone = {"value": 3.0, "error": None, "count": 10, "details": {"floor": {"value": 0.0}}}
    unknown = {"value": math.nan, "error": math.inf, "count": 5, "details": None}
    page = with_metrics(own_run, lone=lone, unknown=unknown, odd=3)
    rows = dict(re.findall(r'<th scope="row">(lone|unknown|odd)</th>(.*?)</tr>', page.html, flags=re.S))
    cells = {name: re.findall(r'<td class="number">(.*?)</td>', row) for name, row in rows.items()}
    none = "\N{EN DASH}"
    assert cells["lone"] == ["3", "0", none, none, "10"]
    assert cells["unknown"] == [none] * 4 + ["5"]
    assert cells["odd"] == [none] * 4 + [""]
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


def spans(page: Page, kind: str) -> list[tuple[float, float]]:
    """Left and right ends of bars or whiskers, in percent."""
    found = re.findall(rf'class="{kind}" style="left: (\S+)%; width: (\S+)%"', page.html)
    return [(float(left), float(left) + float(width)) for left, width in found]


def entry(value: float, error: float, floor: float, noise: float) -> dict[str, Any]:
    details = {"floor": {"value": floor}, "noise": {"value": noise}}
    return {"value": value, "error": error, "count": 9, "details": details}


def test_bars_lie_on_a_logarithmic_axis_where_values_span_decades(own_run: Path) -> None:
    page = with_metrics(own_run, fid=entry(30.0, 10.0, 3.0, 3000.0))
    # The axis runs from 1 to 10^4.
    ends = [25 * math.log10(value) for value in (30, 3, 3000)]
    assert spans(page, "fill") == [pytest.approx((0.0, end), abs=0.02) for end in ends]
    assert spans(page, "whisker") == [pytest.approx((25 * math.log10(20), 25 * math.log10(40)), abs=0.02)]
    assert "Logarithmic scale." in page.text


def test_a_bar_at_a_whole_decade_still_has_a_length(own_run: Path) -> None:
    page = with_metrics(own_run, fid=entry(50.0, 0.0, 10.0, 1000.0))
    assert spans(page, "fill")[1] == pytest.approx((0.0, 100 / 3), abs=0.02)


def test_bars_start_from_zero_where_values_are_close_or_negative(own_run: Path) -> None:
    page = with_metrics(own_run, kid=entry(-2.0, 0.5, 4.0, 7.5))
    # The axis runs from -3 to 8.
    place = [100 * (value + 3) / 11 for value in (0, -2, 4, 7.5)]
    expected = [(place[1], place[0]), (place[0], place[2]), (place[0], place[3])]
    assert spans(page, "fill") == [pytest.approx(span, abs=0.02) for span in expected]
    assert spans(page, "whisker") == [pytest.approx((100 * 0.5 / 11, 100 * 1.5 / 11), abs=0.02)]
    assert "Logarithmic scale." not in page.text


def test_what_a_figure_rests_on_is_told_leaf_by_leaf(own_run: Path) -> None:
    details = {
        "features": "classifier:3f1c",
        "extractor": {"held_out_accuracy": 0.9912345678},
        "higher_is_better": False,
        "splits": [10, 20],
        "terms": {"t": [0.5] * 300},
        "own_classes": True,
        "bound": math.nan,
        "gap": None,
    }
    page = with_metrics(own_run, fid={"value": 1.0, "error": None, "count": 9, "details": details})
    told = dict(re.findall(r"<dt>([^<]*)</dt>\s*<dd>([^<]*)</dd>", page.html))
    assert told["features"] == "classifier:3f1c"
    assert told["extractor, held out accuracy"] == "0.991235"
    assert told["splits"] == "10, 20"
    assert told["terms, t"] == "300 values"
    assert told["own classes"] == "yes"
    assert told["bound"] == "not a number"
    assert told["gap"] == "\N{EN DASH}"
    assert "lower is better" in page.text


def test_the_film_brings_its_captions_and_is_no_loss_where_there_is_none(own_run: Path) -> None:
    (player,) = [each for each in built(own_run).all("figure") if each.get("class") == "player"]
    captions = json.loads(player["data-captions"])
    assert captions == [f"t = {t:.2f}" for t in np.linspace(1, 0, 10)]
    assert "hidden" in player, "until a script can move it"
    (own_run / "frames.png").write_bytes((own_run / "loss.png").read_bytes())
    assert "frames.png cannot be read: 'captions'." in built(own_run).text
    (own_run / "frames.png").unlink()
    page = built(own_run)
    assert not [each for each in page.all("figure") if each.get("class") == "player"]
    assert "Incomplete" not in page.text


def test_points_and_signals_have_no_strips_to_miss(own_run: Path) -> None:
    np.savez(own_run / "samples.npz", x=np.zeros((5, 2)), label=np.zeros(5), index=np.arange(5))
    for name in ("forward.png", "reverse.png", "frames.png"):
        (own_run / name).unlink()
    assert "Incomplete" not in built(own_run).text
    (own_run / "forward.png").write_bytes((own_run / "loss.png").read_bytes())
    assert [each["alt"][:10] for each in built(own_run).all("img")].count("Film strip") == 1, (
        "shown where it is"
    )


def test_every_pair_of_process_and_sampler_stands_with_its_reason(run: Path) -> None:
    page = built(run)
    cells = {cell["data-pair"]: cell for cell in page.all("button") if "data-pair" in cell}
    with using(Registry(tuple(info for info in current().infos if info.distribution == "diffkit"))):
        told = {f"{row['sampler']} with {row['sde']}": row for row in matrix()}
    assert {pair: cell["data-status"] for pair, cell in cells.items()} == {
        pair: row["status"] for pair, row in told.items()
    }
    refused = cells["exponential-integrator with ve"]
    assert refused["data-status"] == "refused"
    assert "drift" in refused["data-reason"]
    assert refused["data-reason"] in page.text, "without a script too"
    assert "chosen for this run" in cells["dpm-solver++ with vp"]["aria-label"]
    assert sum("chosen" in cell["class"].split() for cell in cells.values()) == 1


THEMES = re.compile(r"(?:^|\})\s*:root(\[data-theme=dark\])? \{([^}]*--paper[^}]*)\}", flags=re.M)
TEXT_ON = {
    "paper": ("ink", "soft", "accent", "good", "warn", "bad"),
    "card": ("ink", "soft", "accent", "good", "warn", "bad"),
    "wash": ("ink", "good"),
    "caveat-wash": ("warn",),
    "refused-wash": ("bad",),
}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, WCAG 2.2."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_both_palettes_have_the_contrast_that_text_and_bars_need(run: Path) -> None:
    html = built(run).html
    palettes = {
        mark or "light": dict(re.findall(r"--([\w-]+): (#\w{6})", body))
        for mark, body in THEMES.findall(html)
    }
    assert set(palettes) == {"light", "[data-theme=dark]"}
    for palette in palettes.values():
        pairs = [(ground, text, 4.5) for ground, texts in TEXT_ON.items() for text in texts]
        pairs += [("wash", bar, 2.0) for bar in ("accent", "good", "bar-noise")]
        for ground, mark, least in pairs:
            low, high = sorted((luminance(palette[ground]), luminance(palette[mark])))
            assert (high + 0.05) / (low + 0.05) >= least, (ground, mark)


def test_every_control_has_a_name_and_every_landmark_is_there(run: Path) -> None:
    page = built(run)
    for tag in ("header", "nav", "main"):
        assert len(page.all(tag)) == 1
    assert all(each.get("aria-label") for each in page.all("input"))
    assert all(each.get("aria-label") for each in page.elements_with("tabindex", "0"))
    assert all(each.get("alt") for each in page.all("img"))
    named = re.findall(r"<button\b([^>]*)>([^<]*)", page.html)
    unnamed = [
        attributes for attributes, text in named if "aria-label" not in attributes and not text.strip()
    ]
    assert len(unnamed) == 1, "the theme's, named by the script that shows it"
    assert "hidden" in unnamed[0]
    assert {each["scope"] for each in page.all("th")} <= {"col", "row"}


def test_without_a_script_nothing_but_its_controls_is_hidden(run: Path) -> None:
    hidden = [(tag, each.get("class")) for tag, each in built(run).elements if "hidden" in each]
    assert sorted(hidden) == [
        ("button", "plain copy"),
        ("button", "plain theme"),
        ("div", "why"),
        ("figure", "player"),
    ]
    assert all("open" in each for each in built(run).all("details"))


@pytest.mark.parametrize("value", [1e-308, 1e308, -1e308, 0.0, 5e-324])
def test_extreme_values_still_have_a_place(own_run: Path, value: float) -> None:
    page = with_metrics(
        own_run, odd=entry(value, abs(value), 1.0, 2.0), alone={"value": value, "error": 1e-300}
    )
    assert all(0 <= left <= right <= 100.02 for left, right in spans(page, "fill"))


def test_the_page_stays_below_five_megabytes_and_says_what_it_left_out(own_run: Path) -> None:
    signature = (own_run / "loss.png").read_bytes()[:24]
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        (own_run / name).write_bytes(signature + generator.bytes(2_500_000))
    page = built(own_run)
    assert len(page.html.encode()) < 5_000_000
    assert "b.png (2.5 MB) is too large to embed; it stands in the run folder." in page.text
    assert len(page.all("img")) == 8


def test_compatibility_without_a_note_is_said(own_run: Path) -> None:
    (own_run / "manifest.json").write_text(json.dumps(manifest() | {"compatibility": []}))
    assert "The chosen components fit together without a caveat." in built(own_run).text


def test_a_run_without_metrics_says_so(own_run: Path) -> None:
    assert "None was taken." in with_metrics(own_run).text


def test_the_schedule_is_read_from_the_process_or_the_top(own_run: Path) -> None:
    (own_run / "config.yaml").write_text(
        CONFIG.replace("{name: vp, schedule: {name: cosine}}", "vp\nschedule: linear")
    )
    assert "the vp process with the linear schedule" in built(own_run).text


def test_building_again_gives_the_same_page_and_leaves_nothing_behind(own_run: Path) -> None:
    before = {path.name for path in own_run.iterdir()}
    first, second = built(own_run), built(own_run)
    assert first.html == second.html
    assert {path.name for path in own_run.iterdir()} == before | {"report.html"}


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=re.escape(str(folder))):
            report.build(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
