"""Preconditioned denoising: the network guesses what a linear denoiser leaves over, at unit variance.

In y = x_t / alpha_t and s = sigma_t / alpha_t, whatever the process,

    D = c_skip y + c_out F(c_in y),   c_skip = sd^2 / (s^2 + sd^2),   c_out = s sd / sqrt(s^2 + sd^2),
                                      c_in = 1 / sqrt(s^2 + sd^2),    c_noise = log(s) / 4,

sd being sigma_data. The loss (s^2 + sd^2)/(s sd)^2 |D - x_0|^2 is |F - (x_0 - c_skip y)/c_out|^2,
whose target has unit variance. The networks form c_noise from the level's rates.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
import torch
from torch import Tensor

from diffkit_standard.objectives._noised import Times, sigma_data_field, times_field
from diffkit_standard.objectives._prediction import Prediction

__all__ = ["EDM"]


@final
@attrs.frozen(kw_only=True)
class EDM(Prediction):
    """Mean over the elements of (s^2 + sd^2)/(s sd)^2 |D(x_t) - x_0|^2, at log-normal noise levels.

    Needs a Gaussian process and a network whose output is shaped like its input; the trained model
    offers `denoise`. Made for `ve` with the schedule `edm`, and right on every Gaussian process.
    """

    source: ClassVar[str] = "Karras et al. 2022, arXiv 2206.00364, table 1 and appendix B.6"

    times: Times = times_field("log-normal")
    sigma_data: float | Literal["auto"] = sigma_data_field()

    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        # (x_0 - c_skip y) / c_out with y = x_0 + s eps put in, which would cancel for small s.
        s, sd = sigma / alpha, self.scale()
        return (s * x_0 - sd**2 * eps) / (sd * torch.sqrt(s**2 + sd**2))

    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        s, sd = sigma / alpha, self.scale()
        total = s**2 + sd**2
        c_skip, c_out = sd**2 / total, s * sd / torch.sqrt(total)
        return c_skip * (x / alpha) + c_out * output
