"""x - a grad E + b z: b = sqrt(2 a T), or a and b set apart, with the temperature T = b^2 / (2 a)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import ge, gt, optional
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.selection import Selection
from diffkit.tensors import expand

__all__ = ["OverdampedLangevin"]


def _alone(sampler: OverdampedLangevin, attribute: object, value: float | None) -> None:
    if value is not None and sampler.noise is not None:
        raise ValueError("the noise is given too, and sets the temperature; give one of them")


def _range(sampler: OverdampedLangevin, attribute: object, value: tuple[float, float] | None) -> None:
    if value is not None and not value[0] < value[1]:
        raise ValueError("the lower end must lie below the upper one")


@final
@attrs.frozen(kw_only=True)
class OverdampedLangevin(Sampler):
    """The unadjusted Langevin algorithm on a law that does not change, p proportional to exp(-E):

        x <- x - a grad E(x) + b z,   a = g^2 h / 2,   b = sqrt(2 a T),

    with h the `step_size`, in the time of the process, and g its diffusion (by default a = h). That is the
    Euler-Maruyama method on the process, of weak order 1. T is the `temperature`: samples are those of
    exp(-E / T); 0 is gradient descent and draws nothing. With the `noise` b given instead, the temperature is
    what follows, b^2 / (2 a), and is told with the run. Recipes for images take it far below 1: chains then
    run down into the valleys of the energy.

    `gradient_clip` holds every element of the gradient, and `clip` every element of x, to a range; either
    changes the law that is sampled.

    Source: Roberts and Tweedie 1996; a and b apart: Du and Mordatch 2019, arXiv 1903.08689.
    """

    source: ClassVar[str] = "Roberts and Tweedie 1996; Du and Mordatch 2019, arXiv 1903.08689"

    step_size: float = parameter("h, time that a step takes", 0.01, validator=gt(0.0))
    noise: float | None = parameter(
        "b, standard deviation of a step's noise; null = as the temperature has it",
        None,
        validator=optional(ge(0.0)),
    )
    temperature: float | None = parameter(
        "T, in units of the model's own; null = 1, or as the noise has it",
        None,
        validator=[optional(ge(0.0)), _alone],
    )
    gradient_clip: float | None = parameter(
        "largest size of an element of the gradient; null = any", None, validator=optional(gt(0.0))
    )
    clip: tuple[float, float] | None = parameter(
        "range that x is held to, such as that of the data; null = none", None, validator=_range
    )

    @property
    def stochastic(self) -> bool:
        return (self.temperature if self.noise is None else self.noise) != 0.0

    @property
    def affine(self) -> bool:
        return self.gradient_clip is None and self.clip is None

    @property
    def default_steps(self) -> int:
        return 1000

    @property
    def provides(self) -> frozenset[str]:
        offered = super().provides
        return offered | {"sampler.transition"} if self.clip is None else offered

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.stationary",
                reason="the steps stay at one law exp(-E), and that of this process changes with its noise",
                remedy="choose the process langevin, or the sampler langevin, which follows the noise levels",
            ),
        )

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        if selection.model is None or selection.model & {"model.score", "model.energy"}:
            return ()
        reason = "the steps follow the gradient of an energy, and the model has neither energy nor score"
        return ((reason, "give a score (score=...), or a model trained by contrastive-divergence"),)

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        if self.noise is None:
            return ()
        sde = selection.one("sde")
        step = self.step_size if sde is None else float(self._factor(sde, torch.tensor(sde.t_max)))
        heat = self.noise**2 / (2.0 * step)
        if math.isclose(heat, 1.0, rel_tol=1e-3):
            return ()
        words = f"step a = {step:g}, noise b = {self.noise:g} make the temperature b^2/(2a) = {heat:.3g}"
        return (f"{words}, where the model's own is 1",)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        a = self._factor(problem.sde, t)
        force = problem.score(x, t)
        if self.gradient_clip is not None:
            force = force.clamp(-self.gradient_clip, self.gradient_clip)
        heat = 1.0 if self.temperature is None else self.temperature
        deviation = (2.0 * heat * a).sqrt() if self.noise is None else torch.full_like(a, self.noise)
        return x + expand(a, x) * force, deviation

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        x, deviation = self.transition(problem, x, t, s, carry)
        if self.stochastic:
            x = x + expand(deviation, x) * noise.normal_like(x)
        return (x if self.clip is None else x.clamp(*self.clip)), None

    def _factor(self, sde: SDE, t: Tensor) -> Tensor:
        """a = g^2 h / 2."""
        return 0.5 * self.step_size * sde.diffusion(t) ** 2
