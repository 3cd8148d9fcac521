"""Noise prediction against closed forms for Gaussian data, on every process."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.selection import Selection
from diffkit.statistics import DataStatistics
from diffkit_standard.objectives.noise import NoisePrediction
from diffkit_standard.schedules.cosine import Cosine
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

PROCESSES = [
    pytest.param(sde, id=name)
    for name, sde in {"vp": VP(), "vp-cosine": VP(schedule=Cosine()), "sub-vp": SubVP(), "ve": VE()}.items()
]
SIGMA_DATA = 0.6


class Spy(nn.Module):
    """Returns what it was made with, and remembers what it was given."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        self.x, self.level, self.label = x, level, label
        return self.answer


class GaussianAnswer(nn.Module):
    """`gain` times E[eps | x_t] for data N(0, SIGMA_DATA^2), from the scaled input."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        assert level.alpha is not None
        assert level.sigma is not None
        spread = torch.sqrt((level.alpha * SIGMA_DATA) ** 2 + level.sigma**2)
        return self.gain * (level.sigma / spread)[:, None].to(x.dtype) * x


def noise_of(count: int, seed: int = 0) -> Noise:
    return Noise(seed=seed, index=torch.arange(count), path=("training", 0))


def times_of(sde: GaussianSDE) -> Tensor:
    return torch.linspace(sde.t_min, sde.t_max, 6, dtype=torch.float64)


@pytest.mark.parametrize("sde", PROCESSES)
def test_the_true_noise_gives_back_the_data(sde: GaussianSDE) -> None:
    t = times_of(sde)
    stream = noise_of(len(t))
    x_0, eps = (stream.stream(name).normal((len(t), 1, 3, 2), dtype=torch.float64) for name in "ab")
    x_t = sde.perturb(x_0, t, eps)
    objective = NoisePrediction(sigma_data=SIGMA_DATA)
    together = objective.model(Spy(eps), sde).denoise(x_t, t)
    alone = torch.cat(
        [objective.model(Spy(eps[i : i + 1]), sde).denoise(x_t[i : i + 1], t[i]) for i in range(len(t))]
    )
    # Where alpha is small, x_0 is a small difference of large numbers.
    tolerance = (1e-13 / sde.alpha(t)).reshape(-1, 1, 1, 1) * (1.0 + x_t.abs())
    assert ((together - x_0).abs() <= tolerance).all()
    assert ((alone - x_0).abs() <= tolerance).all()


@pytest.mark.parametrize("sde", PROCESSES)
def test_the_network_sees_unit_variance(sde: GaussianSDE) -> None:
    t = times_of(sde).repeat_interleave(4000)
    stream = noise_of(len(t))
    x_0, eps = (stream.stream(name).normal((len(t), 4), dtype=torch.float64) for name in "ab")
    spy = Spy(torch.zeros_like(x_0))
    x_t = sde.perturb(SIGMA_DATA * x_0, t, eps)
    NoisePrediction(sigma_data=SIGMA_DATA).model(spy, sde).denoise(x_t, t)
    spread = spy.x.reshape(6, -1).std(dim=1)
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=0.03, rtol=0.0)
    assert torch.equal(spy.level.t, t)
    assert torch.equal(spy.level.alpha, sde.alpha(t))
    assert torch.equal(spy.level.sigma, sde.sigma(t))


@pytest.mark.parametrize("sde", PROCESSES)
@pytest.mark.parametrize("gain", [1.0, 0.8, 1.3])
def test_the_loss_has_its_closed_form(sde: GaussianSDE, gain: float) -> None:
    """E|gain E[eps|x_t] - eps|^2 = alpha^2 s^2 / v + (gain - 1)^2 sigma^2 / v, v = alpha^2 s^2 + sigma^2."""
    count, size = 4096, 32
    stream = noise_of(count)
    x = SIGMA_DATA * stream.stream("data").normal((count, size), dtype=torch.float64)
    batch = Batch(x=x, index=torch.arange(count))
    loss, state, logs = NoisePrediction(sigma_data=SIGMA_DATA).loss(
        GaussianAnswer(gain), sde, batch, stream, None
    )
    t = sde.t_min + (sde.t_max - sde.t_min) * (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    signal, variance = (sde.alpha(t) * SIGMA_DATA) ** 2, sde.sigma(t) ** 2
    expected = ((signal + (gain - 1.0) ** 2 * variance) / (signal + variance)).mean()
    assert loss.shape == (count,)
    assert state is None
    assert logs == {}
    assert float(loss.mean()) == pytest.approx(float(expected), rel=0.015)


def test_the_exact_answer_beats_others_at_every_level() -> None:
    losses = {}
    for gain in (0.95, 1.0, 1.05):
        x = SIGMA_DATA * noise_of(2048).stream("data").normal((2048, 64), dtype=torch.float64)
        objective = NoisePrediction(sigma_data=SIGMA_DATA)
        batch = Batch(x=x, index=torch.arange(2048))
        losses[gain] = float(
            objective.loss(GaussianAnswer(gain), VP(), batch, noise_of(2048), None)[0].mean()
        )
    assert losses[1.0] < min(losses[0.95], losses[1.05])


def test_the_absolute_error_of_no_answer() -> None:
    x = torch.zeros(4096, 16, dtype=torch.float64)
    loss, _, _ = NoisePrediction(sigma_data=1.0, norm="l1").loss(
        Spy(torch.zeros_like(x)), VP(), Batch(x=x, index=torch.arange(4096)), noise_of(4096), None
    )
    assert float(loss.mean()) == pytest.approx(math.sqrt(2.0 / math.pi), rel=0.01)


def times_seen(count: int, seed: int, sde: GaussianSDE) -> Tensor:
    x = torch.zeros(count, 1)
    spy = Spy(x)
    objective = NoisePrediction(sigma_data=1.0)
    objective.loss(spy, sde, Batch(x=x, index=torch.arange(count)), noise_of(count, seed), None)
    return (spy.level.t - sde.t_min) / (sde.t_max - sde.t_min)


def test_times_cover_their_range_evenly() -> None:
    sde = VP(schedule=Cosine())
    batch = times_seen(128, 0, sde).sort().values
    ideal = (torch.arange(128, dtype=torch.float64) + 0.5) / 128
    assert float((batch - ideal).abs().max()) < 3.0 / 128
    # Over many steps the time of one place is uniform too.
    first = torch.stack([times_seen(3, seed, sde) for seed in range(400)]).sort(dim=0).values
    ideal = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    assert float((first - ideal[:, None]).abs().max()) < 0.1
    assert float(first.min()) >= 0.0
    assert float(first.max()) < 1.0


def test_an_example_does_not_know_its_company() -> None:
    stream, rows = noise_of(12), torch.tensor([7, 2, 11])
    x = stream.stream("data").normal((12, 5), dtype=torch.float64)
    objective = NoisePrediction(sigma_data=SIGMA_DATA)
    whole, _, _ = objective.loss(GaussianAnswer(), VP(), Batch(x=x, index=torch.arange(12)), stream, None)
    part, _, _ = objective.loss(GaussianAnswer(), VP(), Batch(x=x[rows], index=rows), stream.take(rows), None)
    torch.testing.assert_close(part, whole[rows], rtol=1e-12, atol=0.0)


def test_labels_and_precision_pass_through() -> None:
    x = torch.ones(3, 2, dtype=torch.float64)
    label = torch.tensor([1, -1, 0])
    network = nn.Linear(2, 2)

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
            assert label is not None
            self.label = label
            answer: Tensor = self.network(x)
            return answer

    module = Module()
    denoised = NoisePrediction(sigma_data=1.0).model(module, VP()).denoise(x, torch.tensor(0.5), label)
    assert denoised.dtype == torch.float64
    assert denoised.shape == x.shape
    assert torch.equal(module.label, label)


def test_auto_is_resolved_from_the_data_and_refused_before() -> None:
    statistics = DataStatistics(mean=(0.0,), std=(0.3,), sigma_data=0.3, count=5)
    objective = NoisePrediction(norm="l1")
    assert objective.resolved(statistics) == NoisePrediction(norm="l1", sigma_data=0.3)
    assert NoisePrediction(sigma_data=2.0).resolved(statistics).sigma_data == 2.0
    assert objective.resolved(attrs.evolve(statistics, sigma_data=0.0)).sigma_data == 1.0
    with pytest.raises(ConfigError, match=r"objective\.sigma_data"):
        objective.model(Spy(torch.zeros(1)), VP()).denoise(torch.zeros(1, 1), torch.tensor(0.5))


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan"), "wide", None])
def test_a_spread_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="sigma_data"):
        NoisePrediction(sigma_data=value)  # type: ignore[arg-type]


class TestBoundWeights:
    def test_discrete_ones_are_those_of_the_ddpm_bound(self) -> None:
        """T beta^2 / (2 sigma_q^2 a (1 - alpha_bar)) from the table, at every level but the first."""
        T = 300
        process = VP(schedule=Discrete(steps=T))
        beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
        kept = torch.cumprod(1.0 - beta, 0)
        before = torch.cat((torch.ones(1, dtype=torch.float64), kept[:-1]))
        posterior = beta * (1.0 - before) / (1.0 - kept)
        expected = T * beta**2 / (2.0 * posterior * (1.0 - beta) * (1.0 - kept))
        t = torch.arange(1, T + 1, dtype=torch.float64) / T
        weight = NoisePrediction(weighting="bound", levels=T).weight(process, t)
        torch.testing.assert_close(weight[1:], expected[1:], rtol=1e-9, atol=0.0)
        assert weight[0] == weight[1]

    @pytest.mark.parametrize(
        "settings, told",
        [
            ({"weighting": "bound", "levels": 20}, ""),
            ({"weighting": "bound"}, ""),
            ({"weighting": "bound", "levels": 500}, "has 20 levels and the bound 500"),
            ({"levels": 20}, "levels does nothing"),
        ],
    )
    def test_levels_are_those_of_the_schedule(self, settings: dict[str, Any], told: str) -> None:
        selection = Selection.of(VP(schedule=Discrete(steps=20)))
        assert told in "".join(said := NoisePrediction(**settings).caveats(selection))
        assert len(said) == bool(told)

    @pytest.mark.parametrize("sde", PROCESSES)
    def test_the_continuous_one_is_the_limit_of_many_levels(self, sde: GaussianSDE) -> None:
        t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
        limit = NoisePrediction(weighting="bound").weight(sde, t)
        fine = NoisePrediction(weighting="bound", levels=1_000_000).weight(sde, t)
        torch.testing.assert_close(fine, limit, rtol=1e-4, atol=0.0)

    def test_the_loss_is_weighted(self) -> None:
        batch = Batch(x=torch.zeros(64, 3), index=torch.arange(64))
        wrong = Spy(torch.zeros(64, 3))
        process, noise = VP(), noise_of(64)
        unit = NoisePrediction(sigma_data=0.5)
        plain, _, _ = unit.loss(wrong, process, batch, noise, None)
        bound = attrs.evolve(unit, weighting="bound")
        weighted, _, _ = bound.loss(wrong, process, batch, noise, None)
        torch.testing.assert_close(weighted, plain * bound.weight(process, wrong.level.t).float())
