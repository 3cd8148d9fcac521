"""The benchmarks run, on little work, without other libraries."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch import Tensor

from diffkit.compatibility import matrix
from diffkit.experiment import Experiment

HOME = Path(__file__).parents[1] / "examples" / "benchmarks"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(HOME / script), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return done.stdout


def test_work_precision_writes_a_table_a_plot_and_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    given = [
        "--problem",
        "mixture-1d",
        "--calls",
        "6",
        "--samples",
        "16",
        "--trials",
        "20",
        "--out",
        str(out),
    ]
    said = run("work_precision.py", *given)
    assert "mixture-1d" in said
    assert out.with_suffix(".png").stat().st_size > 1000
    results = json.loads(out.with_suffix(".json").read_text())["results"]
    errors = {(r["solver"], r["grid"]): r["error"] for r in results if r["owner"] == "diffkit"}
    assert errors["adams velocity 3", "noise-share"] < 0.5 * errors["ddim", "uniform"]


def test_the_loop_costs_little_and_memory_is_flat() -> None:
    said = run("sampler_overhead.py", "--batch", "8", "--steps", "5", "--rounds", "1")
    few, many = (
        int(word.replace(",", "")) for word in said.split() if word.replace(",", "").isdigit() and "," in word
    )
    assert many < 1.05 * few


def test_three_hundred_more_components_are_listed_in_less_than_twice_the_time() -> None:
    said = run("listing.py", "--rounds", "7").splitlines()
    own, crowded = (int(line.split(":")[1].split()[0]) for line in said[:2])
    assert crowded == own + 300
    assert float(said[2].split()[-1]) < 2.0


@pytest.mark.prove  # half of it is the training of the features
def test_guidance_measures_accuracy_and_fid_at_every_scale(tmp_path: Path) -> None:
    training = {"steps": 3, "batch_size": 8, "labels": True, "precision": "fp32"}
    config = {
        "name": "tiny",
        "dataset": "digits",
        "network": {"name": "mlp", "width": 16},
        "training": training,
    }
    experiment = Experiment.from_dict(config, runs=tmp_path / "runs", quiet=True)
    experiment.train()
    out = tmp_path / "figures" / "guidance"
    given = [
        "--scale",
        "0",
        "--scale",
        "2",
        "--count",
        "40",
        "--steps",
        "2",
        "--cache",
        str(tmp_path / "cache"),
    ]
    said = run("guidance.py", str(experiment.model_folder), *given, "--out", str(out))
    record = json.loads(out.with_suffix(".json").read_text())
    assert [row["scale"] for row in record["rows"]] == [0.0, 2.0]
    assert record["best"] == max(
        (row for row in record["rows"] if row["fid"] <= 1.2 * min(r["fid"] for r in record["rows"])),
        key=lambda row: row["accuracy"],
    )
    assert record["held_out"]["class-accuracy"]["value"] > 0.9
    assert all(row["fid"] > 10.0 * record["held_out"]["fid"]["value"] for row in record["rows"])
    assert said.count("|\n") == 5
    assert out.with_suffix(".png").stat().st_size > 1000


def test_training_is_held_against_the_clock(tmp_path: Path) -> None:
    out = tmp_path / "training"
    config = str(HOME.parent / "configs" / "digits.yaml")
    given = ["--config", config, "--minutes", "0.1", "--sides", "diffkit", "--count", "40", "--steps", "5"]
    given += ["--looks", "1", "--look-count", "20"]
    run("training.py", *given, "--cache", str(tmp_path / "cache"), "--out", str(out))
    figures = json.loads(out.with_suffix(".json").read_text())["diffkit"]
    assert len(figures["looks"]) <= 1  # none, where the short trial overrated the time of a step
    assert out.with_name("training-minutes.png").stat().st_size > 1000
    assert 0 < figures["CPU minutes"] < 0.15
    assert figures["steps"] > 1
    assert figures["fid"] > 0.0
    assert out.with_suffix(".png").stat().st_size > 1000


def test_sides_that_train_in_turns_are_looked_at_when_their_share_is_spent() -> None:
    module = runpy.run_path(str(HOME / "training.py"))

    class Busy(module["Side"]):  # type: ignore[misc]  # of a file run by its path, where no type is known
        name, batch_size = "busy", 1

        def steps(self) -> Iterator[float]:
            while True:
                until = time.process_time() + 0.01
                while time.process_time() < until:
                    pass
                yield 0.0

        def sample(self, label: Tensor, steps: int) -> Tensor:
            raise AssertionError("nobody asked for samples")

    sides = [Busy(), Busy()]
    module["train_in_turns"](sides, 0.8, 3, lambda side: side.looks.append({"at": side.seconds}))
    for side in sides:
        assert len(side.looks) == 3
        for look, due in zip(side.looks, (0.2, 0.4, 0.6), strict=True):
            assert due <= look["at"] < due + 0.15
        assert 0.8 <= side.seconds < 0.95
        assert side.done >= 50


def test_posterior_tells_the_exact_methods_from_the_approximate_ones(tmp_path: Path) -> None:
    out = tmp_path / "posterior"
    given = ["--cases", "gaussian,mixture", "--samples", "500", "--steps", "60", "--particles", "16"]
    run("posterior.py", *given, "--out", str(out))
    found = json.loads(out.with_suffix(".json").read_text())
    gaussian, mixture, asked = found["gaussian"], found["mixture"], found["class"]
    # Five standard errors of a mean over 500 samples are 0.22 of its deviation.
    assert gaussian["mmps, 20 iterations"]["mean"] < 0.1
    assert gaussian["particle, 16"]["mean"] < 0.1
    assert min(gaussian[name]["mean"] for name in ("replacement", "dps", "pigdm")) > 0.12
    assert mixture["particle, 16"]["weights"] < 0.08
    assert min(mixture[name]["weights"] for name in ("replacement", "repaint", "dps", "pigdm")) > 0.15
    assert asked["class-guidance, scale 1"]["mean"] < 0.1
    assert asked["classifier-guidance, scale 1"]["mean"] < 0.1
    assert asked["class-guidance, scale 2"]["covariance"] > asked["class-guidance, scale 1"]["covariance"]


def test_the_frechet_distance_is_that_of_the_matrix_square_root() -> None:
    said = run("frechet.py", "--features", "60", "--examples", "200", "--rounds", "1")
    assert "ratio of times" in said
    assert float(said.split()[-1]) < 1e-8


def test_combinations_are_measured_once_and_what_is_missing_is_done(tmp_path: Path) -> None:
    main, out = runpy.run_path(str(HOME / "combinations.py"))["main"], tmp_path / "out" / "combinations"
    changes = ["training.steps=2", "network={name: mlp, width: 8}", "training.precision=fp32"]
    size = [word for change in (*changes, "training.batch_size=8") for word in ("--set", change)]
    size += ["--count", "40", "--steps", "2", "--features", "pixels"]
    size += ["--runs", str(tmp_path / "runs"), "--out", str(out), "--device", "cpu"]

    def told(*only: str) -> str:
        done = CliRunner().invoke(main, [*size, *(word for name in only for word in ("--only", name))])
        assert done.exit_code == 0, done.output
        return done.stdout

    first = told("ve", "euler-maruyama")
    record = json.loads(out.with_suffix(".json").read_text())
    ((key, cell),) = record["cells"].items()
    assert [cell[word] for word in ("sde", "schedule", "sampler")] == ["ve", "geometric", "euler-maruyama"]
    assert cell["calls"] == 4  # two steps, guided
    assert min(cell["training"], cell["sampling"]) > 0.0
    assert record["real"]["floor"]["value"] < cell["fid"]
    cell["fid"] = 12345.0  # what was measured stays
    out.with_suffix(".json").write_text(json.dumps(record))
    both = told("ve")
    cells = json.loads(out.with_suffix(".json").read_text())["cells"]
    assert cells[key] == cell
    samplers = ["euler-maruyama", "predictor-corrector", "probability-flow"]
    assert sorted(each["sampler"] for each in cells.values()) == samplers
    assert len({each["training"] for each in cells.values()}) == 1  # one model serves all
    assert (first.count("geometric"), both.count("geometric"), both.count("12345")) == (1, 3, 1)
    assert out.with_suffix(".png").stat().st_size > 1000


def test_the_combinations_are_nineteen_and_all_that_is_allowed() -> None:
    combinations = runpy.run_path(str(HOME / "combinations.py"))
    nineteen, every = combinations["NINETEEN"], list(combinations["allowed"]())
    assert len(nineteen) == len(set(nineteen)) == 19
    assert set(nineteen) <= set(every)
    assert len(every) == len(set(every)) > 200
    records = [*matrix("sde", "sampler"), *matrix("sde", "schedule")]
    refused = {tuple(record.values())[:2] for record in records if record["status"] == "refused"}
    assert not [each for each in every if {(each[0], each[2]), (each[0], each[1])} & refused]
    assert ("ve", "geometric", "exponential-integrator") not in every
    assert {each[1] for each in every if each[0] == "flow"} == {None}


def test_a_training_in_several_goes_lasted_as_long_as_all_of_them(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    seconds = [1.0, 2.0, 0.5, 0.9]  # each go counts from its own beginning
    log.write_text("".join(f'{{"step": {n}, "seconds": {s}}}\n' for n, s in enumerate(seconds)))
    assert runpy.run_path(str(HOME / "combinations.py"))["trained_for"](log) == pytest.approx(2.9)
