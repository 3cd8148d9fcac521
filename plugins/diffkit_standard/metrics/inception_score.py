"""The inception score: how sure a classifier is of each sample, and how varied it finds all of them.

IS = exp(E_x KL(p(y|x) || p(y))),   between 1 and the number of classes.
"""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from diffkit.batch import Batch
from diffkit.component import Requirement, parameter
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._groups import group_of

__all__ = ["InceptionScore"]


@attrs.frozen(kw_only=True, eq=False)
class _State:
    """For each split: count (S,), sum of p(y|x) (S, K), sum of sum_y p log p (S,); None = no batch yet."""

    context: MetricContext
    count: Tensor | None = None
    probability: Tensor | None = None
    negentropy: Tensor | None = None


@final
@attrs.frozen(kw_only=True)
class InceptionScore(Metric):
    """The mean score of disjoint splits of the samples, dealt evenly by index.

    The standard error is the splits' standard deviation over sqrt(splits); None for one split. The
    classifier is the run's feature extractor, so scores of different extractors do not compare.

    Raises:
        DataError: fewer samples than splits, logits that are not finite.
    """

    source: ClassVar[str] = "Salimans et al. 2016, arXiv 1606.03498, section 4"

    splits: int = parameter("parts the samples are scored in", 10, validator=ge(1))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"logits"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        reason = "the inception score is made of class probabilities"
        return (Requirement("features.logits", reason, "use features that classify, such as 'classifier'"),)

    @property
    def higher_is_better(self) -> bool:
        return True

    def start(self, context: MetricContext) -> _State:
        return _State(context=context)

    def update(self, state: _State, batch: Batch, noise: Noise) -> _State:
        if batch.logits is None:
            raise TypeError("the inception score is taken from logits; the batch has none")
        if batch.source != "samples":
            return state
        log_p = torch.log_softmax(batch.logits.detach().to(torch.float64), dim=1)
        p = log_p.exp()
        # p log p -> 0 where p underflows, and log p may be -inf there.
        negentropy = torch.where(p > 0.0, p * log_p, p).sum(1)
        split = group_of(batch.index.to(p.device), self.splits)
        member = torch.nn.functional.one_hot(split, self.splits).to(p.dtype)
        new = attrs.evolve(
            state, count=member.sum(0), probability=member.T @ p, negentropy=member.T @ negentropy
        )
        return self.merge(state, new)

    def merge(self, a: _State, b: _State) -> _State:
        return attrs.evolve(
            a,
            count=_sum(a.count, b.count),
            probability=_sum(a.probability, b.probability),
            negentropy=_sum(a.negentropy, b.negentropy),
        )

    def finish(self, state: _State) -> Measurement:
        count, probability, negentropy = state.count, state.probability, state.negentropy
        if count is None or probability is None or negentropy is None or count.min() < 1:
            given = 0 if count is None else int(count.sum())
            raise DataError(
                f"inception score: {given} sample(s) for {self.splits} splits",
                "at least one sample in each split, and many for a meaningful figure",
                "Raise `evaluation.count`, or lower `splits`",
            )
        if not (torch.isfinite(probability).all() and torch.isfinite(negentropy).all()):
            raise DataError(
                "inception score: the logits hold NaN or infinite values",
                "finite logits",
                "Look at the samples: the model may have diverged",
            )
        marginal = probability / count[:, None]
        divergence = negentropy / count - torch.xlogy(marginal, marginal).sum(1)
        scores = divergence.exp()
        error = float(scores.std()) / math.sqrt(self.splits) if self.splits > 1 else None
        details = {"features": state.context.features, "splits": self.splits, "classes": probability.shape[1]}
        return Measurement(value=float(scores.mean()), error=error, count=int(count.sum()), details=details)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
