"""Noise prediction: the network guesses the noise that was mixed into the data.

Trained on |F - eps|^2, and read as the denoiser D = (x_t - sigma_t F) / alpha_t.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
from attrs.validators import in_
from torch import Tensor

from diffkit.component import parameter
from diffkit_standard.objectives._prediction import Prediction, Times, sigma_data_field, times_field

__all__ = ["NoisePrediction"]


@final
@attrs.frozen(kw_only=True)
class NoisePrediction(Prediction):
    """Mean over the elements of |F(c_in x_t) - eps|^2, or of the absolute difference.

    Needs a Gaussian process and a network whose output is shaped like its input; the trained model
    offers `denoise`.
    """

    source: ClassVar[str] = "Ho et al. 2020, arXiv 2006.11239, eq. 14"

    norm: Literal["l2", "l1"] = parameter(
        "l2: squared error, whose minimum is the posterior mean; l1: absolute error, the median",
        "l2",
        validator=in_(("l2", "l1")),
    )
    times: Times = times_field()
    sigma_data: float | Literal["auto"] = sigma_data_field()

    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x - sigma * output) / alpha

    def distance(self, error: Tensor) -> Tensor:
        return error.square() if self.norm == "l2" else error.abs()
