"""The laws have teeth: wrong variants of built-in components, each broken by the law that is named.

A mutant is a component's source with one piece of text replaced: a sign, a missing half, sigma_t for sigma_s,
an index off by one.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from diffkit.component import Component
from diffkit.testing import Law, LawBroken, laws


@attrs.frozen
class Mutant:
    """In the source of `target`, a module of `diffkit_standard` and its class, `old` becomes `new`."""

    target: str
    old: str
    new: str
    law: str
    fields: dict[str, Any] = attrs.field(factory=dict)

    @property
    def module(self) -> str:
        return self.target.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.target.partition(" ")[2]

    @property
    def kind(self) -> str:
        return self.module.partition(".")[0].removesuffix("s")


DDIM, DPM, EM = (
    "samplers.ddim DDIM",
    "samplers.dpm_solver_pp DPMSolverPP",
    "samplers.euler_maruyama EulerMaruyama",
)
DEIS = "samplers.exponential_integrator ExponentialIntegrator"
PC = "samplers.predictor_corrector PredictorCorrector"
LINEAR, COSINE = "schedules.linear Linear", "schedules.cosine Cosine"
GEOMETRIC = "schedules.geometric Geometric"
NOISE = "objectives.noise NoisePrediction"

MUTANTS = (
    Mutant(LINEAR, "0.5 * t * (self", "t * (self", "rate-is-derivative"),
    Mutant(LINEAR, "2.0 * integral / (", "integral / (", "time-inverts"),
    Mutant(LINEAR, "self.beta_min + t *", "self.beta_max - t *", "rate-is-derivative"),
    Mutant(COSINE, "tan(self._d(t)", "tan(0.5 * self._d(t)", "rate-is-derivative"),
    Mutant(COSINE, "return 0.9946", "return 1.2", "range-of-times"),
    Mutant(GEOMETRIC, "return 2.0 * self", "return self", "rate-is-derivative"),
    Mutant(GEOMETRIC, "return 0.0", "return -0.1", "range-of-times"),
    Mutant("sdes.vp VP", "torch.exp(-0.5 * self", "torch.exp(-self", "moment-equations"),
    Mutant("sdes.vp VP", "return -0.5 * self", "return 0.5 * self", "moment-equations"),
    Mutant("sdes.vp VP", "return -B - torch.log", "return B - torch.log", "log-snr"),
    Mutant("sdes.vp VP", "torch.sqrt(self.schedule.rate(t))", "self.schedule.rate(t)", "moment-equations"),
    Mutant("sdes.vp VP", "torch.expm1(-self", "torch.expm1(-2.0 * self", "log-snr"),
    Mutant("sdes.sub_vp SubVP", "expm1(-2.0 *", "expm1(-1.0 *", "moment-equations"),
    Mutant("sdes.sub_vp SubVP", "torch.asinh(0.5 *", "torch.asinh(1.0 *", "time-inverts"),
    Mutant("sdes.sub_vp SubVP", "-B - 2.0 * torch.log", "-B - torch.log", "log-snr"),
    Mutant("sdes.ve VE", "torch.sqrt(self.schedule.rate(t))", "self.schedule.rate(t)", "fokker-planck"),
    Mutant("sdes.ve VE", "torch.exp(-log_snr)", "torch.exp(-0.5 * log_snr)", "time-inverts"),
    Mutant(EM, "drift(x, t) -", "drift(x, t) +", "weak-order"),
    Mutant(EM, "g * dt.abs().sqrt()", "g * dt.abs()", "weak-order"),
    Mutant(EM, "- expand(g**2", "- 0.5 * expand(g**2", "weak-order"),
    Mutant(EM, "noise.normal_like(x)", "__import__('torch').randn_like(x)", "global-random-state"),
    Mutant(DDIM, "sde.alpha(s), x) * clean", "sde.alpha(t), x) * clean", "order"),
    Mutant(DDIM, "sigma_t, sigma_s = sde", "sigma_s, sigma_t = sde", "order"),
    Mutant(DDIM, "sigma_s**2 - deviation**2", "sigma_s**2 + deviation**2", "weak-order", {"eta": 0.6}),
    Mutant(DDIM, "expand(kept, x) * eps", "expand(sigma_s, x) * eps", "weak-order", {"eta": 0.6}),
    Mutant(DDIM, "return self.eta > 0.0", "return True", "deterministic-means-seedless"),
    Mutant(DPM, "(0.5 * h / ", "(1.0 * h / ", "order"),
    Mutant(DPM, "(0.5 * h / (here - before))", "0.5", "order"),
    Mutant(DPM, "sde.sigma(s) / sde.sigma(t)", "sde.sigma(t) / sde.sigma(s)", "order"),
    Mutant(DPM, "r0 / (r0 + r1)", "r1 / (r0 + r1)", "order", {"order": 3}),
    Mutant(DPM, "else 2.0)", "else 1.0)", "order", {"order": 3}),
    Mutant(DPM, "torch.expm1(-2.0 * h)", "torch.expm1(-h)", "weak-order", {"variant": "sde"}),
    Mutant(DEIS, "- value_t * rho_t", "+ value_t * rho_t", "order"),
    Mutant(DEIS, "-(1.0 + self.eta**2) * h", "-(0.5 + self.eta**2) * h", "weak-order", {"eta": 1.0}),
    Mutant("samplers.probability_flow ProbabilityFlow", "return 5 if", "return 3 if not", "order"),
    Mutant(PC, "expand(e, x) * score", "expand(-e, x) * score", "samples-the-law"),
    Mutant(PC, "(2.0 * e).sqrt()", "(18.0 * e).sqrt()", "samples-the-law"),
    Mutant("grids.uniform Uniform", "steps + 1, dtype", "steps, dtype", "count-and-dtype"),
    Mutant("grids.uniform Uniform", "start, stop, steps", "stop, start, steps", "strictly-decreasing"),
    Mutant("grids.log_snr LogSNR", "times[0], times[-1] = start, stop", "pass", "exact-ends"),
    Mutant(
        "conditioners.class_guidance ClassGuidance",
        "index % len(wanted)",
        "torch.arange(len(index)) % len(wanted)",
        "labels-in-range",
        {"label": (0, 1, 2)},
    ),
    Mutant(NOISE, "x - sigma * output", "x + sigma * output", "zero-at-the-target", {"sigma_data": 0.7}),
)


def mutated(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> Component:
    """The wrong component, from the changed source."""
    original = importlib.import_module(f"diffkit_standard.{mutant.module}")
    assert original.__file__ is not None
    source = Path(original.__file__).read_text()
    assert mutant.old in source, f"{mutant.old!r} is no longer in {mutant.module}: plant the mutant anew"
    module = ModuleType(f"mutant_{mutant.module}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source.replace(mutant.old, mutant.new), original.__file__, "exec"), vars(module))
    component: Component = getattr(module, mutant.name)(**mutant.fields)
    return component


def law(kind: str, name: str) -> Law:
    return next(each for each in laws(kind) if each.name == name)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.name}-{m.law}-{m.new[:24]}")
def test_a_mutant_is_killed_by_its_law(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LawBroken) as caught:
        law(mutant.kind, mutant.law)(mutated(mutant, monkeypatch))
    assert "it raised" not in caught.value.counterexample
    assert caught.value.formula
    assert caught.value.law == f"{mutant.kind}-{mutant.law}"
