"""The laws of what an objective hands its network, and of what it leaves alone.

The tool is a network that answers with a number of the label it is given, in the shape that the objective
reads, and keeps every level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.interfaces.network import Level
from diffkit.interfaces.objective import Objective
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.statistics import DataStatistics
from diffkit.testing.lawbook.base import NotApplicable, ensure, ensure_close
from diffkit.testing.lawbook.partners import partners_for, processes_for

__all__ = [
    "answer_is_not_told",
    "batch_is_left_alone",
    "labels_reach_the_network",
    "levels_are_of_the_process",
    "training_sees_both_halves",
]

_COUNT = 64
_SHAPE = (1, 3)
_CLASSES = 3
_SINGLE = 1e-6
"""A few roundings of single precision, in which a level may be handed over."""


class _Network(nn.Module):
    """Answers (label + 1) / 2, or that of `pretended` whatever the label, and keeps its levels."""

    def __init__(self, objective: Objective, pretended: int | None = None) -> None:
        super().__init__()
        self.provides, self.pretended = objective.provides, pretended
        self.levels: list[Level] = []

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        self.levels.append(level)
        heard = torch.full((len(x),), -1) if label is None else label
        heard = heard if self.pretended is None else torch.full_like(heard, self.pretended)
        answer = 0.5 * (heard.to(x) + 1.0)
        if "model.energy" in self.provides:
            return answer + x.flatten(1).square().mean(1)
        if "model.logits" in self.provides:
            return answer[:, None] * torch.arange(_CLASSES, dtype=x.dtype)
        return answer.reshape(-1, *(1,) * (x.ndim - 1)).expand_as(x)


def _settled(objective: Objective) -> Objective:
    return objective.resolved(DataStatistics(sigma_data=0.7, count=_COUNT, mean=(0.0,), std=(0.7,)))


def _of_noised_data(objective: Objective, *offers: str) -> Objective:
    """The objective with its automatic fields resolved; not applicable where none of these is offered."""
    if "model.energy" in objective.provides or not objective.provides & {f"model.{word}" for word in offers}:
        raise NotApplicable(f"its model offers no {' or '.join(offers)} of noised data")
    return _settled(objective)


def _given(count: int = _COUNT) -> tuple[Batch, Tensor, Noise]:
    """Examples without a class and of every class, in turn; their labels; the noise of a training step."""
    noise = Noise(seed=0, index=torch.arange(count))
    x = 0.7 * noise.stream("data").normal((count, *_SHAPE), dtype=torch.float64)
    label = noise.index % (_CLASSES + 1) - 1
    return Batch(x=x, index=noise.index, label=label), label, noise.stream("training")


def _heard(objective: Objective, network: nn.Module, sde: GaussianSDE) -> tuple[Tensor, Tensor, Tensor]:
    """What becomes of a network's answers: the loss, and what the model reads with labels and without."""
    batch, label, noise = _given()
    model = objective.model(network, sde)
    read = model.denoise if "denoise" in model.offers else model.score
    t = torch.tensor(0.5 * (sde.t_min + sde.t_max), dtype=torch.float64)
    loss = objective.loss(network, sde, batch, noise, None)[0]
    return loss, read(batch.x, t, label), read(batch.x, t)


def labels_reach_the_network(objective: Objective) -> None:
    """A network that answers by the label alone counts, example by example, as the constant network of that
    label, in loss and in the model; else classes are learnt, or asked for, that the network does not hear."""
    settled = _of_noised_data(objective, "denoise", "score")
    label = _given()[1]
    for name, sde in processes_for(objective):
        loss, asked, unasked = _heard(settled, _Network(settled), sde)
        for number in range(-1, _CLASSES):
            expected = _heard(settled, _Network(settled, number), sde)
            mine = label == number
            learnt = torch.equal(loss[mine], expected[0][mine])
            ensure(learnt, f"on {name} the loss of examples of class {number} is another's")
            found = torch.equal(asked[mine], expected[1][mine])
            ensure(found, f"on {name} the model answers with another class where {number} is asked for")
            none = number >= 0 or torch.equal(unasked, expected[2])
            ensure(none, f"on {name} the model asks for a class where none is given")


def answer_is_not_told(objective: Objective) -> None:
    """The loss of a classifier's network that answers by the label is that of one without a label; else the
    network is told the class that it is asked for, and learns to repeat it."""
    settled = _of_noised_data(objective, "logits")
    for name, sde in processes_for(objective):
        batch, label, noise = _given()
        told, untold = (
            settled.loss(_Network(settled, number), sde, batch, noise, None)[0] for number in (None, -1)
        )
        heard = label[told != untold].tolist()
        ensure(not heard, f"on {name} the network is told {heard}")


def levels_are_of_the_process(objective: Objective) -> None:
    """Every level that the network is given, in loss and by the model, has the alpha and the sigma of its t,
    each (B,), and t in [t_min, t_max]; else rates that are exchanged or squared tell it of another noise."""
    settled = _of_noised_data(objective, "denoise", "score", "logits")
    for name, sde in processes_for(objective):
        network, (batch, _, noise) = _Network(settled), _given()
        settled.loss(network, sde, batch, noise, None)
        model = settled.model(network, sde)
        read = next(getattr(model, word) for word in ("denoise", "score", "logits") if word in model.offers)
        for share in (0.1, 0.5, 0.9):
            t = torch.tensor(sde.t_min + share * (sde.t_max - sde.t_min), dtype=torch.float64)
            for time in (t, t.expand(_COUNT)):
                read(batch.x, time)
        for level in network.levels:
            t = level.t.to(torch.float64)
            least, largest = float(t.min()), float(t.max())
            within = sde.t_min - _SINGLE < least and largest < sde.t_max + _SINGLE
            ensure(within, f"on {name} t is between {least:.9g} and {largest:.9g}")
            rates = ("alpha", level.alpha, sde.alpha(t)), ("sigma", level.sigma, sde.sigma(t))
            for what, rate, exact in rates:
                given = torch.empty(0) if rate is None else rate
                ensure_close(given, exact, _SINGLE * (1.0 + exact), f"on {name} the {what} of the level", t)


def training_sees_both_halves(objective: Objective) -> None:
    """Of 512 training times some lie in either half of [t_min, t_max], whatever their law; else samplers ask
    the network about noise that it has never seen."""
    settled = _of_noised_data(objective, "denoise", "score", "logits")
    for name, sde in processes_for(objective):
        network, (batch, _, noise) = _Network(settled), _given(512)
        settled.loss(network, sde, batch, noise, None)
        t = torch.cat([level.t for level in network.levels]).to(torch.float64)
        middle, least, largest = 0.5 * (sde.t_min + sde.t_max), float(t.min()), float(t.max())
        ensure(least < middle < largest, f"on {name} they are {least:.3g} to {largest:.3g}")


def batch_is_left_alone(objective: Objective) -> None:
    """loss writes nothing into the batch it is given; else the next reader of the examples sees others."""
    settled = _settled(objective)
    for name, sde in partners_for(objective):
        batch, label, noise = _given()
        x, index = batch.x.clone(), batch.index.clone()
        settled.loss(_Network(settled), sde, batch, noise, None)
        same = torch.equal(batch.x, x) and torch.equal(batch.index, index) and torch.equal(label, _given()[1])
        ensure(same, f"on {name} the batch that was given is another afterwards")
