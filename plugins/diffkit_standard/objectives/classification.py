"""Classification of noised data: the network guesses the class of x_t, at every noise level.

Trained on -log p(y | x_t), where p is the softmax of the network's output. The gradient of log p(y | x_t)
is what `classifier-guidance` adds to the score.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.component import Requirement
from diffkit.errors import ConfigError
from diffkit.interfaces.model import Model
from diffkit.interfaces.objective import State
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.selection import Selection
from diffkit_standard.objectives._noised import (
    NoisedObjective,
    Times,
    gaussian,
    sigma_data_field,
    times_field,
)

__all__ = ["Classification"]


@final
@attrs.frozen(kw_only=True)
class Classification(NoisedObjective):
    """Cross-entropy -log p(y | x_t) of each example, at random times; 0 where there is no label.

    Needs a Gaussian process, labels, and a network with one output a class; the trained model offers
    `logits` and cannot be sampled from. The log tells the share of a batch that is classified rightly,
    over all noise levels.
    """

    source: ClassVar[str] = (
        "Song et al. 2021, arXiv 2011.13456, appendix I; Dhariwal and Nichol 2021, arXiv 2105.05233, sec. 4"
    )

    times: Times = times_field()
    sigma_data: float | Literal["auto"] = sigma_data_field()

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"model.logits"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.gaussian",
                reason="data are noised at the rates alpha_t and sigma_t",
                remedy="choose a process with Gaussian marginals, such as vp",
            ),
            Requirement(
                "network.logits-output",
                reason="the prediction is one number a class",
                remedy="choose the network classifier, or mlp with output: logits",
            ),
            Requirement(
                "model.labels",
                reason="a classifier learns from labels",
                remedy="set training.labels: true",
            ),
        )

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        if "model.unconditional" not in (selection.model or frozenset()):
            return ()
        return ("hidden labels teach a classifier nothing: set training.label_dropout: 0",)

    def loss(
        self, module: nn.Module, sde: SDE, batch: Batch, noise: Noise, state: State
    ) -> tuple[Tensor, State, dict[str, float]]:
        """The loss of each example, (B,); no state; `accuracy` for the log.

        Raises:
            ConfigError: a batch without labels.
        """
        if batch.label is None:
            raise ConfigError(
                "The objective classification was given examples without labels",
                "a class for every example",
                "Set training.labels: true",
            )
        process = gaussian(sde)
        t = self.draw_times(process, noise, batch.x.device)
        x_t = process.perturb(batch.x, t, noise.stream("eps").normal_like(batch.x))
        logits = self.output(module, process, x_t, t, None)
        loss = nn.functional.cross_entropy(logits, batch.label, ignore_index=-1, reduction="none")
        hits = (logits.detach().argmax(1) == batch.label).sum()
        known = (batch.label >= 0).sum().clamp(min=1)
        return loss, state, {"accuracy": float(hits / known)}

    def model(self, module: nn.Module, sde: SDE) -> Model:
        return _Classifier(module=module, sde=gaussian(sde), objective=self)


@attrs.frozen(kw_only=True, eq=False)
class _Classifier(Model):
    offers: frozenset[str] = frozenset({"logits"})
    module: nn.Module
    sde: GaussianSDE
    objective: Classification

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        return self.objective.output(self.module, self.sde, x, t.to(torch.float64), None)
