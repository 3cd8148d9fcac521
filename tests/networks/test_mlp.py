"""The multilayer perceptron: its contract, and what it learns of small problems."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffkit.config import TrainingConfig
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit.registry import create
from diffkit.sampling import sample
from diffkit.training import Trainer, TrainingJob
from diffkit_standard.datasets.points import Points
from diffkit_standard.networks.mlp import MLP
from diffkit_standard.objectives.velocity import VelocityPrediction
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.vp import VP

SHAPES = ((2,), (1, 64), (3, 4, 5))


def level_of(count: int, sigma: float = 0.6) -> Level:
    ones = torch.ones(count, dtype=torch.float64)
    return Level(t=0.5 * ones, alpha=math.sqrt(1.0 - sigma**2) * ones, sigma=sigma * ones)


def built(shape: tuple[int, ...], classes: int | None = None, **fields: Any) -> nn.Module:
    """A module whose zero layers are filled, so that everything has a say."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = MLP(**fields).build(shape, classes)
        for weight in module.parameters():
            nn.init.normal_(weight, std=0.2)
    return module


def inputs(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.linspace(-2.0, 2.0, count * math.prod(shape)).sin().reshape(count, *shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_comes_back_and_starts_at_zero(shape: tuple[int, ...]) -> None:
    with torch.random.fork_rng(devices=[]):
        module = MLP(width=16, blocks=1).build(shape, classes=3)
    x = inputs(4, shape)
    output = module(x, level_of(4), torch.tensor([0, -1, 2, 1]))
    assert torch.equal(output, torch.zeros_like(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_output_hears_every_input_and_every_weight(shape: tuple[int, ...]) -> None:
    module = built(shape, classes=2, width=16, blocks=2)
    x = inputs(3, shape).requires_grad_(True)
    output = module(x, level_of(3), torch.tensor([0, 1, -1]))
    for element in output.flatten(1).sum(0)[:3]:
        (slope,) = torch.autograd.grad(element, x, retain_graph=True)
        assert (slope != 0).all()
    output.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in module.parameters())


def test_level_and_label_matter() -> None:
    module, x = built((2,), classes=3), inputs(5, (2,))
    quiet = module(x, level_of(5, 0.1), None)
    assert not torch.allclose(quiet, module(x, level_of(5, 0.9), None))
    assert torch.equal(quiet, module(x, level_of(5, 0.1), torch.full((5,), -1)))
    outputs = [module(x, level_of(5, 0.1), torch.full((5,), label)) for label in range(3)]
    for other in outputs[1:]:
        assert not torch.allclose(outputs[0], other)
    assert not torch.allclose(quiet, outputs[0])
    unlabelled = built((2,))
    assert torch.equal(
        unlabelled(x, level_of(5), torch.tensor([0, 1, 2, 0, 1])), unlabelled(x, level_of(5), None)
    )


def test_the_level_is_that_of_sigma_over_alpha() -> None:
    module, x = built((2,)), inputs(3, (2,))
    level = level_of(3)
    assert level.alpha is not None
    assert level.sigma is not None
    scaled = Level(t=0.1 * level.t, alpha=7.0 * level.alpha, sigma=7.0 * level.sigma)
    torch.testing.assert_close(module(x, scaled), module(x, level), rtol=1e-4, atol=1e-4)
    by_time = [module(x, Level(t=torch.full((3,), t))) for t in (0.2, 0.7)]
    assert not torch.allclose(*by_time)


def test_a_sample_does_not_know_its_company() -> None:
    module, x = built((1, 64), classes=2).double(), inputs(6, (1, 64)).double()
    label = torch.tensor([0, 1, -1, 0, 1, -1])
    whole = module(x, level_of(6), label)
    assert whole.dtype == torch.float64
    alone = torch.cat([module(x[i : i + 1], level_of(1), label[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=1e-12)


def test_it_is_as_small_as_it_says() -> None:
    count = sum(weight.numel() for weight in MLP().build((2,)).parameters())
    assert 0.15e6 < count < 0.25e6
    assert MLP().provides == {"network.image-output", "network.labels"}
    with pytest.raises(ConfigError, match=r"network\.width"):
        create("network", "mlp", width=0)


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'|, without bias; 0 for equal laws."""
    a, b = a.flatten(1).double(), b.flatten(1).double()

    def within(x: Tensor) -> Tensor:
        return torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))

    return float(2.0 * torch.cdist(a, b).mean() - within(a) - within(b))


def trained(dataset: Points, sde: Any, objective: Any, folder: Path, steps: int) -> Any:
    config = TrainingConfig(
        steps=steps,
        batch_size=256,
        learning_rate=6e-3,
        ema=0.98,
        warmup=20,
        precision="fp32",
        save_every=steps,
    )
    job = TrainingJob(
        dataset=dataset,
        network=MLP(width=64, blocks=2),
        sde=sde,
        objective=objective,
        config=config,
        seed=0,
        folder=folder,
    )
    trainer = Trainer(job)
    losses = [step.loss for step in trainer.steps()]
    return trainer.model(), losses


def test_it_learns_a_mixture_of_the_plane(tmp_path: Path) -> None:
    dataset = Points(count=2000, noise=0.1)
    model, _ = trained(dataset, VP(), VelocityPrediction(), tmp_path / "model", 400)
    x = sample(model, sde=VP(), steps=15, shape=(1000, 2), seed=1, batch_size=1000).x
    reference = dataset.encode(dataset.load("test").raw)
    gauss = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert energy_distance(x, reference) < 0.4 * energy_distance(gauss, reference)
    raw = dataset.decode(x)
    nearest = (torch.atan2(raw[:, 1], raw[:, 0]) / (0.25 * math.pi)).round().long() % 8
    shares = torch.bincount(nearest, minlength=8) / len(x)
    assert float((shares - 0.125).abs().max()) < 0.06
    assert float(raw.norm(dim=1).mean()) == pytest.approx(1.0, abs=0.1)
    assert (
        float(raw.norm(dim=1).std()) < 0.2
    )  # 0.1 in truth, and about 0.5 for a Gaussian of the same moments


def test_it_learns_signals(tmp_path: Path) -> None:
    dataset = Points(shape="signal", count=2000)
    model, losses = trained(dataset, Flow(), VelocityPrediction(convention="flow"), tmp_path / "model", 150)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    x = sample(model, sde=Flow(), steps=10, shape=(200, 1, 64), seed=1).x
    reference = dataset.encode(dataset.load("test").raw)
    gauss = torch.randn(200, 1, 64, generator=torch.Generator().manual_seed(0))
    assert x.shape == (200, 1, 64)
    assert energy_distance(x, reference) < 0.5 * energy_distance(gauss, reference)
