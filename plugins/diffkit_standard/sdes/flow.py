"""dx = -x/(1 - t) dt + sqrt(2t/(1 - t)) dw: alpha = 1 - t, sigma = t."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.sde import GaussianSDE
from diffkit.tensors import float64

__all__ = ["Flow"]


@final
@attrs.frozen(kw_only=True)
class Flow(GaussianSDE):
    """The straight path of flow matching: x_t = (1 - t) x_0 + t eps. It takes no schedule.

    f = -1/(1 - t), g^2 = 2t/(1 - t), alpha' = -1, sigma' = 1, t = sigmoid(-lambda/2). f and g have a pole
    at t = 1, alpha' x0_hat + sigma' eps_hat = eps_hat - x0_hat has none. Used from t = 0.001 to 0.999.

    Source: Lipman et al. 2023, arXiv 2210.02747, section 4.1 (optimal transport, sigma_min = 0; its time
    runs the other way); Liu et al. 2023, arXiv 2209.03003.
    """

    source: ClassVar[str] = "Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003"

    @property
    def t_min(self) -> float:
        return 1e-3

    @property
    def t_max(self) -> float:
        return 0.999

    @float64
    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    @float64
    def sigma(self, t: Tensor) -> Tensor:
        return t.clone()

    @float64
    def log_snr(self, t: Tensor) -> Tensor:
        return 2.0 * (torch.log1p(-t) - torch.log(t))

    @float64
    def time_of(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * log_snr)

    @float64
    def drift_rate(self, t: Tensor) -> Tensor:
        return -1.0 / (1.0 - t)

    @float64
    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(2.0 * t / (1.0 - t))

    @float64
    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -1.0)

    @float64
    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)
