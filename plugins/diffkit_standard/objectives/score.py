"""Score prediction: the network guesses grad log p_t(x_t).

Trained on sigma_t^2 |F + eps/sigma_t|^2, the weight that makes every noise level count alike, and
read as the denoiser D = (x_t + sigma_t^2 F) / alpha_t.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.sde import GaussianSDE
from diffkit.selection import Selection
from diffkit_standard.objectives._noised import Times, sigma_data_field, times_field
from diffkit_standard.objectives._prediction import Prediction

__all__ = ["ScorePrediction"]

_WIDE = 1e3  # sigma_T / sigma_0 beyond which a network of plain layers cannot span the score's size


@final
@attrs.frozen(kw_only=True)
class ScorePrediction(Prediction):
    """Mean over the elements of sigma_t^2 |F(c_in x_t) - target|^2 with the target -eps/sigma_t.

    Needs a Gaussian process and a network whose output is shaped like its input; the trained model
    offers `denoise`. The network's output is of the size 1/sigma_t: where sigma_t spans decades,
    `noise`, which is this times -sigma_t, is easier to learn.
    """

    source: ClassVar[str] = (
        "Vincent 2011, Neural Computation 23(7); Song et al. 2021, arXiv 2011.13456, eq. 7"
    )

    times: Times = times_field()
    sigma_data: float | Literal["auto"] = sigma_data_field()

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        sde = selection.one("sde")
        if not isinstance(sde, GaussianSDE):
            return ()
        ends = torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64)
        least, largest = sde.sigma(ends).tolist()
        if largest / least < _WIDE:
            return ()
        sentence = (
            f"the score is of the size 1/sigma, from {1.0 / largest:.3g} to {1.0 / least:.3g} here, which a "
            "network must span by itself; the objective noise has unit size throughout"
        )
        return (sentence,)

    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return -eps / sigma

    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x + sigma**2 * output) / alpha

    def weight(self, sde: GaussianSDE, t: Tensor) -> Tensor:
        return sde.sigma(t) ** 2
