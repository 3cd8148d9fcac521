"""Contrastive divergence with persistent chains: E falls where the data are, and rises where chains run to.

    loss_i = E(x_i + n_i) - E(x^-_i) + alpha (E(x_i + n_i)^2 + E(x^-_i)^2)

Its gradient in the weights is that of -log p where the x^- are samples of p = exp(-E) / Z. They are the
ends of Langevin chains that live on from step to step in a buffer.
"""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from attrs.validators import and_, ge, le
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.component import Requirement, parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.model import Model
from diffkit.interfaces.network import Level
from diffkit.interfaces.objective import Objective, State
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit_energy.energies import Energy
from diffkit_energy.samplers.overdamped_langevin import OverdampedLangevin

__all__ = ["ContrastiveDivergence"]


def _chain() -> OverdampedLangevin:
    return OverdampedLangevin(step_size=10.0, noise=0.005, gradient_clip=0.03, clip=(-1.0, 1.0))


@final
@attrs.frozen(kw_only=True)
class ContrastiveDivergence(Objective):
    """Trains a network with one output a sample as the energy E of p(x) = exp(-E(x)) / Z.

    The state is the buffer, (buffer, *shape). Each example of a batch takes a chain of its own out of it, or,
    with the chance `fresh`, one anew from the prior of the process; moves it by `steps` steps of the
    `sampler`; and puts it back. The default chain is that of images in [-1, 1], far below the temperature 1:
    E then tells valleys from heights, and is no calibrated -log p. For that, let the chain keep the
    temperature 1 and `regularisation` be small. The log tells the mean energies of data, of samples (the
    ends of the chains) and of noise (the prior).

    Raises:
        ConfigError: a buffer with fewer chains than a batch has examples.

    Source: Du and Mordatch 2019, arXiv 1903.08689, algorithm 1; persistent chains: Tieleman 2008.
    """

    source: ClassVar[str] = "Du and Mordatch 2019, arXiv 1903.08689, algorithm 1; Tieleman 2008"

    steps: int = parameter("Langevin steps of each chain, a training step", 60, validator=ge(1))
    sampler: Sampler = parameter("that moves the chains", factory=_chain)
    buffer: int = parameter("how many chains live on", 8192, validator=ge(1))
    fresh: float = parameter("share of chains that start anew", 0.05, validator=and_(ge(0.0), le(1.0)))
    regularisation: float = parameter("alpha, weight of the squared energies", 0.1, validator=ge(0.0))
    jitter: float = parameter("standard deviation of the noise n on the data", 0.005, validator=ge(0.0))

    @property
    def stateful(self) -> bool:
        return True

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"model.energy", "model.score"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.stationary",
                reason="an energy is learnt of one law, and the law of this process changes with its noise",
                remedy="set sde: langevin, or choose an objective on noised data, such as noise",
            ),
            Requirement(
                "network.energy-output",
                reason="the energy is one number a sample",
                remedy="choose the network energy-cnn or energy-mlp",
            ),
        )

    def loss(
        self, module: nn.Module, sde: SDE, batch: Batch, noise: Noise, state: State
    ) -> tuple[Tensor, State, dict[str, float]]:
        """The loss of each example, (B,); the chains; `energy_data`, `energy_samples` and `energy_noise`."""
        prior = sde.prior(batch.x.shape, noise.stream("fresh"), batch.x.dtype, batch.x.device)
        chains = self._chains(sde, batch, noise) if state is None else state["chains"].to(batch.x.device)
        slots = self._slots(noise, batch.x.device)
        anew = noise.stream("anew").uniform((len(slots),), device=slots.device) < self.fresh
        samples = torch.where(anew.reshape(-1, *(1,) * (prior.ndim - 1)), prior, chains[slots])
        samples = self._moved(module, sde, samples, noise)
        data = batch.x + self.jitter * noise.stream("jitter").normal_like(batch.x)
        low, high = _energy(module, torch.cat((data, samples))).chunk(2)
        with torch.no_grad():
            far = _energy(module, prior)
        loss = low - high + self.regularisation * (low.square() + high.square())
        names = ("energy_data", "energy_samples", "energy_noise")
        logs = {name: float(each.detach().mean()) for name, each in zip(names, (low, high, far), strict=True)}
        return loss, {"chains": chains.index_copy(0, slots, samples)}, logs

    def model(self, module: nn.Module, sde: SDE) -> Model:
        first = next(module.parameters(), None)
        return Energy(function=lambda x: _energy(module, x), device=None if first is None else first.device)

    def _chains(self, sde: SDE, batch: Batch, noise: Noise) -> Tensor:
        every = attrs.evolve(noise.stream("buffer"), index=torch.arange(self.buffer))
        return sde.prior((self.buffer, *batch.x.shape[1:]), every, batch.x.dtype, batch.x.device)

    def _slots(self, noise: Noise, device: torch.device) -> Tensor:
        """(B,) places in the buffer, no two the same: example i takes place i of a random order."""
        size = int(noise.index.max()) + 1
        if size > self.buffer:
            raise ConfigError(
                f"The key objective.buffer is {self.buffer}, and a batch has {size} examples",
                "a chain for every example",
                "Raise objective.buffer, or lower training.batch_size",
            )
        every = attrs.evolve(noise.stream("slots"), index=torch.arange(self.buffer))
        order = every.uniform((self.buffer,), dtype=torch.float64, device=device).argsort()
        return order[noise.index.to(order.device)]

    @torch.no_grad()
    def _moved(self, module: nn.Module, sde: SDE, x: Tensor, noise: Noise) -> Tensor:
        t = torch.linspace(sde.t_max, sde.t_min, self.steps + 1, dtype=torch.float64)
        problem = Problem.build(self.model(module, sde), sde, t.unbind(), noise.index, x)
        carry = None
        for number in range(self.steps):
            here = noise.stream("chain", number)
            x, carry = self.sampler.step(problem, x, t[number], t[number + 1], carry, here)
        return x


def _energy(module: nn.Module, x: Tensor) -> Tensor:
    """(B,) in the dtype of `x`; the network computes in its own."""
    own = next(module.parameters(), x)
    energy: Tensor = module(x.to(own.dtype), Level(t=x.new_zeros(len(x))), None)
    return energy.to(x.dtype)
