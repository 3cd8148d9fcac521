"""`diffkit compare`: what is set side by side, and what is refused."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import synthetic_run
from PIL import Image

FIGURE: dict[str, Any] = {
    "value": 12.5,
    "error": 0.5,
    "count": 1000,
    "details": {
        "features": "classifier:aa",
        "reference": "digits:train:ff:1297",
        "metric": "fid",
        "floor": {"value": 4.0, "error": 0.2, "count": 1000},
    },
}


def run_folder(home: Path, name: str, **figures: Any) -> Path:
    folder = home / name
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(figures))
    (folder / "config.yaml").write_text(synthetic_run.CONFIG)
    return folder


def figure(value: float = 12.5, count: int = 1000, **details: Any) -> dict[str, Any]:
    changed = copy.deepcopy(FIGURE) | {"value": value, "count": count}
    changed["details"] |= details
    return changed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def compare(diffkit_: Any) -> Any:
    return lambda *arguments: diffkit_("compare", *map(str, arguments))


def test_a_table_of_equal_measures_and_bars(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(12.5), kid=figure(0.25))
    b = run_folder(home, "b", fid=figure(7.125), kid=figure(0.5))
    status, out, err = compare(a, b, "--quiet")
    assert (status, err) == (0, "")
    header, first, second, *_ = (line.split("  ") for line in out.splitlines())
    assert [word.strip() for word in header if word] == ["run", "fid", "kid"]
    assert [word.strip() for word in first if word] == ["a", "12.5 +- 0.5", "0.25 +- 0.5"]
    assert [word.strip() for word in second if word] == ["b", "7.125 +- 0.5", "0.5 +- 0.5"]
    (plot,) = home.glob("comparison-*.png")
    assert str(plot) in out
    with Image.open(plot) as image:
        assert len(image.convert("RGB").getcolors(10_000_000) or ()) > 5


def test_settings_that_differ_are_columns(compare: Any, home: Path) -> None:
    a, b = (run_folder(home, name, fid=figure()) for name in "ab")
    config = (b / "config.yaml").read_text()
    changed = config.replace("steps: 20,", "steps: 10,").replace("name: dpm-solver++", "name: ddim")
    (b / "config.yaml").write_text(changed)
    _, out, _ = compare(a, b)
    lines = out.splitlines()
    assert lines[0].split() == ["run", "sampling.sampler", "sampling.steps", "fid"]
    assert lines[1].split()[:3] == ["a", "dpm-solver++", "20"]
    assert lines[2].split()[:3] == ["b", "ddim", "10"]


@pytest.mark.parametrize(
    "other,said",
    [
        (
            figure(features="inception:bb"),
            "the feature extractor differs (a: classifier:aa, b: inception:bb)",
        ),
        (figure(reference="digits:train:00:1297"), "the reference differs"),
        (figure(dataset="mnist:train:00:60000"), "the data set differs (a: null, b: mnist:train:00:60000)"),
        (figure(count=500), "the number of samples differs (a: 1000, b: 500)"),
        (figure(metric={"name": "fid", "cap": 5}), "the settings differ ("),
    ],
    ids=["extractor", "reference", "data", "count", "settings"],
)
def test_a_metric_that_means_something_else_is_refused_and_the_rest_shown(
    compare: Any, home: Path, other: dict[str, Any], said: str
) -> None:
    a = run_folder(home, "a", fid=figure(), kid=figure(0.25))
    b = run_folder(home, "b", fid=other, kid=figure(0.5))
    status, out, _ = compare(a, b)
    assert status == 0
    assert "fid" not in out.splitlines()[0]
    assert f"Left out: fid: {said}" in out
    status, out, err = compare(a, b, "--metric", "fid")
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert compare(a, b, "--metric", "fid", "--metric", "kid")[0] == 2
    assert compare(a, b, "--metric", "kid")[0] == 0


def test_nothing_comparable_is_a_mistake(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(), kid=figure())
    b = run_folder(home, "b", fid=figure(count=2), kid=figure(count=2))
    status, out, err = compare(a, b)
    assert (status, out) == (2, "")
    assert "fid, kid: the number of samples differs (a: 1000, b: 2)" in err
    assert not list(home.glob("*.png"))


def test_a_figure_that_only_one_run_has_is_left_out(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(), kid=figure())
    b, c = (run_folder(home, name, fid=figure()) for name in "bc")
    _, out, _ = compare(a, b, c)
    assert "Left out: kid: only a has it." in out
    (b / "metrics.json").write_text(json.dumps({"fid": figure(), "kid": figure(0.1)}))
    _, out, _ = compare(a, b, c)
    assert out.splitlines()[3].split()[-1] == "-"


def test_as_json_the_refused_have_no_values(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(12.5), kid=figure(0.25))
    b = run_folder(home, "b", fid=figure(7.0), kid=figure(0.5, count=10))
    plot = home / "mine.png"
    _, out, _ = compare(a, b, "--json", "--plot", plot)
    record = json.loads(out)
    kept = {"value": 12.5, "error": 0.5, "count": 1000}
    assert record["metrics"]["fid"]["comparable"] is True
    assert record["metrics"]["fid"]["values"] == {"a": kept, "b": {**kept, "value": 7.0}}
    assert set(record["metrics"]["kid"]) == {"comparable", "reason"}
    assert record["plot"] == str(plot)
    assert plot.is_file()


def test_a_page_has_figures_settings_and_samples_side_by_side(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(12.5), kid=figure(0.25))
    b = run_folder(home, "b", fid=figure(7.0), kid=figure(0.5, count=10))
    (b / "config.yaml").write_text((b / "config.yaml").read_text().replace("steps: 20,", "steps: 10,"))
    for run, level in ((a, 30), (b, 200)):
        Image.new("L", (40, 40), level).save(run / "samples.png")
    status, out, err = compare(a, b, "--html", home / "page.html")
    assert (status, err) == (0, "")
    assert f"page: {home / 'page.html'}" in out
    html = (home / "page.html").read_text(encoding="utf-8")
    row = r'<th scope="row">{}</th>\s*<td class="number">([^<]*)</td>\s*</tr>'
    assert [re.findall(row.format(run), html) for run in "ab"] == [["12.50 ± 0.50"], ["7.00 ± 0.50"]]
    assert "kid is left out: the number of samples differs (a: 1000, b: 10)." in html
    assert re.search(r'<th scope="row">sampling.steps</th><td>20</td><td>10</td>', html)
    embedded = re.findall(r'src="data:image/png;base64,([^"]*)" alt="([^"]*)"', html)
    assert [alt for _, alt in embedded] == ["Samples of a.", "Samples of b."]
    assert [base64.b64decode(data) for data, _ in embedded] == [
        (run / "samples.png").read_bytes() for run in (a, b)
    ]
    widths = [float(width) for width in re.findall(r'class="fill" style="left: 0%; width: ([^%]*)%', html)]
    assert widths == pytest.approx([62.5, 35.0, 20.0]), (
        "the axis runs to 20; the third is the floor they share"
    )


def test_the_page_keeps_silent_on_what_may_not_be_compared(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(count=5))
    b = run_folder(home, "b", fid=figure())
    assert compare(a, b, "--html", home / "page.html")[0] == 2
    assert not (home / "page.html").exists()
    c = run_folder(home, "c", fid=figure())
    status, out, _ = compare(b, c, "--html", home / "page.html", "--json")
    assert (status, json.loads(out)["html"]) == (0, str(home / "page.html"))
    assert "samples.png is not in the run folder." in (home / "page.html").read_text(encoding="utf-8")
    assert "is a folder" in compare(b, c, "--html", home)[2]


def test_runs_of_one_name_are_told_apart(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure(1.0))
    (home / "other").mkdir()
    b = run_folder(home / "other", "a", fid=figure(2.0))
    _, out, _ = compare(a, b / "metrics.json")
    assert [line.split()[0] for line in out.splitlines()[1:3]] == [str(a), str(b)]


def test_what_is_no_run_is_a_mistake(compare: Any, home: Path) -> None:
    a = run_folder(home, "a", fid=figure())
    assert compare(a)[0] == compare(a, a)[0] == 2
    status, _, err = compare(a, home / "nowhere")
    assert status == 2
    assert "diffkit evaluate" in err
    b = run_folder(home, "b", fid={"value": "much"})
    assert "does not hold figures" in compare(a, b)[2]
    (b / "metrics.json").write_text("[1]")
    assert compare(a, b)[0] == 2
    c = run_folder(home, "c", fid=figure())
    status, _, err = compare(a, c, "--metric", "fidd")
    assert status == 2
    assert "'fidd'" in err
    assert "no folder" in compare(a, c, "--plot", home / "no" / "x.png")[2]


def test_help_tells_it_without_importing_it(diffkit_: Any) -> None:
    said = " ".join(diffkit_("--help")[1].split())
    assert "compare Set the figures of several runs side by side." in said
