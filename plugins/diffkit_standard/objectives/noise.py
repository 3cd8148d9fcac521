"""Noise prediction: the network guesses the noise that was mixed into the data.

Trained on |F - eps|^2, and read as the denoiser D = (x_t - sigma_t F) / alpha_t.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import ge, in_, optional
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.sde import GaussianSDE
from diffkit.selection import Selection
from diffkit_standard.objectives._noised import Times, sigma_data_field, times_field
from diffkit_standard.objectives._prediction import Prediction

__all__ = ["NoisePrediction"]


@final
@attrs.frozen(kw_only=True)
class NoisePrediction(Prediction):
    """Mean over the elements of weight |F(c_in x_t) - eps|^2, or of the absolute difference.

    The bound's weight is -lambda'(t)/2 = g^2 / (2 sigma^2) in continuous time, and with T levels

        T/2 (e^(lambda(t - 1/T) - lambda(t)) - 1) = T beta^2 / (2 sigma_q^2 a (1 - alpha_bar)),

    a = 1 - beta and sigma_q^2 the posterior's variance; the first level takes the second's.

    Needs a Gaussian process and a network whose output is shaped like its input; the trained model
    offers `denoise`.
    """

    source: ClassVar[str] = (
        "Ho et al. 2020, arXiv 2006.11239, eq. 12 and 14; Kingma et al. 2021, arXiv 2107.00630, eq. 14 and 17"
    )

    norm: Literal["l2", "l1"] = parameter(
        "l2: squared error, whose minimum is the posterior mean; l1: absolute error, the median",
        "l2",
        validator=in_(("l2", "l1")),
    )
    weighting: Literal["unit", "bound"] = parameter(
        "weight of a time: 1, or that of the variational bound on the likelihood",
        "unit",
        validator=in_(("unit", "bound")),
    )
    levels: int | None = parameter(
        "T of the discrete bound; null = its limit of continuous time", None, validator=optional(ge(2))
    )
    times: Times = times_field()
    sigma_data: float | Literal["auto"] = sigma_data_field()

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        table = getattr(selection.one("schedule"), "beta_table", None)
        if self.weighting == "unit":
            return () if self.levels is None else ("Without weighting: bound, levels does nothing",)
        if self.levels is None or table is None or self.levels == len(table):
            return ()
        what = f"The schedule has {len(table)} levels and the bound {self.levels}"
        return (f"{what}: training weighs other terms than elbo adds up",)

    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x - sigma * output) / alpha

    def weight(self, sde: GaussianSDE, t: Tensor) -> Tensor:
        if self.weighting == "unit":
            return torch.ones_like(t)
        if self.levels is None:
            return 0.5 * (sde.diffusion(t) / sde.sigma(t)) ** 2
        at = t.clamp(min=2.0 / self.levels)  # the first level's own term is the decoder's
        before = sde.log_snr(at - 1.0 / self.levels)
        return 0.5 * self.levels * torch.expm1(before - sde.log_snr(at))

    def distance(self, error: Tensor) -> Tensor:
        return error.square() if self.norm == "l2" else error.abs()
