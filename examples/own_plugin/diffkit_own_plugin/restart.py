"""Restart: up again with fresh noise, and down anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import attrs
from attrs.validators import ge
from diffkit.component import parameter
from diffkit.interfaces.conditioner import Conditioner, Move
from torch import Tensor


@final
@attrs.frozen(kw_only=True)
class Restart(Conditioner):
    """From `low` samples return to `high`, `rounds` times: noise drawn late corrects errors made early."""

    source: ClassVar[str] = "Xu et al. 2023, arXiv 2306.14878"

    low: float = parameter("the time that is gone back from", 0.1, validator=ge(0.0))
    high: float = parameter("the time that is gone back to", 0.4, validator=ge(0.0))
    rounds: int = parameter("how often", 2, validator=ge(0))

    def plan(self, times: Sequence[Tensor | None]) -> Sequence[Move]:
        down = [(position, position + 1) for position in range(len(times) - 1)]
        inside = [i for i, t in enumerate(times) if t is not None and self.low <= t <= self.high]
        first, last = (inside[0], inside[-1]) if inside else (0, 0)
        again = [(last, first), *down[first:last]] if first < last else []
        return [*down[:last], *self.rounds * again, *down[last:]]
