"""Figures beside their floor and noise, and reference statistics kept between runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file

from diffkit import measuring, registry
from diffkit.batch import Batch
from diffkit.evaluation import Evaluation, named
from diffkit.interfaces.dataset import Dataset, Examples, SplitName
from diffkit.interfaces.metric import Measurement, Metric
from diffkit.interfaces.sde import SDE
from diffkit.testing.exact import GaussianProblem
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.features.pixels import Pixels

METRICS = ("fid", "kid", "precision-recall", "nearest-training")
SDE_: SDE = registry.create("sde", "vp")
MODEL = GaussianProblem(mean=torch.zeros(64), covariance=torch.eye(64)).model(SDE_)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that passes were made over, in order."""
    made: list[str] = []
    original = measuring.real_batches

    def noted(dataset: Dataset, split: SplitName, **options: Any) -> Iterator[Batch]:
        made.append(f"{split} {options.get('source', 'reference')}")
        return original(dataset, split, **options)

    monkeypatch.setattr(measuring, "real_batches", noted)
    return made


def evaluation(cache: Path, *metrics: Any, said: list[str] | None = None, **fields: Any) -> Evaluation:
    settings: dict[str, Any] = {"dataset": Digits(), "features": Pixels(), "count": 60, "seed": 0, **fields}
    made = named([registry.create("metric", metric) for metric in metrics or METRICS])
    return Evaluation(metrics=made, cache=cache, say=[].append if said is None else said.append, **settings)


def samples(count: int = 60, labels: bool = False) -> Iterator[Batch]:
    digits = Digits()
    raw = digits.load("test").raw[:count].float() + 1.0
    label = torch.arange(count) % 10 if labels else None
    return measuring.sample_batches(digits, digits.encode(raw), label=label, batch_size=25)


def test_a_figure_stands_beside_its_floor_and_noise_and_says_what_it_is(tmp_path: Path) -> None:
    figures = evaluation(tmp_path).run(MODEL, samples())
    for name in ("fid", "kid", "precision-recall"):
        details = figures[name].details
        assert details["floor"]["count"] == details["noise"]["count"] == 60
        assert details["features"] == "pixels:1x8x8"
        assert details["reference"] == f"digits:train:{Digits().fingerprint()}:1297"
        assert details["dataset"] == details["reference"]
        assert json.loads(json.dumps(details["metric"])) == registry.describe(registry.create("metric", name))
    assert figures["fid"].details["floor"]["value"] < figures["fid"].value
    assert figures["fid"].value < figures["fid"].details["noise"]["value"]
    assert figures["precision-recall"].details["higher_is_better"] is True
    assert figures["fid"].details["higher_is_better"] is False
    digits = Digits()
    held_out = torch.cat([b.x for b in measuring.real_batches(digits, "test", count=60)]).flatten(1)
    training = digits.encode(digits.load("train").raw).flatten(1)
    nearest = torch.cdist(held_out.double(), training.double()).amin(1).mean() / 8.0
    assert figures["nearest-training"].details["floor"]["value"] == pytest.approx(float(nearest), rel=1e-6)
    assert "noise" not in figures["nearest-training"].details


def test_noise_has_no_class(tmp_path: Path) -> None:
    """A metric that needs labels has a floor, by the labels of held-out data, and no figure for noise."""
    evaluated = evaluation(
        tmp_path, "class-accuracy", features=registry.create("features", {"name": "classifier", "steps": 20})
    )
    details = evaluated.run(MODEL, samples(labels=True))["class-accuracy"].details
    assert details["floor"]["count"] == 60
    assert "noise" not in details


class TestReferenceStatistics:
    def test_they_are_found_again_and_that_is_said(self, tmp_path: Path, reads: list[str]) -> None:
        said: list[str] = []
        first = evaluation(tmp_path, said=said).score(MODEL, samples())
        assert said == []
        assert reads == ["train reference", "test held-out"]
        second = evaluation(tmp_path, "fid", "kid", "precision-recall", said=said).score(MODEL, samples())
        assert len(reads) == 2
        assert said == [f"reference statistics of fid, kid, precision-recall: found in {tmp_path}"]
        assert second == {name: first[name] for name in second}

    def test_one_evaluation_makes_them_once(self, tmp_path: Path, reads: list[str]) -> None:
        evaluated = evaluation(tmp_path, "fid", "nearest-training")
        evaluated.score(MODEL, samples())
        evaluated.score(MODEL, samples())
        evaluated.run(MODEL, samples())
        assert reads.count("train reference") == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"metrics": ({"name": "kid", "cap": 50},)},
            {"dataset": "flipped"},
            {"features": {"name": "classifier", "steps": 2}},
        ],
        ids=["settings", "data", "features"],
    )
    def test_what_they_depend_on_keeps_them_apart(
        self, tmp_path: Path, reads: list[str], change: dict[str, Any]
    ) -> None:
        evaluation(tmp_path, "kid").score(MODEL, samples())
        fields = dict(change)
        metrics = fields.pop("metrics", ("kid",))
        if "features" in fields:
            fields["features"] = registry.create("features", fields["features"])
        if "dataset" in fields:
            fields["dataset"] = Flipped()
        other = evaluation(tmp_path, *metrics, **fields).score(MODEL, samples())
        assert reads.count("train reference") == 2
        assert other["kid"] == evaluation(tmp_path / "new", *metrics, **fields).score(MODEL, samples())["kid"]

    @pytest.mark.parametrize("damage", ["cut", "flipped", "no state", "foreign"])
    def test_damaged_ones_are_made_again(
        self, tmp_path: Path, reads: list[str], caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        expected = evaluation(tmp_path, "fid").score(MODEL, samples())
        (file,) = tmp_path.rglob("reference.safetensors")
        data = bytearray(file.read_bytes())
        if damage == "cut":
            file.write_bytes(data[: len(data) // 2])
        elif damage == "flipped":
            data[-5] ^= 1
            file.write_bytes(data)
        elif damage == "no state":
            file.with_name("state.json").unlink()
        else:
            state = json.loads(file.with_name("state.json").read_text())
            file.with_name("state.json").write_text(json.dumps({**state, "model": "another"}))
        assert evaluation(tmp_path, "fid").score(MODEL, samples()) == expected
        assert "is damaged, and is made again" in caplog.text
        assert reads.count("train reference") == 2
        assert evaluation(tmp_path, "fid").score(MODEL, samples()) == expected
        assert reads.count("train reference") == 2

    def test_several_runs_may_make_them_at_once(self, tmp_path: Path) -> None:
        def work(_: int) -> float:
            return evaluation(tmp_path, "fid").score(MODEL, samples())["fid"].value

        with ThreadPoolExecutor(6) as pool:
            assert len(set(pool.map(work, range(12)))) == 1
        assert len(list(tmp_path.rglob("reference.safetensors"))) == 1

    def test_they_are_safe_files(self, tmp_path: Path) -> None:
        evaluation(tmp_path, "fid").score(MODEL, samples())
        kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size}
        assert kinds == {".safetensors", ".json"}
        (file,) = tmp_path.rglob("reference.safetensors")
        kept = load_file(file)
        training = Digits().encode(Digits().load("train").raw).flatten(1).double()
        assert int(kept["count"]) == 1297
        torch.testing.assert_close(kept["mean"], training.mean(0))
        torch.testing.assert_close(kept["m2"], 1296 * torch.cov(training.T))

    def test_a_metric_that_sees_the_model_is_not_kept(self, tmp_path: Path, reads: list[str]) -> None:
        found = []
        for scale in (1.0, 4.0):
            model = GaussianProblem(mean=torch.zeros(64), covariance=scale * torch.eye(64)).model(SDE_)
            evaluated = Evaluation(
                dataset=Digits(),
                metrics={"own": Own()},
                features=Pixels(),
                count=10,
                seed=0,
                cache=tmp_path,
            )
            found.append(evaluated.score(model, ())["own"].value)
        assert found[0] < 0.9 * found[1]
        assert reads.count("test held-out") == 2


@attrs.frozen(kw_only=True)
class Flipped(Dataset):
    """The digits upside down."""

    def spec(self) -> Any:
        return Digits().spec()

    def load(self, split: SplitName) -> Examples:
        examples = Digits().load(split)
        return attrs.evolve(examples, raw=examples.raw.flip(2))


@attrs.frozen(kw_only=True)
class Own(Metric):
    """A figure of the model's own: its denoiser of 1 at t = 0.5."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"model", "held-out"})

    def start(self, context: Any) -> Any:
        return context

    def update(self, state: Any, batch: Batch, noise: Any) -> Any:
        return state

    def merge(self, a: Any, b: Any) -> Any:
        return a

    def finish(self, state: Any) -> Measurement:
        denoised = state.model.denoise(torch.ones(1, 64), torch.tensor(0.5))
        return Measurement(value=float(denoised[0, 0]), error=None, count=1)
