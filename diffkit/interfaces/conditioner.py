"""The conditioner: what bends sampling towards a label, a measurement or a range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from diffkit.component import Component
from diffkit.interfaces.model import Model
from diffkit.noise import Noise

if TYPE_CHECKING:
    from diffkit.interfaces.dataset import Dataset
    from diffkit.problem import Problem

__all__ = ["Conditioner", "Exactness", "Move"]

Move = tuple[int, int]
"""Positions (from, to) in the run's times; `to < from` is a move upwards, a re-noising."""

Exactness = Literal["exact", "asymptotic", "approximate"]


class Conditioner(Component):
    """Acts on the model (guidance), between steps (imputation), or on the plan (resampling).

    Several compose: `wrap` from the first (innermost) to the last, `after_step` in list order. At
    most one of a run changes the plan.
    """

    @property
    def exactness(self) -> Exactness:
        """Whether samples follow the conditional law: always, in a stated limit, or not."""
        return "approximate"

    @property
    def particles(self) -> int:
        """How many particles carry each sample; the loop folds them into the batch.

        After the last `after_step` every particle must be a fair draw; the loop keeps the first.
        """
        return 1

    def prepared(self, dataset: Dataset) -> Conditioner:
        """This conditioner with what it takes from files or from the data set, in the model's units."""
        return self

    def wrap(self, model: Model, problem: Problem) -> Model:
        """The model as this conditioner changes it. `problem.index` tells the samples of the batch."""
        return model

    def after_step(
        self,
        problem: Problem,
        x_t: Tensor | None,
        x_s: Tensor,
        t: Tensor | None,
        s: Tensor | None,
        memory: Any,
        noise: Noise,
    ) -> tuple[Tensor, Any]:
        """The state after a downward move, and the memory for the next call.

        Called at the start (x_t and t None, memory None), after every downward move, and after the
        final denoise (s None: x_s is clean). Returning `x_s` itself means nothing was changed;
        another tensor makes the loop drop the sampler's carry.
        """
        return x_s, memory

    def plan(self, times: Sequence[Tensor | None]) -> Sequence[Move]:
        """The moves of the run, by default each to the next. The loop makes the upward ones."""
        return [(position, position + 1) for position in range(len(times) - 1)]

    def labels(self, index: Tensor, classes: int | None) -> Tensor | None:
        """(B,) int64: the class this conditioner asks for, sample by sample; None = no class.

        Recorded beside the samples, and handed to metrics.
        """
        return None
