"""Wrong energy-based models: a process that rests, its sampler, and what teaches it."""

from __future__ import annotations

from functools import partial

from mutation import Mutant
from torch import Tensor

Mutated = partial(Mutant, package="diffkit_energy")
LANGEVIN, OVERDAMPED = "sdes.langevin Langevin", "samplers.overdamped_langevin OverdampedLangevin"
DIVERGENCE = "objectives.contrastive_divergence ContrastiveDivergence"
CNN = "networks.energy_cnn EnergyCNN"
SLOPE, SINK, STATE = "score-is-the-slope", "data-sink-and-samples-rise", "state-carries-on"
MODEL, JITTER = "_energy(module, x), device", 'noise.stream("jitter").normal_like(batch.x)'


def skewed(x: Tensor) -> Tensor:
    """A well about 1 in the first element, flat in the others."""
    return (x.flatten(1)[:, 0] - 1.0) ** 2


VISCOUS, WARM = ({"potential": skewed, field: 2.0} for field in ("friction", "temperature"))

ENERGIES = (
    Mutated(LANGEVIN, "return torch.full_like(t, math", "return t * torch.full_like(t, math", "stationary"),
    Mutated(LANGEVIN, "return torch.full_like(t, math", "return -torch.full_like(t, math", "stationary"),
    Mutated(LANGEVIN, "/ self.friction\n", "/ self.friction * t\n", "stationary", {"potential": skewed}),
    Mutated(
        LANGEVIN,
        "return -gradient(self._given(), x)",
        "return -gradient(self._given(), x).roll(1, 1) * x",
        "stationary",
        {"potential": skewed},
    ),
    Mutated(LANGEVIN, "return -gradient", "return gradient", "own-law", {"potential": skewed}),
    Mutated(LANGEVIN, "math.sqrt(2.0 * self", "math.sqrt(self", "own-law", {"potential": skewed}),
    Mutated(LANGEVIN, "temperature / self.friction))", "temperature))", "own-law", VISCOUS),
    Mutated(LANGEVIN, ", x) / self.friction", ", x)", "own-law", VISCOUS),
    Mutated(LANGEVIN, "potential(x) / self.temperature", "potential(x)", "own-law", WARM),
    Mutated(LANGEVIN, ", x) / self.friction", ", x)", "other-parameters", {"potential": skewed}),
    Mutated(LANGEVIN, "noise.uniform(shape, dtype=dtype", "torch.rand(shape, dtype=dtype", "prior"),
    Mutated(OVERDAMPED, "x + expand(a, x) * force", "x - expand(a, x) * force", "samples-the-law"),
    Mutated(OVERDAMPED, "(2.0 * heat * a).sqrt()", "(0.5 * heat * a).sqrt()", "samples-the-law"),
    Mutated(OVERDAMPED, "noise.normal_like(x)", "torch.randn_like(x)", "global-random-state"),
    Mutated(OVERDAMPED, "!= 0.0", "!= 1.0", "deterministic-means-seedless", {"temperature": 0.0}),
    Mutated(OVERDAMPED, "problem.score(x, t)", "-problem.counted._model.energy(x)[:, None]", "honest-nfe"),
    Mutated(CNN, "energy.squeeze(1)", "energy", "output-shape"),
    Mutated(CNN, "self.layers(x)", "self.layers(x - x.mean(0))", "batch-independent"),
    Mutated(
        DIVERGENCE,
        "return -gradient(self.function, x)",
        "return gradient(self.function, x)",
        SLOPE,
        helpers=("energies",),
    ),
    Mutated(
        DIVERGENCE,
        "_energy(module, x), device",
        "_energy(module, x.detach()).sum(), device",
        SLOPE,
    ),
    Mutated(DIVERGENCE, "loss = low - high", "loss = high - low", SINK),
    Mutated(DIVERGENCE, "loss = low - high", "loss = low.square()", SINK),
    Mutated(DIVERGENCE, MODEL, "-_energy(module, x), device", SINK),
    Mutated(DIVERGENCE, "chains.index_copy(0", "chains.index_copy_(0", STATE),
    Mutated(
        DIVERGENCE,
        'noise.stream("jitter").normal_like(batch.x)',
        "torch.randn_like(batch.x)",
        STATE,
    ),
    Mutated(DIVERGENCE, JITTER, JITTER + ".flip(0)", STATE),
    Mutated(DIVERGENCE, "data = batch.x + self", "data = batch.x.zero_() + self", "batch-is-left-alone"),
)
