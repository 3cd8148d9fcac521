"""The laws of an objective whose model classifies: its output is the posterior of the class, at every level.

The tool is again an oracle: fed x = 1, a module sees the scale of the input; the oracle undoes it and outputs
log p(k | x_t) of a mixture whose components are the classes.
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
from diffkit.testing.exact import LabelledModel
from diffkit.testing.lawbook.base import NotApplicable, ensure, ensure_close
from diffkit.testing.lawbook.partners import flat_mixture, processes_for

__all__ = [
    "every_label_counts",
    "least_at_the_exact_posterior",
    "logits_are_the_posterior",
    "no_label_no_loss",
]

_COUNT = 256
_PROBLEM = flat_mixture(3)


class _Oracle(nn.Module):
    """Outputs gain * log p(k | x_t) + bias_k."""

    def __init__(self, objective: Objective, sde: GaussianSDE, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.objective, self.sde, self.gain = objective, sde, gain
        self.bias = bias * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        probe = _Probe()
        self.objective.model(probe, self.sde).logits(torch.ones_like(x), level.t)
        exact = LabelledModel(problem=_PROBLEM, sde=self.sde).logits(x / probe.seen, level.t)
        return self.gain * exact + self.bias


class _Probe(nn.Module):
    """Keeps the last input it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.empty(0)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        self.seen = x
        return x.new_zeros(len(x), len(_PROBLEM.weights))


def _settled(objective: Objective) -> Objective:
    """The objective with its automatic fields resolved; not applicable where its model does not classify."""
    if objective.stateful or "model.logits" not in objective.provides:
        raise NotApplicable("its model does not classify")
    return objective.resolved(DataStatistics(sigma_data=0.7, count=_COUNT, mean=(0.0,), std=(0.7,)))


def _batch(sde: GaussianSDE) -> tuple[Batch, Noise]:
    """Examples of the mixture, each with a class drawn from its posterior given the example."""
    noise, exact = Noise(seed=0, index=torch.arange(_COUNT)), LabelledModel(problem=_PROBLEM, sde=sde)
    x = _PROBLEM.draw(noise.stream("data"))
    densities = [exact.component(k).log_density(None, x, None) for k in range(exact.classes)]
    posterior = torch.softmax(torch.stack(densities, dim=1) + _PROBLEM.weights.log(), dim=1)
    share = noise.stream("label").uniform((_COUNT, 1), dtype=torch.float64)
    label = (share > posterior.cumsum(1)[:, :-1]).sum(1)
    return Batch(x=x, index=noise.index, label=label), noise.stream("training")


def _loss(objective: Objective, module: nn.Module, sde: GaussianSDE) -> Tensor:
    batch, noise = _batch(sde)
    return objective.loss(module, sde, batch, noise, None)[0].detach()


def logits_are_the_posterior(objective: Objective) -> None:
    """model(F*).logits = log p(k | x_t) + const where F* is the exact posterior; t is 0-d or (B,)."""
    settled = _settled(objective)
    for name, sde in processes_for(objective):
        noise = Noise(seed=1, index=torch.arange(5))
        for share in (0.05, 0.4, 0.9):
            t = torch.tensor(sde.t_min + share * (sde.t_max - sde.t_min), dtype=torch.float64)
            x = _PROBLEM.draw_at(sde, t, noise)
            exact = torch.log_softmax(LabelledModel(problem=_PROBLEM, sde=sde).logits(x, t), dim=1)
            model = settled.model(_Oracle(settled, sde), sde)
            for time in (t, t.expand(5)):
                found = torch.log_softmax(model.logits(x, time), dim=1)
                ensure_close(found, exact, 1e-7, f"on {name}, log p at t = {float(t):.3g}")


def least_at_the_exact_posterior(objective: Objective) -> None:
    """E loss is least at the exact posterior: over the same draws, above it where F is scaled or shifted."""
    settled = _settled(objective)
    for name, sde in processes_for(objective):
        exact = _loss(settled, _Oracle(settled, sde), sde)
        for gain, bias in ((0.5, 0.0), (2.0, 0.0), (1.0, 1.5), (1.0, -1.5), (-1.0, 0.0)):
            worse = _loss(settled, _Oracle(settled, sde, gain, bias), sde)
            gap = worse - exact
            spread = float(gap.std()) / len(gap) ** 0.5
            ensure(
                float(gap.mean()) > -spread,
                f"on {name} it is {float(exact.mean()):.4g}, and {float(worse.mean()):.4g} at {gain} F",
            )


def no_label_no_loss(objective: Objective) -> None:
    """loss is (B,) and finite, 0 where the label is -1, and as before elsewhere."""
    settled = _settled(objective)
    for name, sde in processes_for(objective):
        batch, noise = _batch(sde)
        assert batch.label is not None
        hidden = torch.arange(_COUNT) % 3 == 0
        module = _Oracle(settled, sde, 0.5)
        whole = settled.loss(module, sde, batch, noise, None)[0]
        some = Batch(x=batch.x, index=batch.index, label=torch.where(hidden, -1, batch.label))
        part = settled.loss(module, sde, some, noise, None)[0]
        ensure(whole.shape == (_COUNT,) and whole.isfinite().all(), f"on {name} it is {tuple(whole.shape)}")
        ensure_close(part, torch.where(hidden, 0.0, whole), 1e-12, f"on {name}, with hidden labels, it")


def every_label_counts(objective: Objective) -> None:
    """The loss of every labelled example is > 0 where all classes are called equally likely; else some
    examples, or noise levels, weigh nothing or teach the opposite."""
    settled = _settled(objective)
    for name, sde in processes_for(objective):
        least = float(_loss(settled, _Oracle(settled, sde, gain=0.0), sde).min())
        ensure(least > 0.0, f"on {name} the least is {least:.4g}")
