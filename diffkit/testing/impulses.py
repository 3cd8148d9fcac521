"""Exact propagation of a Gaussian law through an affine sampler: no Monte Carlo.

Where the denoiser is affine (Gaussian data) and the sampler's coefficients are fixed, the end x_n of a run is
affine in its start x_0 and in every normal draw z_j, carries included:

    x_n = b + M x_0 + sum_j N_j z_j,   so   mean = b + M mean_0,   cov = M cov_0 M' + sum_j N_j N_j'.

One run of one batch yields all of it: a row of zeros gives b, a unit vector in x_0 a column of M, a unit
impulse in one draw a column of N_j.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import ExactProblem

__all__ = ["AffineMap", "Impulses", "affine_map", "propagate_moments"]

Draw = tuple[tuple[str | int, ...], int]
"""Where a draw belongs: the stream's path and the draw's number."""


@attrs.frozen(kw_only=True, eq=False)
class Impulses(Noise):
    """Noise that is zero but for chosen rows, where one element of one draw is 1.

    Args:
        at: for each draw, the rows and the elements that are set.
        asked: every draw that was asked for, in order; kept up to date.
    """

    at: dict[Draw, tuple[Tensor, Tensor]] = attrs.field(factory=dict)
    asked: list[Draw] = attrs.field(factory=list)

    def normal(
        self,
        shape: Sequence[int],
        *,
        draw: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        if (self.path, draw) not in self.asked:
            self.asked.append((self.path, draw))
        z = torch.zeros(tuple(shape), dtype=dtype, device=device)
        if (self.path, draw) in self.at:
            rows, elements = self.at[self.path, draw]
            there = elements < z[0].numel()  # a draw may be smaller than the state
            z.flatten(1)[rows[there], elements[there]] = 1.0
        return z

    def uniform(
        self,
        shape: Sequence[int],
        *,
        draw: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        raise TypeError("a sampler that draws uniform numbers is not affine in normal ones")


@attrs.frozen(kw_only=True, eq=False)
class AffineMap:
    """x_n = offset + start x_0 + sum of draws[j] z_j.

    Args:
        offset: (D,).
        start: (D, D).
        draws: (J, D, D), one matrix a draw.
        order: where each of these draws belongs.
    """

    offset: Tensor
    start: Tensor
    draws: Tensor
    order: tuple[Draw, ...]

    def moments(self, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x_n from those of x_0."""
        spread = torch.einsum("jab,jcb->ac", self.draws, self.draws)
        return self.offset + self.start @ mean, self.start @ covariance @ self.start.T + spread


def affine_map(
    sampler: Sampler,
    sde: GaussianSDE,
    problem: ExactProblem,
    times: Sequence[Tensor | None],
    shape: tuple[int, ...] | None = None,
) -> AffineMap:
    """The map of a whole run over `times`; a last None is the final denoise, as in the sampling loop.

    Args:
        shape: of the samples that the sampler is given; (D,) by default.
    """
    dim = problem.dim
    shape = (dim,) if shape is None else shape
    scout = Impulses(seed=0, index=torch.arange(1))
    _run(sampler, sde, problem, times, torch.zeros(1, *shape, dtype=torch.float64), scout)
    draws = list(scout.asked)
    rows = 1 + dim + dim * len(draws)
    x = torch.zeros(rows, dim, dtype=torch.float64)
    elements = torch.arange(dim)
    x[1 + elements, elements] = 1.0
    at = {draw: (1 + dim * (j + 1) + elements, elements) for j, draw in enumerate(draws)}
    noise = Impulses(seed=0, index=torch.arange(rows), at=at)
    end = _run(sampler, sde, problem, times, x.reshape(rows, *shape), noise).flatten(1)
    columns = (end[1:] - end[0]).reshape(1 + len(draws), dim, dim).mT
    return AffineMap(offset=end[0], start=columns[0], draws=columns[1:], order=tuple(draws))


def propagate_moments(
    sampler: Sampler,
    sde: GaussianSDE,
    problem: ExactProblem,
    times: Sequence[Tensor | None],
    initial: tuple[Tensor, Tensor] | None = None,
    shape: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) at the end of a run of an affine sampler on Gaussian data.

    Args:
        times: of the run; a last None is the final denoise.
        initial: moments at the first time; by default those of the exact marginal.
        shape: of the samples that the sampler is given; (D,) by default.
    """
    moments = problem.moments(sde, times[0]) if initial is None else initial
    return affine_map(sampler, sde, problem, times, shape).moments(*moments)


def _run(
    sampler: Sampler,
    sde: GaussianSDE,
    problem: ExactProblem,
    times: Sequence[Tensor | None],
    x: Tensor,
    noise: Noise,
) -> Tensor:
    given = Problem.build(problem.model(sde), sde, tuple(times), noise.index, x)
    carry = None
    for number, (t, s) in enumerate(itertools.pairwise(times), start=1):
        assert t is not None  # only the last time may be clean
        if s is None:
            return given.denoise(x, t)
        x, carry = sampler.step(given, x, t, s, carry, noise.stream("sampler", number))
    return x
