"""Sample prediction: the network guesses the data.

Trained on weight |F - x_0|^2, and read as the denoiser D = F. The weight is 1, the signal-to-noise
ratio alpha^2/sigma^2 (noise prediction's own weight), or that ratio up to `gamma`.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import gt, in_
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.sde import GaussianSDE
from diffkit_standard.objectives._noised import Times, sigma_data_field, times_field
from diffkit_standard.objectives._prediction import Prediction

__all__ = ["SamplePrediction"]


@final
@attrs.frozen(kw_only=True)
class SamplePrediction(Prediction):
    """Mean over the elements of weight |F(c_in x_t) - x_0|^2.

    Needs a Gaussian process and a network whose output is shaped like its input; the trained model
    offers `denoise`. Good where noise is large, since D is never divided by alpha.
    """

    source: ClassVar[str] = (
        "Salimans and Ho 2022, arXiv 2202.00512, section 4; Hang et al. 2023, arXiv 2303.09556"
    )

    weighting: Literal["unit", "snr", "min-snr"] = parameter(
        "weight of a noise level: 1; alpha^2/sigma^2; or the lesser of alpha^2/sigma^2 and gamma",
        "unit",
        validator=in_(("unit", "snr", "min-snr")),
    )
    gamma: float = parameter("largest weight under min-snr", 5.0, validator=gt(0.0))
    times: Times = times_field()
    sigma_data: float | Literal["auto"] = sigma_data_field()

    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x_0

    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return output

    def weight(self, sde: GaussianSDE, t: Tensor) -> Tensor:
        if self.weighting == "unit":
            return torch.ones_like(t)
        snr = torch.exp(sde.log_snr(t))
        return snr if self.weighting == "snr" else snr.clamp(max=self.gamma)
