"""Velocity prediction: the network guesses how noise and data change places.

Two conventions:

    vp:    target alpha eps - sigma x_0,   D = (alpha x_t - sigma F) / (alpha^2 + sigma^2)
    flow:  target eps - x_0,               D = (x_t - sigma F) / (alpha + sigma)

The first is the velocity in the angle atan(sigma/alpha), the second that of the straight path.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import in_
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.sde import GaussianSDE
from diffkit.selection import Selection
from diffkit_standard.objectives._noised import Times, sigma_data_field, times_field
from diffkit_standard.objectives._prediction import Prediction

__all__ = ["VelocityPrediction"]

_LARGE = 10.0  # sigma_T at which the loudest targets weigh a hundred times the faintest


@final
@attrs.frozen(kw_only=True)
class VelocityPrediction(Prediction):
    """Mean over the elements of |F(c_in x_t) - target|^2, D well-conditioned at every noise level.

    Needs a Gaussian process and a network whose output is shaped like its input; the trained model
    offers `denoise`.
    """

    source: ClassVar[str] = (
        "Salimans and Ho 2022, arXiv 2202.00512, appendix D; Liu et al. 2023, arXiv 2209.03003"
    )

    convention: Literal["vp", "flow"] = parameter(
        "the target: vp, alpha eps - sigma x_0; flow, eps - x_0", "vp", validator=in_(("vp", "flow"))
    )
    times: Times = times_field()
    sigma_data: float | Literal["auto"] = sigma_data_field()

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        sde = selection.one("sde")
        if self.convention == "flow" or not isinstance(sde, GaussianSDE):
            return ()
        sigma = float(sde.sigma(torch.tensor(sde.t_max, dtype=torch.float64)))
        if sigma < _LARGE:
            return ()
        sentence = (
            f"the velocity alpha eps - sigma x_0 grows with the noise, here up to sigma = {sigma:.3g}, so "
            "the noisiest levels rule the loss; convention flow or the objective edm stays at unit scale"
        )
        return (sentence,)

    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x_0 if self.convention == "flow" else alpha * eps - sigma * x_0

    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        if self.convention == "flow":
            return (x - sigma * output) / (alpha + sigma)
        return (alpha * x - sigma * output) / (alpha**2 + sigma**2)
