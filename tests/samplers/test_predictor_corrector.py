"""Predictor-corrector sampling: what the predictor is worth alone, and what the corrector does to it."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.testing.exact import GaussianProblem
from diffkit.testing.order import measure_order


def test_without_corrections_it_is_its_predictor_history_and_all() -> None:
    sampler = diffkit.create("sampler", "predictor-corrector", predictor="dpm-solver++", corrector_steps=0)
    sde = diffkit.create("sde", "vp")
    assert sampler.order == 2
    assert measure_order(sampler, sde).order == pytest.approx(2.0, abs=0.25)


def test_the_corrector_leaves_the_law_of_many_dimensions() -> None:
    """At D = 64 Langevin's own bias, from its step of 2 snr^2 variances, is a few per cent."""
    problem = GaussianProblem(mean=[0.2] * 64, covariance=(0.25 * torch.eye(64)).tolist())
    sde = diffkit.create("sde", "vp")
    sampler = {"name": "predictor-corrector", "corrector_steps": 2}
    x = diffkit.sample(problem.model(sde), sde=sde, sampler=sampler, steps=100, shape=(512, 64)).x
    assert float(x.mean()) == pytest.approx(0.2, abs=0.02)
    assert float(x.std()) == pytest.approx(0.5, rel=0.06)
