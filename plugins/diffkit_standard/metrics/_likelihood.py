"""What every likelihood needs: a model that has one, the examples it is taken of, and units."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from diffkit import compatibility
from diffkit.batch import Batch
from diffkit.component import Component, Requirement
from diffkit.errors import DataError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.metric import MetricContext
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Formula, Problem
from diffkit.registry import current
from diffkit.selection import Selection
from diffkit_standard.metrics._chosen import Chosen

__all__ = [
    "Measured",
    "denoiser",
    "mean_and_error",
    "prior_divergence",
    "refusals",
    "require",
    "requirements",
]


@attrs.frozen(kw_only=True, eq=False)
class Measured:
    """The state of a metric that is taken of a choice of held-out examples, once all have been seen.

    Args:
        name: the metric's, for errors.
        limit: how many examples at most.
        context: with model, process and spec.
        chosen: None = none seen yet.
    """

    name: str
    limit: int
    context: MetricContext
    chosen: Chosen | None = None

    def seen(self, batch: Batch, noise: Noise) -> Measured:
        """With one more batch, if it is of held-out examples."""
        if batch.source != "held-out":
            return self
        return self._with(Chosen.of(batch, noise, self.limit, self.name))

    def merge(self, other: Measured) -> Measured:
        return self if other.chosen is None else self._with(other.chosen)

    def _with(self, more: Chosen) -> Measured:
        return attrs.evolve(self, chosen=more if self.chosen is None else self.chosen.merge(more))

    def parts(self, size: int) -> list[Chosen]:
        """The examples, `size` at a time.

        Raises:
            DataError: fewer than two, of which no error can be told.
        """
        if self.chosen is None or len(self.chosen) < 2:
            raise DataError(
                f"{self.name}: {0 if self.chosen is None else 1} held-out example(s)",
                "at least two",
                "Give a data set with a larger test split",
            )
        return self.chosen.split(size)

    @property
    def model(self) -> Model:
        if self.context.model is None:
            raise TypeError(f"{self.name} is measured of a model; the context has none")
        return self.context.model

    @property
    def sde(self) -> GaussianSDE:
        if not isinstance(self.context.sde, GaussianSDE):
            raise TypeError(f"{self.name} is measured of a Gaussian process; the context has none")
        return self.context.sde

    @property
    def spec(self) -> DataSpec:
        if self.context.spec is None:
            raise TypeError(f"{self.name} is given in the units of the data; the context has no spec")
        return self.context.spec


def requirements(conditional: bool) -> tuple[Requirement, ...]:
    """What the likelihood of an example, or of an example given its label, needs."""
    process = Requirement(
        "sde.gaussian",
        "a likelihood rests on marginals x_t = alpha_t x_0 + sigma_t eps, which this process does not have",
        "choose sde vp, sub-vp, ve or flow, or leave the metric out",
    )
    if conditional:
        reason = "conditional: true asks for p(x | label), and {} without labels"
        remedy = "set conditional: false, or use a data set with labels and training.labels: true"
        return (
            process,
            Requirement("model.labels", reason.format("the model was trained"), remedy),
            Requirement("dataset.labels", reason.format("the data set is"), remedy),
        )
    unconditional = Requirement(
        "model.unconditional",
        "p(x) needs the unconditional prediction, which only a model trained with label dropout gives",
        "set the metric's conditional: true, or training.label_dropout: 0.1 and train again",
    )
    return (process, unconditional)


def refusals(selection: Selection) -> tuple[tuple[str, str], ...]:
    """Why what is selected has no likelihood: a reason and a remedy each."""
    found = []
    bending = [current().name(c) for c in selection.all("conditioner") if c.exactness == "approximate"]
    if bending:
        reason = f"samples bent by {' and '.join(bending)} follow a law without a known likelihood"
        found.append((reason, "set sampling.conditioners: [] to measure the model itself"))
    if selection.model is not None and not selection.model & {"model.denoise", "model.score"}:
        reason = "the model gives neither a denoiser nor a score of noised data, so its density has no flow"
        found.append((reason, "leave the metric out, or choose an objective of denoising, such as noise"))
    sde = selection.one("sde")
    if isinstance(sde, GaussianSDE) and type(sde).prior is not GaussianSDE.prior:
        reason = f"{current().name(sde)} starts from a prior of its own, whose density is not known here"
        found.append((reason, "choose a process whose prior is N(0, sigma(t_max)^2), such as vp"))
    return tuple(found)


def require(metric: Component, model: Model, sde: SDE) -> None:
    """Raises `IncompatibleError` where the metric refuses the model or the process."""
    # A model without classes has no label to be told.
    words = model.provides | (frozenset() if model.classes else {"model.unconditional"})
    compatibility.require(Selection.of(sde, metric, model=words))


def denoiser(model: Model, sde: GaussianSDE, label: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """(x_t, t) -> D for examples of these labels, from a denoiser or a score; t is 0-d or (B,)."""
    call, offer = (model.denoise, "denoise") if "denoise" in model.offers else (model.score, "score")
    asked = Formula(lambda x, t: call(x, t, label), offer)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return Problem.build(asked, sde, (), torch.arange(len(x)), x).denoise(x, t)

    return denoise


def prior_divergence(sde: GaussianSDE, x: Tensor) -> float:
    """KL(p_T || prior) <= alpha_T^2 E|x_0|^2 / (2 sigma_T^2), in bits a dimension."""
    end = torch.tensor(sde.t_max, dtype=torch.float64)
    share = float(sde.alpha(end) / sde.sigma(end)) ** 2
    return 0.5 * share * float(x.to(torch.float64).square().mean()) / math.log(2.0)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean and its standard error.

    Raises:
        DataError: a value that is not finite.
    """
    if not bool(torch.isfinite(values).all()):
        raise DataError(
            f"{int((~torch.isfinite(values)).sum())} of {len(values)} likelihoods are NaN or infinite",
            "a finite likelihood of every example",
            "Look at the training loss: the model may have diverged",
        )
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))
