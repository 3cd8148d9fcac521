"""Streaming moments of feature vectors, and the distance of two Gaussians that have them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import torch
from torch import Tensor

from diffkit.errors import DataError

__all__ = ["Moments", "covariance_factor", "frechet"]


@attrs.frozen(kw_only=True, eq=False)
class Moments:
    """Count, mean (F,) and sum of outer products of deviations (F, F), in float64.

    Disjoint sets are merged by Chan et al. 1983, "Algorithms for computing the sample variance":
    M2 = M2_a + M2_b + n_a n_b / (n_a + n_b) d d^T with d the difference of the means.
    """

    count: int
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of (B, F) features, B >= 1."""
        values = features.detach().to(device="cpu", dtype=torch.float64)  # where sums of all sources meet
        mean = values.mean(0)
        deviations = values - mean
        return cls(count=len(values), mean=mean, m2=deviations.T @ deviations)

    def merge(self, other: Moments) -> Moments:
        count = self.count + other.count
        step = other.mean - self.mean
        weight = self.count * other.count / count
        return Moments(
            count=count,
            mean=self.mean + step * (other.count / count),
            m2=self.m2 + other.m2 + weight * torch.outer(step, step),
        )

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """All of one or more parts together."""
        first, *rest = parts
        for part in rest:
            first = first.merge(part)
        return first

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, (F, F)."""
        return self.m2 / (self.count - 1)


def covariance_factor(moments: Moments, name: str) -> Tensor:
    """A of shape (rank, F) with A^T A = covariance.

    Eigenvalues below F eps of the largest are what rounding leaves of zero; they are dropped, as
    their square roots would be eight digits larger.
    """
    if moments.count < 2:
        raise DataError(
            f"{name}: {moments.count} example(s) to take a covariance of",
            "at least 2, and for a meaningful figure more than there are features",
            "Raise `evaluation.count`",
        )
    if not (torch.isfinite(moments.mean).all() and torch.isfinite(moments.m2).all()):
        raise DataError(
            f"{name}: the features hold NaN or infinite values",
            "finite features",
            "Look at the samples: the model may have diverged",
        )
    eigenvalues, vectors = torch.linalg.eigh(moments.covariance)
    kept = eigenvalues > len(eigenvalues) * torch.finfo(torch.float64).eps * eigenvalues[-1]
    factor: Tensor = eigenvalues[kept].sqrt()[:, None] * vectors[:, kept].T
    return factor


def frechet(mean_a: Tensor, factor_a: Tensor, mean_b: Tensor, factor_b: Tensor) -> float:
    """|mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a^{1/2} S_b S_a^{1/2})^{1/2} for S = A^T A.

    The last trace is the sum of the singular values of A_a A_b^T: no square root is taken of a
    rounded eigenvalue, and low ranks make small matrices.
    """
    traces = factor_a.square().sum() + factor_b.square().sum()
    overlap = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    # Rounding can take the distance of equal moments below zero.
    return max(0.0, float((mean_a - mean_b).square().sum() + traces - 2.0 * overlap))
