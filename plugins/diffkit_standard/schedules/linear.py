"""beta(t) = b0 + t (b1 - b0), B(t) = b0 t + (b1 - b0) t^2 / 2."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64


@final
@attrs.frozen(kw_only=True)
class Linear(Schedule):
    """A rate that grows linearly from `beta_min` to `beta_max`: B(1) = 10.05 by default.

    beta(t) = b0 + t (b1 - b0);  B(t) = b0 t + (b1 - b0) t^2 / 2;
    t(B) = 2 B / (b0 + sqrt(b0^2 + 2 (b1 - b0) B)).

    Source: Song et al. 2021, arXiv 2011.13456, appendix C (the continuous form of DDPM's table).
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 32"

    beta_min: float = parameter("beta(0), per unit of time", 0.1, validator=gt(0.0))
    beta_max: float = parameter("beta(1), per unit of time", 20.0, validator=gt(0.0))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving"})

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    @float64
    def integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    @float64
    def time(self, integral: Tensor) -> Tensor:
        # The usual quadratic formula cancels for small B; this form of it does not.
        root = torch.sqrt(self.beta_min**2 + 2.0 * (self.beta_max - self.beta_min) * integral)
        return 2.0 * integral / (self.beta_min + root)
