"""The threshold: what is clamped and what is left alone, under every kind of model and sampler."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit import compatibility
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.model import Model
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling import SampleResult
from diffkit.testing.exact import ExactModel, MixtureProblem
from diffkit_standard.conditioners.class_guidance import ClassGuidance
from diffkit_standard.conditioners.threshold import Threshold
from diffkit_standard.samplers.ddim import DDIM
from diffkit_standard.sdes.vp import VP

VP_LINEAR = VP()
WIDE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.8] * 4, [1.5] * 4], variances=[0.3, 0.5])
"""Data that leave [-1, 1]."""

NOISE = Noise(seed=1, index=torch.arange(6))


def test_static_clamps_every_element_to_the_range() -> None:
    clean = torch.tensor([[-3.0, -0.5, 0.25, 9.0]])
    clamped = Threshold(low=-0.75, high=0.5).clamped(clean)
    assert clamped.tolist() == [[-0.75, -0.5, 0.25, 0.5]]


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.995, 1.0])
def test_dynamic_is_the_percentile_rule_sample_by_sample(percentile: float) -> None:
    clean = 1.5 * NOISE.normal((6, 3, 5, 5), dtype=torch.float64)
    clean[0] *= 0.1  # this one does not exceed
    found = Threshold(method="dynamic", percentile=percentile).clamped(clean).numpy()
    for sample, result in zip(clean.numpy(), found, strict=True):
        q = max(1.0, float(np.quantile(np.abs(sample), percentile)))
        np.testing.assert_allclose(result, np.clip(sample, -q, q) / q, rtol=1e-12)
    assert np.abs(found).max() <= 1.0


def test_dynamic_in_another_range_is_the_same_rule_on_scaled_data() -> None:
    clean = 1.5 * NOISE.normal((6, 8), dtype=torch.float64)
    plain = Threshold(method="dynamic", percentile=0.8).clamped(clean)
    moved = Threshold(method="dynamic", percentile=0.8, low=0.0, high=255.0).clamped(127.5 * (clean + 1.0))
    torch.testing.assert_close(moved, 127.5 * (plain + 1.0))


def test_gradients_pass_where_nothing_is_clamped() -> None:
    clean = torch.zeros(2, 5, requires_grad=True)
    Threshold(method="dynamic").clamped(clean).sum().backward()
    assert clean.grad is not None
    assert clean.grad.tolist() == [[1.0] * 5] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_the_dtype_is_kept(method: Literal["static", "dynamic"], dtype: torch.dtype) -> None:
    clamped = Threshold(method=method).clamped(torch.linspace(-2.0, 2.0, 12, dtype=dtype).reshape(2, 6))
    assert clamped.dtype == dtype
    assert clamped.abs().max() == 1.0


@pytest.mark.parametrize(
    "sampler", ["ddim", "dpm-solver++", "ancestral", "sa-solver", "heun", "probability-flow"]
)
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_where_nothing_exceeds_it_changes_no_bit(method: str, sampler: str) -> None:
    range_ = {"low": -50.0, "high": 50.0}
    bent = _sample(sampler, [{"name": "threshold", "method": method, **range_}])
    torch.testing.assert_close(bent.x, _sample(sampler, []).x, rtol=0.0, atol=0.0)


def test_a_state_in_the_range_is_left_as_it_is() -> None:
    bent = _sample("ancestral", [Threshold(method="state", low=-50.0, high=50.0)])
    torch.testing.assert_close(bent.x, _sample("ancestral", []).x, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("method", ["static", "dynamic", "state"])
@pytest.mark.parametrize(
    "sampler", ["euler-maruyama", "ddim", "dpm-solver++", "ancestral", "langevin", "heun"]
)
def test_samples_end_in_the_range(method: str, sampler: str) -> None:
    assert _sample(sampler, []).x.abs().max() > 1.2
    bent = _sample(sampler, [{"name": "threshold", "method": method}])
    assert bent.x.abs().max() <= 1.0
    assert bent.nfe == _sample(sampler, []).nfe


def test_noise_is_derived_again_from_the_clamped_clean_sample() -> None:
    """DDIM's step with D clamped and eps_hat = (x - alpha D) / sigma of the clamped D."""
    sde = VP_LINEAR
    t, s = torch.tensor([0.3, 0.2], dtype=torch.float64)
    x = WIDE.draw_at(sde, t, NOISE)
    problem = Problem.build(WIDE.model(sde), sde, (t, s), NOISE.index, x, (Threshold(),))
    clean = WIDE.denoise(sde, x, t).clamp(-1.0, 1.0)
    assert not torch.equal(clean, WIDE.denoise(sde, x, t))
    eps = (x - sde.alpha(t) * clean) / sde.sigma(t)
    stepped, _ = DDIM().step(problem, x, t, s, None, NOISE)
    torch.testing.assert_close(stepped, sde.alpha(s) * clean + sde.sigma(s) * eps)
    torch.testing.assert_close(problem.score(x, t), -eps / sde.sigma(t))


def test_a_score_is_clamped_through_its_denoiser() -> None:
    sde = VP_LINEAR
    by_denoiser = _sample("ddim", [Threshold()])
    by_score = diffkit.sample(
        score=lambda x, t: WIDE.score(sde, x, t),
        sde=sde,
        sampler="ddim",
        steps=12,
        shape=(6, 4),
        dtype=torch.float64,
        conditioners=[Threshold()],
    )
    torch.testing.assert_close(by_score.x, by_denoiser.x, rtol=1e-9, atol=1e-9)


def test_the_state_is_clamped_after_every_step_and_not_before_the_first() -> None:
    result = _sample("ancestral", [Threshold(method="state")], trajectory=True)
    assert result.trajectory is not None
    assert result.trajectory[0].abs().max() > 1.0
    assert result.trajectory[1:].abs().amax(dim=(1, 2)).tolist() == [1.0] * 12


@pytest.mark.parametrize("method", ["static", "dynamic", "state"])
@pytest.mark.parametrize("sampler", ["dpm-solver++", "sa-solver"])
def test_the_batch_makes_no_difference(sampler: str, method: Literal["static", "dynamic", "state"]) -> None:
    bends = [Threshold(method=method, low=-2.0, high=2.0)]
    whole, alone = _sample(sampler, bends), _sample(sampler, bends, batch_size=1)
    torch.testing.assert_close(whole.x, alone.x, rtol=1e-9, atol=1e-9)


def test_adaptive_steps_clamp_each_sample_at_its_own_time() -> None:
    bends = [Threshold(method="dynamic", percentile=0.7)]
    sampler = {"name": "probability-flow", "method": "rk45", "rtol": 1e-3, "atol": 1e-3}
    whole, alone = _sample(sampler, bends), _sample(sampler, bends, batch_size=1)
    torch.testing.assert_close(whole.x, alone.x, rtol=1e-9, atol=1e-9)


def test_labels_reach_the_model_behind_it() -> None:
    seen: list[Tensor] = []

    class Labelled(Model):
        offers = frozenset({"denoise"})
        classes, capabilities = 3, frozenset({"model.labels"})

        def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
            assert label is not None
            seen.append(label)
            return 5.0 * torch.ones_like(x)

    bends = [Threshold(), ClassGuidance(label=(2, 0))]
    result = diffkit.sample(Labelled(), sde="vp", sampler="ddim", steps=2, shape=(3, 2), conditioners=bends)
    assert [label.tolist() for label in seen] == [[2, 0, 2], [2, 0, 2]]
    assert result.x.tolist() == [[1.0, 1.0]] * 3


def test_guidance_after_the_threshold_is_worth_a_word() -> None:
    def said(*bends: object) -> list[str]:
        findings = compatibility.check(compatibility.Selection.of(*bends))
        return [finding.reason for finding in findings if finding.subject == "threshold"]

    guidance = ClassGuidance(label=1, scale=3.0)
    assert said(guidance, Threshold()) == []
    assert "out of the range" in said(Threshold(), guidance)[0]
    assert "order 1" in said(Threshold(method="state"))[0]


def test_what_cannot_be_clamped_is_refused() -> None:
    class Energy(Model):
        offers = frozenset({"energy"})

    with pytest.raises(IncompatibleError, match="method: state"):
        diffkit.sample(Energy(), sde="vp", sampler="ddim", steps=2, shape=(1, 2), conditioners=[Threshold()])
    with pytest.raises(ConfigError, match="high"):
        diffkit.create("conditioner", "threshold", low=2.0)
    with pytest.raises(ConfigError, match="percentile"):
        diffkit.create("conditioner", "threshold", percentile=0.0)


def _sample(sampler: object, conditioners: list[object], **options: object) -> SampleResult:
    model: ExactModel = WIDE.model(VP_LINEAR)
    return diffkit.sample(
        model,
        sampler=sampler,
        steps=None if isinstance(sampler, dict) else 12,
        grid="uniform",
        shape=(6, 4),
        dtype=torch.float64,
        conditioners=conditioners,
        **options,  # type: ignore[arg-type]
    )
