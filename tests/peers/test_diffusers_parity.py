"""diffusers' schedulers and these samplers on one table, one grid, one denoiser, one noise.

The peer's tables, which it computes in float32, are overwritten by this project's. Two of its schedulers cast
the state as well: `DPMSolverMultistepScheduler.step` and `EulerDiscreteScheduler.step` both do
`sample = sample.to(torch.float32)`. There whole runs agree to 1e-4; DPM-Solver's update formulas behind the
cast, called by themselves, to 1e-6.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.network import Level
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import MixtureProblem
from diffkit_standard.conditioners.threshold import Threshold
from diffkit_standard.networks.simple_unet import SimpleUNet
from diffkit_standard.objectives.noise import NoisePrediction
from diffkit_standard.samplers.ancestral import Ancestral
from diffkit_standard.samplers.ddim import DDIM
from diffkit_standard.samplers.dpm_solver_pp import DPMSolverPP
from diffkit_standard.samplers.heun import Heun
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.vp import VP

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers", reason="diffusers, the peer, is not installed")

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # the peer's own
]

T, COUNT, SEED = 1000, 5, 9
SDE_ = VP(schedule=Discrete(steps=T))
MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0, 0.2], [0.8, 0.5]], variances=[0.1, 0.3])
SHORT = tuple(range(951, 0, -50))
"""Every fiftieth level, counted from 1, as the peer's `leading` spacing of 20 steps puts it."""

UNEVEN = (951, 900, 870, 720, 600, 560, 430, 300, 210, 150, 90, 60, 20, 1)


@attrs.frozen(kw_only=True, eq=False)
class Given(Grid):
    """The times as they are given."""

    given: Tensor

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        return self.given


def times(levels: tuple[int, ...]) -> Tensor:
    return torch.tensor(levels, dtype=torch.float64) / T


def start(levels: tuple[int, ...]) -> Tensor:
    """The state that both begin with."""
    first = times(levels)[0]
    return MIXTURE.draw_at(SDE_, first, Noise(seed=SEED, index=torch.arange(COUNT)).stream("prior"))


def draws(number: int, shape: tuple[int, ...] = (2,)) -> Tensor:
    """What the sampling loop hands the sampler in that move, counted from 1."""
    stream = Noise(seed=SEED, index=torch.arange(COUNT)).stream("sampler", number)
    return stream.normal((COUNT, *shape), dtype=torch.float64)


def denoise(x: Tensor, level: int) -> Tensor:
    return MIXTURE.denoise(SDE_, x, torch.tensor(level / T, dtype=torch.float64))


def ours(sampler: Sampler, levels: tuple[int, ...], conditioners: list[Any] | None = None) -> Tensor:
    return diffkit.sample(
        MIXTURE.model(SDE_),
        sampler=sampler,
        grid=Given(given=times(levels)),
        steps=len(levels),
        x_init=start(levels),
        start=levels[0] / T,
        seed=SEED,
        conditioners=conditioners or [],
    ).x


def signal_table() -> Tensor:
    """The products of 1 - beta, (T,) float64."""
    return SDE_.alpha(torch.arange(1, T + 1, dtype=torch.float64) / T) ** 2


def rho(levels: tuple[int, ...]) -> Tensor:
    """sigma / alpha at the levels and 0 for clean data, the peer's `sigmas`."""
    ratio = SDE_.sigma(times(levels)) / SDE_.alpha(times(levels))
    return torch.cat((ratio, ratio.new_zeros(1)))


@pytest.fixture
def handed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draws of the sampling loop in place of the peer's own."""
    numbers = itertools.count(1)

    def next_draw(shape: tuple[int, ...], *_: Any, **__: Any) -> Tensor:
        return draws(next(numbers), tuple(shape[1:]))

    monkeypatch.setattr(diffusers.schedulers.scheduling_ddpm, "randn_tensor", next_draw)


@pytest.mark.usefixtures("handed_noise")
@pytest.mark.parametrize("variance, peers_name", [("small", "fixed_small"), ("large", "fixed_large")])
@pytest.mark.parametrize("steps, clamp", [(20, False), (20, True), (1000, False)])
def test_ddpm(variance: Any, peers_name: str, steps: int, clamp: bool) -> None:
    levels = SHORT if steps == 20 else tuple(range(T, 0, -1))
    peer = diffusers.DDPMScheduler(
        num_train_timesteps=T, variance_type=peers_name, clip_sample=clamp, prediction_type="sample"
    )
    peer.alphas_cumprod = signal_table()
    peer.set_timesteps(steps)
    assert tuple((peer.timesteps + 1).tolist()) == levels
    x = start(levels)
    for timestep in peer.timesteps:
        x = peer.step(denoise(x, int(timestep) + 1), int(timestep), x).prev_sample
    assert x.dtype == torch.float64
    bends = [Threshold()] if clamp else []
    torch.testing.assert_close(ours(Ancestral(variance=variance), levels, bends), x, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("handed_noise")
def test_a_network_that_predicts_noise_through_300_levels() -> None:
    """From start to clean image: the same U-Net, whose input, output and time the peer is handed by itself.

    The peer's own table of beta, which is in float32, is replaced by one made here in float64.
    """
    steps, shape = 300, (1, 8, 8)
    beta = torch.from_numpy(np.linspace(1e-4, 0.02, steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = SimpleUNet(channels=(8, 16), groups=4, positions=steps).build(shape).double().eval()
    sde = VP(schedule=Discrete(steps=steps))
    peer = diffusers.DDPMScheduler(
        num_train_timesteps=steps, variance_type="fixed_small", clip_sample=False, prediction_type="epsilon"
    )
    assert float(beta[0]) == pytest.approx(float(peer.betas[0]), rel=1e-6)
    assert float(beta[-1]) == pytest.approx(float(peer.betas[-1]), rel=1e-6)
    peer.betas, peer.alphas, peer.alphas_cumprod = beta, 1.0 - beta, torch.cumprod(1.0 - beta, 0)
    peer.set_timesteps(steps)
    noise = Noise(seed=SEED, index=torch.arange(COUNT)).stream("prior")
    first = x = noise.normal((COUNT, *shape), dtype=torch.float64)
    with torch.no_grad():
        for timestep in peer.timesteps.tolist():
            level = Level(t=torch.full((COUNT,), (timestep + 1) / steps, dtype=torch.float64))
            x = peer.step(module(x, level), timestep, x).prev_sample
    found = diffkit.sample(
        NoisePrediction(sigma_data=1.0).model(module, sde),
        sampler=Ancestral(),
        steps=steps,
        x_init=first,
        seed=SEED,
    )
    assert found.nfe == steps
    assert float((first - x).abs().mean()) > 0.1
    torch.testing.assert_close(found.x, x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(eta: float) -> None:
    peer = diffusers.DDIMScheduler(num_train_timesteps=T, clip_sample=False, prediction_type="sample")
    peer.alphas_cumprod = signal_table()
    peer.set_timesteps(len(SHORT))
    assert tuple((peer.timesteps + 1).tolist()) == SHORT
    x = start(SHORT)
    for number, timestep in enumerate(peer.timesteps, start=1):
        clean = denoise(x, int(timestep) + 1)
        z = draws(number) if eta else None
        x = peer.step(clean, int(timestep), x, eta=eta, variance_noise=z).prev_sample
    assert x.dtype == torch.float64
    torch.testing.assert_close(ours(DDIM(eta=eta), SHORT), x, rtol=1e-6, atol=1e-6)


def dpm_solver(levels: tuple[int, ...], order: int, sde: bool = False) -> Any:
    peer = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=T,
        solver_order=order,
        algorithm_type="sde-dpmsolver++" if sde else "dpmsolver++",
        prediction_type="sample",
        lower_order_final=False,
    )
    peer.set_timesteps(len(levels))
    peer.timesteps = torch.tensor(levels) - 1
    peer.sigmas = rho(levels)
    return peer


DPM_CASES = [
    (1, False, DPMSolverPP(order=1)),
    (2, False, DPMSolverPP(order=2)),
    (3, False, DPMSolverPP(order=3, published=True)),
    (2, True, DPMSolverPP(order=2, variant="sde")),
]


@pytest.mark.parametrize("levels", [SHORT, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("order, sde, sampler", DPM_CASES, ids=["1", "2M", "3M-published", "SDE-2M"])
def test_dpm_solver_pp_runs(order: int, sde: bool, sampler: DPMSolverPP, levels: tuple[int, ...]) -> None:
    """`DPMSolverMultistepScheduler.step` casts the state to float32: 1e-4."""
    peer = dpm_solver(levels, order, sde)
    x = start(levels)
    for number, (timestep, level) in enumerate(zip(peer.timesteps, levels, strict=True), start=1):
        z = draws(number) if sde else None
        x = peer.step(denoise(x, level), timestep, x, variance_noise=z).prev_sample
    torch.testing.assert_close(ours(sampler, levels), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [SHORT, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("order, sde, sampler", DPM_CASES, ids=["1", "2M", "3M-published", "SDE-2M"])
def test_dpm_solver_pp_formulas(order: int, sde: bool, sampler: DPMSolverPP, levels: tuple[int, ...]) -> None:
    """The updates that `step` calls after its cast, in float64, on the history of our own run: 1e-6."""
    peer = dpm_solver(levels, order, sde)
    updates = (
        lambda clean, x, z: peer.dpm_solver_first_order_update(clean[-1], sample=x, noise=z),
        lambda clean, x, z: peer.multistep_dpm_solver_second_order_update(clean, sample=x, noise=z),
        lambda clean, x, z: peer.multistep_dpm_solver_third_order_update(clean, sample=x, noise=z),
    )
    x, carry, history = start(levels), None, []
    noise = Noise(seed=SEED, index=torch.arange(COUNT))
    problem = Problem.build(MIXTURE.model(SDE_), SDE_, times(levels).unbind(), noise.index, x)
    for number, (t, s) in enumerate(itertools.pairwise(times(levels)), start=1):
        peer._step_index = number - 1
        history = [*history, problem.denoise(x, t)][-order:]
        expected = updates[len(history) - 1](history, x, draws(number) if sde else None)
        assert expected.dtype == torch.float64
        x, carry = sampler.step(problem, x, t, s, carry, noise.stream("sampler", number))
        torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


def test_our_third_order_is_another_one() -> None:
    """The published coefficient differs from the right one by far more than any tolerance here."""
    gap = ours(DPMSolverPP(order=3), UNEVEN) - ours(DPMSolverPP(order=3, published=True), UNEVEN)
    assert gap.abs().max() > 1e-3


@pytest.mark.parametrize("levels", [SHORT, UNEVEN], ids=["even", "uneven"])
def test_euler(levels: tuple[int, ...]) -> None:
    """Euler on x / alpha in sigma / alpha is DDIM. `EulerDiscreteScheduler.step` casts to float32: 1e-4."""
    peer = diffusers.EulerDiscreteScheduler(num_train_timesteps=T, prediction_type="sample")
    peer.set_timesteps(len(levels))
    peer.timesteps, peer.sigmas = torch.tensor(levels, dtype=torch.float64) - 1, rho(levels)
    alphas = SDE_.alpha(times(levels))
    y = start(levels) / alphas[0]
    for timestep, level, alpha in zip(peer.timesteps, levels, alphas, strict=True):
        peer.scale_model_input(y, timestep)
        y = peer.step(denoise(alpha * y, level), timestep, y).prev_sample
    torch.testing.assert_close(ours(DDIM(), levels), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [SHORT, UNEVEN], ids=["even", "uneven"])
def test_heun(levels: tuple[int, ...]) -> None:
    peer = diffusers.HeunDiscreteScheduler(num_train_timesteps=T, prediction_type="sample")
    peer.set_timesteps(len(levels))
    sigmas = rho(levels)
    peer.sigmas = torch.cat((sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]))
    peer.set_begin_index(0)
    alphas = SDE_.alpha(times(levels))
    y = start(levels) / alphas[0]
    for call in range(2 * len(levels) - 1):
        place = (call + 1) // 2
        clean = denoise(alphas[place] * y, levels[place])
        y = peer.step(clean, peer.timesteps[call], y).prev_sample
    assert y.dtype == torch.float64
    torch.testing.assert_close(ours(Heun(), levels), y, rtol=1e-6, atol=1e-6)
