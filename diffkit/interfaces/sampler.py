"""The sampler: one step from more noise to less."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diffkit.component import Component
from diffkit.noise import Noise

if TYPE_CHECKING:
    from diffkit.problem import Problem

__all__ = ["Sampler"]


class Sampler(Component):
    """A numerical method for the reverse process. The sampling loop is the core's.

    A sampler never sees sigma = 0: the loop makes the last move, to clean data, itself. All state
    is in the carry, so an object may serve any number of runs and threads.
    """

    @abstractmethod
    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        """x_s and the next carry, from x_t.

        Args:
            problem: the model and the process; ask it for `denoise`, `eps`, `score`, `velocity`.
            x: x_t, (B, ...); not to be written to.
            t, s: 0-d float64 times, s < t (or s > t, for a deterministic sampler that encodes).
            carry: what the previous step returned; None = a cold start.
            noise: this step's own stream; draw 0, 1, ... of it are free to use.
        """

    @property
    def stochastic(self) -> bool:
        """Whether a step draws noise. A deterministic sampler provides `sampler.deterministic`."""
        return False

    @property
    def order(self) -> int:
        """The order of convergence of the bulk formula: pathwise, or weak for a stochastic sampler."""
        return 1

    @property
    def adaptive(self) -> bool:
        """Whether a step chooses inner steps of its own; its grid is then one interval by default."""
        return False

    @property
    def affine(self) -> bool:
        """Whether, for an affine denoiser, x_s is affine in x_t and the noise with fixed coefficients."""
        return not self.adaptive

    @property
    def default_grid(self) -> str:
        """The name of the grid that suits the method."""
        return "uniform"

    @property
    def default_steps(self) -> int:
        """How many denoiser calls (for a one-call method) give a decent sample."""
        return 50

    @property
    def provides(self) -> frozenset[str]:
        kind = "sampler.stochastic" if self.stochastic else "sampler.deterministic"
        pace = "sampler.adaptive" if self.adaptive else "sampler.fixed-steps"
        return frozenset({kind, pace})

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        """Mean (B, ...) and standard deviation (0-d or (B,)) of x_s given x_t.

        Only where the step is a Gaussian transition (`sampler.transition` is then provided).
        """
        raise TypeError(f"a step of {type(self).__name__} is not one Gaussian transition")
