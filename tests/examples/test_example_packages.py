"""The example packages, built and installed for real: components of one's own, hooks, and a command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from temporary_environment import Environment

import diffkit
from diffkit.config import ExperimentConfig, selection_of
from diffkit.interfaces.schedule import Schedule
from diffkit.selection import Selection
from diffkit.testing.exact import GaussianProblem
from diffkit.testing.order import measure_weak_order

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
OWN, HOOKS = EXAMPLES / "own_plugin", EXAMPLES / "hooks"
TINY = ("network.channels=8", "training.steps=120", "training.batch_size=4", "sampling.count=4")
SHORT = ("sampling.steps=11", "evaluation.metrics=[]")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment.at(tmp_path_factory.mktemp("examples"))
    made.install(OWN, HOOKS)
    return made


@pytest.fixture(scope="module")
def run(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The configuration of the example, made small, run with everything installed."""
    place = tmp_path_factory.mktemp("run")
    overrides = [word for override in (*TINY, *SHORT) for word in ("--set", override)]
    done = environment.diffkit("run", str(OWN / "config.yaml"), *overrides, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return {"place": place, **json.loads(done.stdout)}


def part(name: str, **fields: Any) -> Any:
    """A component of the example, without installing it."""
    module = __import__(f"diffkit_own_plugin.{name}", fromlist=["*"])
    (cls,) = [each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__
              and isinstance(each, type)]  # fmt: skip
    return cls(**fields)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(OWN)


def test_the_own_plugin_stays_under_150_lines() -> None:
    assert sum(len(path.read_text().splitlines()) for path in OWN.rglob("*.py")) < 150


def test_its_own_tests_hold_it_against_the_laws(environment: Environment, tmp_path: Path) -> None:
    done = environment.python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(OWN), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


class TestTheComponentsAreWhatTheyClaim:
    def test_laplace_spreads_the_log_snr_by_laplaces_law(self) -> None:
        schedule: Schedule = part("laplace", b=0.7)
        t = torch.linspace(schedule.t_min, schedule.t_max, 4001, dtype=torch.float64)
        log_snr = diffkit.create("sde", "vp", schedule=schedule).log_snr(t)
        # Uniform times have the law whose cumulative distribution 1 - F(lambda) is t itself.
        beyond = 0.5 * torch.exp(-log_snr.abs() / 0.7)
        assert torch.allclose(t, torch.where(log_snr > 0.0, beyond, 1.0 - beyond), atol=1e-9)

    def test_er_sde_is_of_weak_order_two(self) -> None:
        found = measure_weak_order(part("er_sde"), diffkit.create("sde", "sub-vp"))
        assert found.order == pytest.approx(2.0, abs=0.15)

    def test_er_sde_keeps_the_law_of_a_point(self) -> None:
        """The noise put back is exactly what contraction by r has taken."""
        sde = diffkit.create("sde", "ve")
        result = diffkit.sample(
            lambda x, t: torch.full_like(x, 0.3),
            sde=sde,
            sampler=part("er_sde"),
            steps=6,
            stop=0.4,
            shape=(20000, 1),
            dtype=torch.float64,
            batch_size=20000,
        )
        sigma = float(sde.sigma(torch.tensor(0.4, dtype=torch.float64)))
        assert float(result.x.mean()) == pytest.approx(0.3, abs=4 * sigma / 20000**0.5)
        assert float(result.x.std()) == pytest.approx(sigma, rel=0.02)

    @pytest.mark.parametrize("rounds,upwards", [(0, 0), (1, 1), (3, 3)])
    def test_restart_goes_up_as_often_as_it_says(self, rounds: int, upwards: int) -> None:
        times = (*torch.linspace(1.0, 0.0, 11, dtype=torch.float64), None)
        moves = part("restart", low=0.15, high=0.45, rounds=rounds).plan(times)
        assert [move for move in moves if move[1] < move[0]] == upwards * [(8, 6)]
        assert len(moves) == 11 + 3 * upwards

    def test_restart_leaves_the_law_of_an_exact_model_alone(self) -> None:
        sde = diffkit.create("sde", "vp")
        problem = GaussianProblem(mean=[0.4, -0.2], covariance=[[0.09, 0.03], [0.03, 0.04]])
        result = diffkit.sample(
            problem.model(sde),
            sampler="probability-flow",
            steps=80,
            shape=(4000, 2),
            conditioners=[part("restart", rounds=2)],
            dtype=torch.float64,
            batch_size=4000,
        )
        assert torch.allclose(result.x.mean(0), torch.tensor([0.4, -0.2], dtype=torch.float64), atol=0.02)
        expected = torch.tensor([[0.09, 0.03], [0.03, 0.04]], dtype=torch.float64)
        assert torch.allclose(result.x.T.cov(), expected, atol=0.008)


class TestARun:
    def test_it_uses_and_records_what_is_installed(self, run: dict[str, Any]) -> None:
        manifest = json.loads((run["place"] / run["run"] / "manifest.json").read_text())
        own = {p["name"] for p in manifest["components"] if p["distribution"] == "diffkit-own-plugin"}
        assert own == {"laplace", "er-sde", "restart"}

    def test_training_was_watched(self, run: dict[str, Any]) -> None:
        with (run["place"] / run["run"] / "gradients.csv").open() as file:
            rows = list(csv.reader(file))
        log = (run["place"] / run["model"] / "log.jsonl").read_text().splitlines()
        norms = {line["step"]: line["gradient_norm"] for line in map(json.loads, log)}
        assert [(int(step), float(norm)) for step, norm in rows] == [
            (step, pytest.approx(norms[step], rel=1e-4)) for step in (100, 120)
        ]

    def test_every_step_was_drawn(self, run: dict[str, Any]) -> None:
        frames = sorted((run["place"] / run["run"] / "frames").glob("*.png"))
        assert [frame.stem for frame in frames] == [f"{number:03d}" for number in range(len(frames))]
        assert len(frames) > 12  # a start, eleven moves, and those of the restart
        # Towards the end the samples hardly move, and two pictures of them may be the same to the last pixel.
        assert len({frame.read_bytes() for frame in frames}) > 10

    def test_its_end_was_noted_and_the_command_shows_it(
        self, run: dict[str, Any], environment: Environment
    ) -> None:
        done = environment.diffkit("history", cwd=run["place"])
        assert done.stdout == f"{Path(run['run']).name}  seed 0  no figures\n"

    def test_the_command_is_in_the_help_and_its_mistakes_are_told(
        self, environment: Environment, tmp_path: Path
    ) -> None:
        assert "from diffkit-example-hooks" in environment.diffkit("--help").stdout
        done = environment.diffkit("history", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is not there" in done.stderr

    def test_a_combination_is_vetoed_with_the_reason(self, environment: Environment, tmp_path: Path) -> None:
        few = ("--set", "sampling.steps=5", "--dry-run")
        refused = environment.diffkit("run", str(OWN / "config.yaml"), *few, cwd=tmp_path)
        assert refused.returncode == 2
        assert "5 steps are too few for a sampler that draws noise" in refused.stderr

    @pytest.mark.parametrize("sampler,steps,vetoed", [("ddim", 5, False), ("er", 9, True), ("er", 10, False)])
    def test_only_what_it_is_about(
        self, sampler: str, steps: int, vetoed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(HOOKS)
        veto = __import__("diffkit_example_hooks.veto", fromlist=["*"])
        method = part("er_sde") if sampler == "er" else sampler
        settings = {"name": "x", "dataset": "digits", "sampling": {"sampler": method, "steps": steps}}
        selection = selection_of(ExperimentConfig.from_mapping(settings))
        assert (veto.diffkit_incompatibility(selection) is not None) == vetoed
        alone = Selection.of(diffkit.create("sampler", method), steps=steps)
        assert veto.diffkit_incompatibility(alone) is None
