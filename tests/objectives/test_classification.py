"""Classifiers of noised data: trained, saved, loaded, and put to guide."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import Bars
from torch import Tensor, nn

import diffkit
from diffkit import training
from diffkit.batch import Batch
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.experiment import Experiment
from diffkit.interfaces.network import Level
from diffkit.noise import Noise
from diffkit.testing.exact import KernelDensityProblem, MixtureProblem, PointMass
from diffkit_standard.conditioners.classifier_guidance import ClassifierGuidance
from diffkit_standard.networks.classifier import Classifier
from diffkit_standard.networks.mlp import MLP
from diffkit_standard.objectives.classification import Classification
from diffkit_standard.schedules.cosine import Cosine
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

SDE = VP(schedule=Cosine())


class Fixed(nn.Module):
    """Outputs the same for every example, and keeps the last input."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits, dtype=torch.float64)
        self.seen: tuple[Tensor, Level, Tensor | None] | None = None

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        self.seen = (x, level, label)
        return self.logits.expand(len(x), -1)


def batch(label: list[int]) -> tuple[Batch, Noise]:
    noise = Noise(seed=0, index=torch.arange(len(label)))
    x = 0.5 * noise.normal((len(label), 3), dtype=torch.float64)
    return Batch(x=x, index=noise.index, label=torch.tensor(label)), noise


def test_the_loss_is_the_cross_entropy_of_the_labels() -> None:
    odds = [0.2, 0.5, 0.3]
    given, noise = batch([0, 1, 2, 1, -1])
    objective = Classification(sigma_data=0.5)
    loss, state, logs = objective.loss(Fixed([math.log(p) for p in odds]), SDE, given, noise, None)
    expected = [-math.log(odds[0]), -math.log(odds[1]), -math.log(odds[2]), -math.log(odds[1]), 0.0]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))
    assert state is None
    assert logs == {"accuracy": 0.5}  # class 1 is guessed always: two of the four that have a label


@pytest.mark.parametrize("sde", [SDE, VE()])
def test_the_network_sees_noised_data_of_unit_variance_and_no_label(sde: Any) -> None:
    module, count = Fixed([0.0, 0.0]), 4000
    given, noise = batch([0, 1] * (count // 2))
    Classification(sigma_data=0.5).loss(module, sde, given, noise, None)
    assert module.seen is not None
    x, level, label = module.seen
    assert label is None
    assert level.alpha is not None
    assert level.sigma is not None
    for part in level.t.argsort().tensor_split(8):
        assert float(x[part].std()) == pytest.approx(1.0, abs=0.08)
    shrunk = x * ((0.5 * level.alpha) ** 2 + level.sigma**2).sqrt()[:, None]
    eps = (shrunk - level.alpha[:, None] * given.x) / level.sigma[:, None]
    assert float(eps.std()) == pytest.approx(1.0, abs=0.05)
    assert abs(float((eps * given.x).mean())) < 0.03
    assert float(level.t.min()) < sde.t_min + 0.01
    assert float(level.t.max()) > sde.t_max - 0.01


def test_examples_without_labels_are_refused() -> None:
    given, noise = batch([0, 1])
    with pytest.raises(ConfigError, match="without labels"):
        Classification(sigma_data=0.5).loss(
            Fixed([0.0, 0.0]), SDE, Batch(x=given.x, index=given.index), noise, None
        )


@pytest.mark.parametrize("network", [Classifier(channels=16), MLP(output="logits", width=16)])
def test_networks_know_the_noise_level(network: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network.build((1, 8, 8), 3)
        for weights in module.parameters():
            weights.data.add_(0.1 * torch.randn_like(weights))
        x = torch.randn(2, 1, 8, 8)
    outputs = []
    for t in (0.1, 0.11, 0.8):
        times = torch.full((2,), t)
        outputs.append(module(x, Level(t=times, alpha=SDE.alpha(times), sigma=SDE.sigma(times))))
    assert outputs[0].shape == (2, 3)
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 9), (2, 16, 16)])
def test_images_of_any_size_and_channel_count_are_taken(shape: tuple[int, ...]) -> None:
    times = torch.tensor([0.2, 0.9])
    module = Classifier(channels=8).build(shape, 4)
    level = Level(t=times, alpha=SDE.alpha(times), sigma=SDE.sigma(times))
    assert module(torch.zeros(2, *shape), level).shape == (2, 4)


@pytest.mark.parametrize(
    "network, shape, classes, message",
    [
        (Classifier(), (2,), 3, "mlp with output: logits"),
        (Classifier(), (1, 8, 8), None, "training.labels: true"),
        (Classifier(channels=12), (1, 8, 8), 3, "network.groups is 8, and network.channels is 12"),
        (MLP(output="logits"), (2,), None, "training.labels: true"),
    ],
)
def test_what_a_network_cannot_take(network: Any, shape: Any, classes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network.build(shape, classes)


def test_a_dense_classifier_learns_the_posterior_of_a_mixture() -> None:
    """Trained on samples, log p(y | x_t) is near the exact one at every noise level."""
    problem = MixtureProblem(weights=[0.5, 0.5], means=[[-1.0, 0.0], [1.0, 0.5]], variances=[0.3, 0.3])
    count = 4000
    noise = Noise(seed=0, index=torch.arange(count))
    label = noise.index % 2
    z = noise.normal((count, 2), dtype=torch.float64)
    x = problem.means[label] + problem.variances[label].sqrt()[:, None] * z
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MLP(output="logits", width=32, blocks=1).build((2,), 2).double()
    objective = Classification(sigma_data=1.0)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for step in range(400):
        rows = (torch.arange(256) + 256 * step) % count
        drawn = Noise(seed=1, index=torch.arange(256), path=(step,))
        part = Batch(x=x[rows], index=rows, label=label[rows])
        loss, _, _ = objective.loss(module, SDE, part, drawn, None)
        optimizer.zero_grad()
        torch.autograd.backward(loss.mean())
        optimizer.step()
    model = objective.model(module.eval(), SDE)
    for share in (0.05, 0.3, 0.6, 0.95):
        t = torch.tensor(share * SDE.t_max, dtype=torch.float64)
        x_t = problem.draw_at(SDE, t, Noise(seed=3, index=torch.arange(400)))
        parts = [
            MixtureProblem(weights=[1.0], means=problem.means[k : k + 1], variances=[0.3]) for k in range(2)
        ]
        exact = torch.softmax(torch.stack([part.log_density(SDE, x_t, t) for part in parts], 1), 1)
        with torch.no_grad():
            found = torch.softmax(model.logits(x_t, t), dim=1)
        assert float((found - exact).abs().mean()) < 0.05


def config(**changes: Any) -> dict[str, Any]:
    return {
        "name": "bars",
        "dataset": Bars(count=64),
        "network": {"name": "classifier", "channels": 16},
        "sde": SDE,
        "objective": "classification",
        "training": {
            "steps": 60,
            "batch_size": 32,
            "warmup": 5,
            "labels": True,
            "label_dropout": 0.0,
            "precision": "fp32",
            "ema": 0.9,
            "learning_rate": 2e-3,
        },
        **changes,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    home = tmp_path_factory.mktemp("classifier")
    experiment = Experiment.from_dict(config(), runs=home / "runs", quiet=True)
    experiment.train()
    return experiment, experiment.save(home / "saved")


def test_a_trained_classifier_knows_clean_data_and_guesses_at_noise(trained: tuple[Experiment, Path]) -> None:
    model = diffkit.load(trained[1], device="cpu")
    assert model.offers == {"logits"}
    assert model.classes == 2
    assert {"model.logits", "model.labels"} <= model.capabilities
    data = Bars(count=64).load("test")
    assert data.label is not None
    x = Bars().encode(data.raw)

    def accuracy(t: float) -> float:
        time = torch.tensor(t, dtype=torch.float64)
        noise = Noise(seed=5, index=torch.arange(len(x))).normal_like(x)
        return float(
            (model.logits(SDE.perturb(x, time, noise), time).argmax(1) == data.label).double().mean()
        )

    assert accuracy(SDE.t_min) > 0.95
    assert accuracy(SDE.t_max) < 0.8
    log = (trained[0].model_folder / "log.jsonl").read_text()
    assert '"accuracy"' in log


def test_a_saved_classifier_guides_by_its_path(trained: tuple[Experiment, Path]) -> None:
    """Bars are bright columns (class 0) or rows (class 1): the exact kernel density is led to either."""
    data = Bars(count=64).load("train")
    model = KernelDensityProblem(points=Bars().encode(data.raw), width=0.1).model(SDE)
    bend = {"name": "classifier-guidance", "classifier": str(trained[1]), "label": "each", "scale": 2.0}
    result = diffkit.sample(
        model, sampler="ddim", steps=25, shape=(40, 1, 8, 8), conditioners=[bend], dtype=torch.float32
    )
    bright = result.x[:, 0]
    rows, columns = bright.mean(2).amax(1), bright.mean(1).amax(1)
    assert result.label.tolist() == [0, 1] * 20
    assert float(((rows > columns).long() == result.label).double().mean()) >= 0.95
    plain = diffkit.sample(model, sampler="ddim", steps=25, shape=(40, 1, 8, 8), dtype=torch.float32)
    untouched = diffkit.sample(
        model,
        sampler="ddim",
        steps=25,
        shape=(40, 1, 8, 8),
        conditioners=[{**bend, "scale": 0.0}],
        dtype=torch.float32,
    )
    assert torch.equal(plain.x, untouched.x)


def test_a_saved_classifier_that_does_not_fit_is_refused(trained: tuple[Experiment, Path]) -> None:
    bend = ClassifierGuidance(classifier=trained[1], label=1)
    shape = PointMass(x_0=torch.zeros(1, 4, 4)).model(SDE)
    with pytest.raises(IncompatibleError, match=r"shape \(1, 8, 8\), and these are \(1, 4, 4\)"):
        diffkit.sample(shape, sampler="ddim", steps=3, shape=(2, 1, 4, 4), conditioners=[bend])
    schedule = PointMass(x_0=torch.zeros(1, 8, 8)).model(VP())
    with pytest.raises(
        IncompatibleError, match=r"trained on VP\(schedule=Cosine.*come by VP\(schedule=Linear"
    ):
        diffkit.sample(schedule, sampler="ddim", steps=3, shape=(2, 1, 8, 8), conditioners=[bend])
    guided = {
        "network": {"name": "mlp", "width": 8},
        "objective": "noise",
        "dataset": diffkit.create("dataset", "points"),
        "sampling": {
            "conditioners": [{"name": "classifier-guidance", "classifier": str(trained[1]), "label": 0}]
        },
        "training": {"steps": 1},
    }
    with pytest.raises(IncompatibleError, match=r"a shape, \(1, 8, 8\), that is not the model's, \(2,\)"):
        Experiment.from_dict(config(**guided), quiet=True)


def test_a_classifier_is_trained_and_not_run(trained: tuple[Experiment, Path], tmp_path: Path) -> None:
    said = "tells classes apart, and says nothing of where the data lie. Name it in the conditioner"
    fresh = Experiment.from_dict(config(), runs=tmp_path, quiet=True)
    for call in (fresh.run, fresh.dry_run, trained[0].sample):
        with pytest.raises(IncompatibleError, match=said):
            call()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IncompatibleError, match=said):
        Experiment.from_dict(config(evaluation={"track": {"every": 10}}), quiet=True)
    with pytest.raises(IncompatibleError, match=said):
        diffkit.sample(diffkit.load(trained[1], device="cpu"), shape=(2, 1, 8, 8))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"network": "unet"}, "one number a class"),
        ({"objective": "noise"}, "shape of the data"),
        ({"training": {"labels": False}, "network": {"name": "mlp", "output": "logits"}}, "labels: true"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((IncompatibleError, ConfigError), match=message):
        Experiment.from_dict(config(**changes), quiet=True)


def test_hidden_labels_are_a_caveat() -> None:
    whole = config()
    assert Experiment.from_dict(whole, quiet=True).findings == []
    hiding = {**whole, "training": {**whole["training"], "label_dropout": 0.2}}
    (finding,) = Experiment.from_dict(hiding, quiet=True).findings
    assert finding.status == "caveat"
    assert "label_dropout: 0" in finding.reason


def test_a_training_log_reports_how_many_are_classified_rightly(tmp_path: Path) -> None:
    job = training.TrainingJob(
        dataset=Bars(),
        network=Classifier(channels=8),
        sde=SDE,
        objective=Classification(),
        config=training.TrainingConfig(steps=2, batch_size=8, labels=True, precision="fp32"),
        seed=0,
        folder=tmp_path,
    )
    for step in training.train_steps(job):
        assert 0.0 <= step.logs["accuracy"] <= 1.0
