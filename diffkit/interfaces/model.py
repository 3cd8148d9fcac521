"""What a sampler sees of a network, a checkpoint or a formula."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.interfaces.sde import SDE

__all__ = ["Model"]


class Model:
    """Something that knows about the data: a denoiser, a score, an energy, a classifier.

    A subclass names what it `offers` and defines those methods. `t` is 0-d when the batch shares a
    time, else (B,). `label` is (B,) int64 with -1 = none; None = all -1.
    """

    offers: frozenset[str] = frozenset()
    """Of `denoise`, `score`, `energy`, `logits`."""

    classes: int | None = None
    """How many classes the model was trained to be conditioned on (or to tell apart), if any."""

    capabilities: frozenset[str] = frozenset()
    """`model.*` capabilities beyond the offers, such as `model.labels` and `model.unconditional`."""

    sde: SDE | None = None
    """The process the model was made for; None = the caller must say."""

    device: torch.device | None = None
    """Where the model computes; None = wherever its input is."""

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """x0_hat = E[x_0 | x_t = x], shaped like `x`."""
        raise self._missing("denoise")

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """grad_x log p_t(x), shaped like `x`."""
        raise self._missing("score")

    def energy(self, x: Tensor) -> Tensor:
        """E(x) with p(x) proportional to exp(-E(x)), shape (B,)."""
        raise self._missing("energy")

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        """Unnormalised log p(label | x_t = x), shape (B, classes)."""
        raise self._missing("logits")

    @property
    def provides(self) -> frozenset[str]:
        """The offers and further capabilities, as the compatibility check reads them."""
        return frozenset(f"model.{offer}" for offer in self.offers) | self.capabilities

    def _missing(self, offer: str) -> TypeError:
        return TypeError(f"{type(self).__name__} offers {sorted(self.offers) or 'nothing'}, not {offer!r}")
