"""Every parameterisation against what it must learn of Gaussian data, on every kind of process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.compatibility import Selection, check
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.registry import create, describe
from diffkit.statistics import DataStatistics
from diffkit.tensors import expand
from diffkit_standard.objectives._noised import LogNormal
from diffkit_standard.objectives._prediction import Prediction
from diffkit_standard.objectives.edm import EDM
from diffkit_standard.objectives.noise import NoisePrediction
from diffkit_standard.objectives.sample import SamplePrediction
from diffkit_standard.objectives.score import ScorePrediction
from diffkit_standard.objectives.velocity import VelocityPrediction
from diffkit_standard.schedules import edm as edm_schedule
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

MEAN, SPREAD = 0.4, 0.7  # of the Gaussian data
SIGMA_DATA = 0.5  # on purpose not the spread

PROCESSES: dict[str, GaussianSDE] = {
    "vp": VP(),
    "sub-vp": SubVP(),
    "ve": VE(),
    "ve edm": VE(schedule=edm_schedule.EDM()),
    "flow": Flow(),
}
OBJECTIVES: dict[str, Prediction] = {
    "noise": NoisePrediction(sigma_data=SIGMA_DATA),
    "sample": SamplePrediction(sigma_data=SIGMA_DATA),
    "velocity": VelocityPrediction(sigma_data=SIGMA_DATA),
    "velocity flow": VelocityPrediction(sigma_data=SIGMA_DATA, convention="flow"),
    "score": ScorePrediction(sigma_data=SIGMA_DATA),
    "edm": EDM(sigma_data=SIGMA_DATA),
}
every_process = pytest.mark.parametrize("process", PROCESSES)
every_objective = pytest.mark.parametrize("name", OBJECTIVES)

Formula = Callable[[Any, Any, Any, Any], Any]


def skip(alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """c_skip and c_out of Karras et al., from their table, at noise level sigma / alpha."""
    level = sigma / alpha
    return SIGMA_DATA**2 / (level**2 + SIGMA_DATA**2), level * SIGMA_DATA / (level**2 + SIGMA_DATA**2) ** 0.5


def preconditioned(x_0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
    c_skip, c_out = skip(alpha, sigma)
    return (x_0 - c_skip * (x_0 + sigma / alpha * eps)) / c_out


# The target of each objective, linear in data and noise: of (x_0, eps) it is the training target, of
# the posterior means (D, eps_hat) it is the best prediction.
TARGETS: dict[str, Formula] = {
    "noise": lambda x_0, eps, alpha, sigma: eps,
    "sample": lambda x_0, eps, alpha, sigma: x_0,
    "velocity": lambda x_0, eps, alpha, sigma: alpha * eps - sigma * x_0,
    "velocity flow": lambda x_0, eps, alpha, sigma: eps - x_0,
    "score": lambda x_0, eps, alpha, sigma: -eps / sigma,
    "edm": preconditioned,
}
WEIGHTS: dict[str, Callable[[Any, Any], Any]] = {name: lambda alpha, sigma: 1.0 for name in TARGETS}
WEIGHTS["score"] = lambda alpha, sigma: sigma**2


def posterior_mean(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    gain = alpha * SPREAD**2 / ((alpha * SPREAD) ** 2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


class BestAnswer(nn.Module):
    """E[target | x_t] of the Gaussian data, off by `shift`; remembers what it was given."""

    def __init__(self, name: str, shift: float = 0.0, gain: float = 1.0) -> None:
        super().__init__()
        self.name, self.shift, self.gain = name, shift, gain

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        assert level.alpha is not None
        assert level.sigma is not None
        self.x, self.level, self.label = x, level, label
        alpha, sigma = expand(level.alpha, x), expand(level.sigma, x)
        x_t = x * torch.sqrt((alpha * SIGMA_DATA) ** 2 + sigma**2)
        mean = posterior_mean(x_t, alpha, sigma)
        eps = (x_t - alpha * mean) / sigma
        return self.gain * TARGETS[self.name](mean, eps, alpha, sigma) + self.shift


class NoAnswer(nn.Module):
    """Zero; remembers what it was given."""

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        self.x, self.level = x, level
        return torch.zeros_like(x)


def stream_of(count: int, seed: int = 0) -> Noise:
    return Noise(seed=seed, index=torch.arange(count), path=("training", 0))


def data(count: int, size: int = 32) -> Tensor:
    return MEAN + SPREAD * stream_of(count).stream("data").normal((count, size), dtype=torch.float64)


def loss_of(objective: Prediction, module: nn.Module, sde: SDE, x: Tensor) -> Tensor:
    loss, state, logs = objective.loss(
        module, sde, Batch(x=x, index=torch.arange(len(x))), stream_of(len(x)), None
    )
    assert loss.shape == (len(x),)
    assert state is None
    assert logs == {}
    return loss


@every_process
@every_objective
def test_the_best_prediction_is_the_posterior_mean(name: str, process: str) -> None:
    sde = PROCESSES[process]
    t = torch.linspace(sde.t_min, sde.t_max, 7, dtype=torch.float64)
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    x = alpha * MEAN + torch.sqrt((alpha * SPREAD) ** 2 + sigma**2) * torch.linspace(
        -3, 3, 5, dtype=torch.float64
    )
    model = OBJECTIVES[name].model(BestAnswer(name), sde)
    expected = posterior_mean(x, alpha, sigma)
    slack = 1e-12 / sde.alpha(t).min().item()
    torch.testing.assert_close(model.denoise(x, t), expected, rtol=slack, atol=slack)
    shared = torch.cat([model.denoise(x[i : i + 1], t[i]) for i in range(len(t))])
    torch.testing.assert_close(shared, expected, rtol=slack, atol=slack)
    assert model.offers == {"denoise"}
    assert model.sde is sde


@every_process
@every_objective
def test_the_loss_of_the_best_prediction_is_what_cannot_be_known(name: str, process: str) -> None:
    """The weight times Var(target | x_t), at the times that were drawn; and nothing does better."""
    sde, module, x = PROCESSES[process], BestAnswer(name), data(2048)
    loss = loss_of(OBJECTIVES[name], module, sde, x)
    alpha, sigma = module.level.alpha, module.level.sigma
    assert alpha is not None
    assert sigma is not None
    # Given x_t, eps = (x_t - alpha x_0) / sigma, so the target moves with x_0 by this factor.
    slope = TARGETS[name](1.0, -alpha / sigma, alpha, sigma)
    unknown = (SPREAD * sigma) ** 2 / ((alpha * SPREAD) ** 2 + sigma**2)
    expected = WEIGHTS[name](alpha, sigma) * slope**2 * unknown
    # 2048 x 32 squares of normal numbers: the mean is known to sqrt(2 / 65536) = 0.6 %.
    assert float((loss / expected).mean()) == pytest.approx(1.0, abs=0.03)
    for other in (BestAnswer(name, gain=0.8), BestAnswer(name, gain=1.25), BestAnswer(name, shift=0.3)):
        assert float((loss_of(OBJECTIVES[name], other, sde, x) / expected).mean()) > float(
            (loss / expected).mean()
        )


@every_process
@every_objective
def test_the_network_sees_unit_variance(name: str, process: str) -> None:
    sde, module = PROCESSES[process], NoAnswer()
    t = torch.linspace(sde.t_min, sde.t_max, 6, dtype=torch.float64).repeat_interleave(2000)
    x_0, eps = (stream_of(len(t)).stream(each).normal((len(t), 4), dtype=torch.float64) for each in "ab")
    x_t = sde.perturb(SIGMA_DATA * x_0, t, eps)
    OBJECTIVES[name].model(module, sde).denoise(x_t, t)
    spread = module.x.reshape(6, -1).std(dim=1)
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=0.05, rtol=0.0)


@every_process
def test_edm_asks_for_unit_variance_at_every_level(process: str) -> None:
    """The loss of answering nothing is the target's variance: 1 at each level."""
    sde, module = PROCESSES[process], NoAnswer()
    centred = SIGMA_DATA * (data(6000) - MEAN) / SPREAD
    objective = EDM(sigma_data=SIGMA_DATA, times="uniform")
    loss = loss_of(objective, module, sde, centred)
    by_level = loss[module.level.t.argsort()].reshape(6, -1).mean(1)
    torch.testing.assert_close(by_level, torch.ones_like(by_level), atol=0.05, rtol=0.0)


def test_edm_weights_the_denoiser_as_published() -> None:
    """The same figure as (s^2 + sd^2) / (s sd)^2 |D - x_0|^2, D being what the model gives."""
    sde, x = VE(schedule=edm_schedule.EDM()), data(64)
    module = BestAnswer("edm", shift=0.2)
    objective = EDM(sigma_data=SIGMA_DATA)
    loss = loss_of(objective, module, sde, x)
    sigma = module.level.sigma
    assert sigma is not None
    x_t = module.x * torch.sqrt(SIGMA_DATA**2 + sigma**2)[:, None]
    denoised = objective.model(module, sde).denoise(x_t, module.level.t)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    torch.testing.assert_close(loss, weight * (denoised - x).square().mean(1), rtol=1e-7, atol=0.0)


def test_flow_convention_on_flow_is_the_velocity_of_the_path() -> None:
    sde = Flow()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x_0, eps = (stream_of(3).stream(each).normal((3, 4), dtype=torch.float64) for each in "ab")
    torch.testing.assert_close(
        VelocityPrediction(convention="flow").target(x_0, eps, sde.alpha(t)[:, None], sde.sigma(t)[:, None]),
        (sde.perturb(x_0, t + 1e-6, eps) - sde.perturb(x_0, t - 1e-6, eps)) / 2e-6,
        rtol=1e-8,
        atol=1e-8,
    )


def test_sample_weights() -> None:
    """The loss of the best prediction over its unweighted loss is the weight at the time drawn."""
    sde, x = VP(), data(256)
    module = BestAnswer("sample")
    plain = loss_of(SamplePrediction(sigma_data=SIGMA_DATA), module, sde, x)
    snr = torch.exp(sde.log_snr(module.level.t))
    for fields, weight in (
        ({"weighting": "snr"}, snr),
        ({"weighting": "min-snr"}, snr.clamp(max=5.0)),
        ({"weighting": "min-snr", "gamma": 0.5}, snr.clamp(max=0.5)),
    ):
        loss = loss_of(SamplePrediction(sigma_data=SIGMA_DATA, **fields), module, sde, x)
        torch.testing.assert_close(loss, weight * plain, rtol=1e-10, atol=0.0)


def test_snr_weight_makes_the_sample_loss_that_of_the_noise() -> None:
    sde, x = SubVP(), data(256)
    sample = loss_of(SamplePrediction(sigma_data=SIGMA_DATA, weighting="snr"), BestAnswer("sample"), sde, x)
    noise = loss_of(NoisePrediction(sigma_data=SIGMA_DATA), BestAnswer("noise"), sde, x)
    torch.testing.assert_close(sample, noise, rtol=1e-6, atol=0.0)


def times_seen(objective: Prediction, sde: SDE, count: int = 4000) -> Level:
    module = NoAnswer()
    loss_of(objective, module, sde, torch.zeros(count, 1, dtype=torch.float64))
    return module.level


@pytest.mark.parametrize("times", ["log-normal", LogNormal(mean=0.3, std=0.8)])
@pytest.mark.parametrize("process", ["ve edm", "flow", "vp"])
def test_log_normal_levels_have_their_law(times: Any, process: str) -> None:
    law = LogNormal() if times == "log-normal" else times
    assert (law.mean, law.std) in {(-1.2, 1.2), (0.3, 0.8)}
    level = times_seen(NoisePrediction(sigma_data=1.0, times=times), PROCESSES[process])
    assert level.alpha is not None
    assert level.sigma is not None
    seen = torch.log(level.sigma / level.alpha).sort().values
    quantiles = (torch.arange(len(seen), dtype=torch.float64) + 0.5) / len(seen)
    normal = 0.5 * (1.0 + torch.erf((seen - law.mean) / (law.std * math.sqrt(2.0))))
    inside = (normal > 0.03) & (normal < 0.97)
    assert float((normal - quantiles)[inside].abs().max()) < 2e-3


@every_process
def test_log_normal_levels_stay_within_the_process(process: str) -> None:
    sde = PROCESSES[process]
    level = times_seen(EDM(sigma_data=1.0, times=LogNormal(mean=0.0, std=1e4)), sde)
    assert float(level.t.min()) == pytest.approx(sde.t_min, abs=1e-9)
    assert float(level.t.max()) == pytest.approx(sde.t_max, abs=1e-9)
    assert ((level.t >= sde.t_min) & (level.t <= sde.t_max)).all()


def test_logit_normal_times_are_the_log_normal_levels_of_flow() -> None:
    level = times_seen(
        VelocityPrediction(sigma_data=1.0, convention="flow", times=LogNormal(mean=0.0, std=1.0)), Flow()
    )
    logit = torch.logit(level.t)
    assert float(logit.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(logit.std()) == pytest.approx(1.0, abs=0.01)


def test_edm_draws_log_normal_levels_by_default_and_the_others_uniform_times() -> None:
    for name, objective in OBJECTIVES.items():
        assert objective.times == ("log-normal" if name == "edm" else "uniform")


@every_objective
def test_shapes_dtypes_and_labels_pass_through(name: str) -> None:
    for shape in ((2,), (1, 64), (3, 4, 4)):
        for dtype in (torch.float32, torch.float64):
            x, module = torch.ones(5, *shape, dtype=dtype), BestAnswer(name)
            label = torch.tensor([0, 1, -1, 2, 0])
            denoised = OBJECTIVES[name].model(module, VP()).denoise(x, torch.tensor(0.5), label)
            assert denoised.shape == x.shape
            assert denoised.dtype == dtype
            assert module.label is label
            assert loss_of(OBJECTIVES[name], module, VP(), x).dtype == dtype


@every_objective
def test_sigma_data_comes_from_the_data(name: str) -> None:
    kind, *fields = name.split()
    objective = create("objective", kind, **({"convention": fields[0]} if fields else {}))
    statistics = DataStatistics(mean=(0.0,), std=(0.3,), sigma_data=0.3, count=5)
    with pytest.raises(ConfigError, match=r"objective\.sigma_data"):
        objective.model(NoAnswer(), VP()).denoise(torch.zeros(1, 1), torch.tensor(0.5))
    assert objective.resolved(statistics).sigma_data == 0.3
    assert type(objective.resolved(statistics)) is type(objective)
    assert OBJECTIVES[name].resolved(statistics) == OBJECTIVES[name]


def test_a_law_of_times_survives_being_written_down() -> None:
    for times in ("uniform", "log-normal", {"mean": 0.0, "std": 1.0}):
        made = create("objective", {"name": "velocity", "times": times})
        assert create("objective", describe(made)) == made
    with pytest.raises(ConfigError, match=r"objective\.times"):
        create("objective", {"name": "edm", "times": "normal"})
    with pytest.raises(ConfigError, match=r"objective\.times\.std"):
        create("objective", {"name": "edm", "times": {"std": 0.0}})
    with pytest.raises(ValueError, match="times"):
        EDM(times="normal")  # type: ignore[arg-type]


class Elsewhere(SDE):
    """A process without Gaussian marginals."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -(x**3)

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def prior(self, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError


@every_objective
def test_a_process_without_rates_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="GaussianSDE, not Elsewhere"):
        OBJECTIVES[name].model(NoAnswer(), Elsewhere())
    assert {each.capability for each in OBJECTIVES[name].requires} == {"sde.gaussian", "network.image-output"}


@pytest.mark.parametrize(
    "name, process, said",
    [
        ("velocity", "ve", True),
        ("velocity", "vp", False),
        ("velocity", "flow", False),
        ("velocity flow", "ve", False),
        ("score", "ve", True),
        ("score", "vp", False),
    ],
)
def test_targets_of_unequal_size_are_warned_of(name: str, process: str, said: bool) -> None:
    findings = check(Selection.of(PROCESSES[process], OBJECTIVES[name]))
    assert [finding.status for finding in findings if finding.subject in ("velocity", "score")] == [
        "caveat"
    ] * said
