"""The objective: what a network is trained to predict, and how to read the prediction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.component import Component
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise

if TYPE_CHECKING:
    from diffkit.statistics import DataStatistics

__all__ = ["Objective", "State"]

State = Mapping[str, Tensor] | None
"""What an objective keeps between steps (a replay buffer); saved with every checkpoint."""


class Objective(Component):
    """The two sides of one parameterisation: `loss` trains a module, `model` makes it a model.

    Must hold for every process, also where alpha^2 + sigma^2 is not 1, and hands the network
    inputs of about unit variance.
    """

    @abstractmethod
    def loss(
        self, module: nn.Module, sde: SDE, batch: Batch, noise: Noise, state: State
    ) -> tuple[Tensor, State, dict[str, float]]:
        """The loss of each example, (B,); the next state; further figures for the log.

        `noise` is keyed by seed and step, and indexed by each example's place in the global batch;
        `batch.label` is already dropped to -1 where label dropout says so.
        """

    @abstractmethod
    def model(self, module: nn.Module, sde: SDE) -> Model:
        """The trained module as samplers see it."""

    @property
    def stateful(self) -> bool:
        """Whether `loss` keeps state; refused under several processes or gradient accumulation."""
        return False

    def resolved(self, statistics: DataStatistics) -> Objective:
        """This objective with every field that is `auto` set from the training data."""
        return self
