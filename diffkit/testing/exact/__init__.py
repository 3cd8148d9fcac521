"""Data whose diffusion is known in closed form: the oracles of every test that measures an error.

Let x_0 follow a Gaussian mixture of weights pi_k, means m_k and variances v_k. With rates a = alpha_t and
s = sigma_t the law at time t is the mixture of N(a m_k, V_k), V_k = a^2 v_k + s^2, so that

    D(x, t) = sum_k w_k [m_k + a v_k / V_k (x - a m_k)],   w = softmax(log pi_k + log N(x; a m_k, V_k)),
    score = (a D - x) / s^2.

A Gaussian with any covariance, a mixture, a kernel density of given points and a single point are offered.
Everything is computed in float64 and cast last to the dtype of `x`; an example may have any shape, of
which the problem sees the flattened elements.
"""

from __future__ import annotations

from diffkit.testing.exact.base import ExactModel, ExactProblem
from diffkit.testing.exact.gaussian import GaussianProblem
from diffkit.testing.exact.kernel_density import KernelDensityProblem
from diffkit.testing.exact.labelled import LabelledModel
from diffkit.testing.exact.mixture import MixtureProblem
from diffkit.testing.exact.point_mass import PointMass

__all__ = [
    "ExactModel",
    "ExactProblem",
    "GaussianProblem",
    "KernelDensityProblem",
    "LabelledModel",
    "MixtureProblem",
    "PointMass",
]
