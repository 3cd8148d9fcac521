"""Contrastive divergence: its gradient, its buffer, and the energy that it arrives at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from small_training import Values, small_job
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.config import TrainingConfig
from diffkit.errors import ConfigError
from diffkit.experiment import Experiment
from diffkit.interfaces.network import Level
from diffkit.noise import Noise
from diffkit.training import Trainer, TrainingJob
from diffkit_energy.networks.energy_mlp import EnergyMLP
from diffkit_energy.objectives.contrastive_divergence import ContrastiveDivergence
from diffkit_energy.samplers.overdamped_langevin import OverdampedLangevin
from diffkit_energy.sdes.langevin import Langevin

DOUBLE = torch.float64
STILL = OverdampedLangevin(temperature=0.0)
"""Does not move a chain where the energy is flat."""


class Parabola(nn.Module):
    """E(x) = c + w mean(x) + v mean(x^2)."""

    def __init__(self, constant: float = 0.0, lean: float = 0.0, bend: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([constant, lean, bend], dtype=DOUBLE))

    @staticmethod
    def features(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.stack((torch.ones_like(flat[:, 0]), flat.mean(1), flat.square().mean(1)), dim=1)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        return self.features(x) @ self.weights


def given(count: int, value: float = 0.4, step: int = 0) -> tuple[Batch, Noise]:
    noise = Noise(seed=0, index=torch.arange(count), path=("training", step))
    x = value + 0.2 * noise.stream("data").normal((count, 1, 3), dtype=DOUBLE)
    return Batch(x=x, index=noise.index), noise


def one_step(
    objective: ContrastiveDivergence, module: nn.Module, count: int = 32, state: Any = None, step: int = 0
) -> tuple[Tensor, Tensor, dict[str, float]]:
    loss, after, logs = objective.loss(module, Langevin(), *given(count, step=step), state)
    assert after is not None
    return loss, after["chains"], logs


class TestTheLoss:
    def test_its_gradient_is_the_difference_of_features_and_the_regulariser(self) -> None:
        """With as many chains as examples the state after the step is the samples."""
        objective = ContrastiveDivergence(buffer=32, jitter=0.0, regularisation=0.3, steps=4)
        module = Parabola(0.2, 0.5, -0.4)
        loss, chains, logs = one_step(objective, module)
        (gradient,) = torch.autograd.grad(loss.mean(), module.weights)
        data = given(32)[0].x
        low, high = (Parabola.features(x) for x in (data, chains))
        energies = [(features @ module.weights).detach() for features in (low, high)]
        expected = (low - high).mean(0) + 0.6 * sum(
            (energy[:, None] * features).mean(0)
            for energy, features in zip(energies, (low, high), strict=True)
        )
        assert torch.allclose(gradient, expected, atol=1e-12)
        assert logs["energy_data"] == pytest.approx(float(energies[0].mean()))
        assert logs["energy_samples"] == pytest.approx(float(energies[1].mean()))

    def test_the_energy_of_noise_is_that_of_the_prior(self) -> None:
        """E = mean(x^2), of numbers uniform on [-1, 1]: a third."""
        _, _, logs = one_step(ContrastiveDivergence(steps=1), Parabola(bend=1.0), count=2000)
        assert logs["energy_noise"] == pytest.approx(1.0 / 3.0, abs=4.0 * math.sqrt(4.0 / 45.0 / 6000))

    def test_data_are_jittered(self) -> None:
        wide = ContrastiveDivergence(jitter=0.5, steps=1)
        _, _, logs = one_step(wide, Parabola(bend=1.0), count=2000)
        data = given(2000)[0].x
        assert logs["energy_data"] == pytest.approx(float((data**2).mean()) + 0.25, abs=0.03)


class TestTheBuffer:
    def test_chains_go_on_from_where_they_were(self) -> None:
        objective = ContrastiveDivergence(buffer=50, fresh=0.0, sampler=STILL)
        _, first, _ = one_step(objective, Parabola())
        _, second, _ = one_step(objective, Parabola(), state={"chains": first}, step=1)
        assert torch.equal(first, second)
        lean = one_step(objective, Parabola(lean=1.0), state={"chains": first}, step=1)[1]
        moved = (lean - first).flatten(1).abs().amax(1) > 0.0
        assert int(moved.sum()) == 32  # every example has a chain of its own
        # x - h grad E, sixty times: the gradient of mean(x) over three elements is a third each.
        assert torch.allclose((lean - first)[moved], torch.tensor(-60 * 0.01 / 3.0, dtype=DOUBLE))

    @pytest.mark.parametrize("fresh", [1.0, 0.25])
    def test_a_share_of_them_starts_anew(self, fresh: float) -> None:
        objective = ContrastiveDivergence(buffer=3000, fresh=fresh, sampler=STILL, steps=1)
        far = {"chains": torch.full((3000, 1, 3), 7.0, dtype=DOUBLE)}
        _, chains, _ = one_step(objective, Parabola(), count=2000, state=far)
        anew = chains.flatten(1).abs().amax(1) < 1.0
        assert int((chains != 7.0).flatten(1).any(1).sum()) == int(anew.sum())
        error = math.sqrt(2000 * fresh * (1.0 - fresh))
        assert abs(int(anew.sum()) - 2000 * fresh) <= 4.0 * error

    def test_other_chains_are_taken_in_another_step(self) -> None:
        objective = ContrastiveDivergence(buffer=3000, fresh=1.0, sampler=STILL, steps=1)
        far = {"chains": torch.full((3000, 1, 3), 7.0, dtype=DOUBLE)}
        taken = [
            (one_step(objective, Parabola(), state=far, step=step)[1] != 7.0).flatten(1).any(1)
            for step in (0, 1)
        ]
        assert int((taken[0] & taken[1]).sum()) < 5

    def test_too_few_chains_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"objective\.buffer is 8, and a batch has 32 examples"):
            one_step(ContrastiveDivergence(buffer=8), Parabola())


def test_it_learns_the_precision_of_a_gaussian() -> None:
    """E = theta mean(x^2) / 2: at rest the chains' variance, that of a discrete chain, is that of the data.

    With d elements and steps of h: 1 / theta' / (1 - h theta' / 2) = v, theta' = theta / d.
    """
    h, count = 0.05, 400
    objective = ContrastiveDivergence(
        sampler=OverdampedLangevin(step_size=h),
        steps=5,
        buffer=count,
        fresh=0.0,
        regularisation=0.0,
        jitter=0.0,
    )
    batch, _ = given(count, value=0.0)
    x = 2.5 * batch.x
    v = float(x.square().mean())
    module, state, seen = Parabola(bend=1.0), None, []
    for step in range(160):
        noise = Noise(seed=1, index=batch.index, path=("training", step))
        loss, state, _ = objective.loss(module, Langevin(), Batch(x=x, index=batch.index), noise, state)
        (gradient,) = torch.autograd.grad(loss.mean(), module.weights)
        with torch.no_grad():
            module.weights[2] -= 4.0 * gradient[2]
        seen.append(2.0 * float(module.weights[2].detach()) / 3.0)
    found = sum(seen[80:]) / 80
    exact = (1.0 - math.sqrt(1.0 - 2.0 * h / v)) / h
    assert found == pytest.approx(exact, rel=0.05)
    assert abs(exact * v - 1.0) > 0.1  # the steps are long enough for the correction to be seen


class TestTraining:
    def job(self, folder: Path, steps: int = 6, **config: Any) -> TrainingJob:
        raw = Noise(seed=0, index=torch.arange(40)).normal((40, 2))
        settings = {"steps": steps, "save_every": 3, "warmup": 1, "labels": False, "batch_size": 6, **config}
        return attrs.evolve(
            small_job(folder, dataset=Values(raw=raw)),
            network=EnergyMLP(width=8),
            sde=Langevin(),
            objective=ContrastiveDivergence(buffer=30, steps=3),
            config=TrainingConfig(precision="fp32", **settings),
        )

    def test_it_goes_on_bit_for_bit_with_its_chains(self, tmp_path: Path) -> None:
        whole = Trainer(self.job(tmp_path / "whole"))
        events = list(whole.steps())
        halves = Trainer(self.job(tmp_path / "halves"))
        for _, step in zip(range(4), halves.steps(), strict=False):  # the checkpoint is of step 3
            assert step.logs.keys() == {"energy_data", "energy_samples", "energy_noise"}
        again = Trainer(self.job(tmp_path / "halves"))
        assert again.step == 3
        rest = list(again.steps())
        assert [event.loss for event in rest] == [event.loss for event in events[3:]]
        assert [event.logs for event in rest] == [event.logs for event in events[3:]]
        one, other = (trainer._snapshot().parts for trainer in (whole, again))
        assert one["objective"]["chains"].shape == (30, 2)
        assert all(torch.equal(one[part][key], other[part][key]) for part in one for key in one[part])

    def test_parts_of_a_batch_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="keeps state between steps"):
            Trainer(self.job(tmp_path, gradient_accumulation=2))


@pytest.mark.prove
def test_the_density_learnt_of_points_is_near_the_true_one(tmp_path: Path) -> None:
    """Eight Gaussians on a circle, by the example's configuration: exp(-E) on a grid, against the truth."""
    config = Path(__file__).parents[2] / "examples" / "configs" / "ebm-points.yaml"
    experiment = Experiment.from_file(config, runs=tmp_path, quiet=True)
    experiment.train()
    dataset = experiment.config.dataset
    scale, angle = dataset.spec().scale[0], torch.arange(8) * (math.pi / 4.0)
    centres = scale * torch.stack((angle.cos(), angle.sin()), dim=1)
    axis = torch.linspace(-3.5, 3.5, 281)
    grid = torch.cartesian_prod(axis, axis)

    def log_density(centres: Tensor) -> Tensor:
        distance = torch.cdist(grid.to(DOUBLE), centres.to(DOUBLE)).square()
        return torch.logsumexp(-distance / (2.0 * (0.2 * scale) ** 2), dim=1).log_softmax(0)

    def divergence(log_q: Tensor) -> float:
        return float((true.exp() * (true - log_q)).sum())

    true, turns = log_density(centres), torch.arange(160) * (math.pi / 80.0)
    ring = log_density(scale * torch.stack((turns.cos(), turns.sin()), dim=1))
    steps = (50, 200, 500, "last")
    learnt = [divergence((-experiment.model(step).energy(grid)).to(DOUBLE).log_softmax(0)) for step in steps]
    assert divergence(torch.zeros_like(true).log_softmax(0)) > 1.5  # the uniform law
    assert 0.08 < divergence(ring) < 0.1, "the best law that tells hills from valleys no better than a ring"
    assert learnt[-1] < 0.5 * divergence(ring), learnt
    assert learnt[-1] < 0.5 * learnt[0]
