"""The laws of an objective whose model is an energy: it sinks where data are, and its state can be kept.

The tool is a module that starts flat and can lean, by w, or bend, by v: E(x) = w mean(x) + v mean(x^2).
"""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.interfaces.network import Level
from diffkit.interfaces.objective import Objective, State
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise
from diffkit.testing.lawbook.base import NotApplicable, ensure, ensure_close
from diffkit.testing.lawbook.partners import partners_for

__all__ = ["data_sink_and_samples_rise", "score_is_the_slope", "state_carries_on"]

_COUNT = 64
_SHAPE = (1, 4)


class _Bowl(nn.Module):
    def __init__(self, lean: float = 0.0, bend: float = 0.0) -> None:
        super().__init__()
        self.lean = nn.Parameter(torch.tensor(lean, dtype=torch.float64))
        self.bend = nn.Parameter(torch.tensor(bend, dtype=torch.float64))

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        flat = x.flatten(1)
        return self.lean * flat.mean(1) + self.bend * flat.square().mean(1)


def _processes(objective: Objective) -> list[tuple[str, SDE]]:
    if "model.energy" not in objective.provides:
        raise NotApplicable("its model is no energy")
    return partners_for(objective)


def _given(value: float = 0.4) -> tuple[Batch, Noise]:
    """Data that are all at one value, and the noise of a training step."""
    noise = Noise(seed=0, index=torch.arange(_COUNT))
    x = torch.full((_COUNT, *_SHAPE), value, dtype=torch.float64)
    return Batch(x=x, index=noise.index, label=torch.full((_COUNT,), -1)), noise.stream("training")


def score_is_the_slope(objective: Objective) -> None:
    """model.energy is (B,), and model.score = -dE/dx, at a time 0-d or (B,), by centred differences."""
    for name, sde in _processes(objective):
        model = objective.model(_Bowl(0.7, -1.3), sde)
        noise = Noise(seed=1, index=torch.arange(5))
        x, d = noise.normal((5, *_SHAPE), dtype=torch.float64), 1e-4
        energy = model.energy(x)
        ensure(energy.shape == (5,) and energy.dtype == x.dtype, f"on {name} E is {tuple(energy.shape)}")
        slopes = [
            (model.energy(x + d * way) - model.energy(x - d * way)) / (2.0 * d)
            for way in torch.eye(4, dtype=torch.float64).reshape(4, *_SHAPE)
        ]
        expected = -torch.stack(slopes, dim=1).reshape(x.shape)
        for t in (torch.tensor(0.5, dtype=torch.float64), torch.full((5,), 0.5, dtype=torch.float64)):
            ensure_close(model.score(x, t), expected, 1e-6, f"on {name} the score")


def data_sink_and_samples_rise(objective: Objective) -> None:
    """After a small step down the loss's gradient from a flat energy, E is lower where the data are than
    opposite to them, and lower at data in the middle than where sampling starts."""
    for name, sde in _processes(objective):
        for value in (0.6, -0.6, 0.0):
            module = _Bowl()
            batch, noise = _given(value)
            loss = objective.loss(module, sde, batch, noise, None)[0]
            gradients = torch.autograd.grad(loss.mean(), list(module.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(module.parameters(), gradients, strict=True):
                    weight.sub_(1e-2 * gradient)
            model = objective.model(module, sde)
            start = sde.prior(batch.x.shape, noise.stream("elsewhere"), torch.float64)
            far = -batch.x if value else start
            low, high = (float(model.energy(x).detach().mean()) for x in (batch.x, far))
            ensure(low < high, f"on {name}, E is {low:.3g} at data at {value}, and {high:.3g} elsewhere")


def state_carries_on(objective: Objective) -> None:
    """loss is (B,), finite, a function of its arguments, each example's of its own index alone; the state is
    tensors, is not written to, and goes on bit for bit after it was saved and loaded."""
    for name, sde in _processes(objective):
        module = _Bowl(0.3, 0.2)
        batch, noise = _given()
        before = torch.get_rng_state()
        _, state, _ = objective.loss(module, sde, batch, noise.stream(1), None)
        kept = _copied(state)
        first, after, logs = objective.loss(module, sde, batch, noise.stream(2), state)
        ensure(torch.equal(before, torch.get_rng_state()), "the global generator was moved")
        ensure(_same(state, kept), f"on {name} the state was written to")
        again, after_again, _ = objective.loss(module, sde, batch, noise.stream(2), _copied(state))
        ensure(first.shape == (_COUNT,) and first.isfinite().all(), f"on {name} it is {tuple(first.shape)}")
        ensure(all(isinstance(figure, float) for figure in logs.values()), "the log holds other than floats")
        same = torch.equal(first, again) and _same(after, after_again)
        ensure(same, f"on {name}, after saving and loading, loss or state differ")
        rows = torch.tensor([3, 17])
        part = Batch(x=batch.x[rows], index=batch.index[rows], label=torch.full((2,), -1))
        alone = objective.loss(module, sde, part, noise.stream(2).take(rows), state)[0]
        ensure_close(
            alone, first[rows], 1e-9 * (1.0 + first[rows].abs()), f"on {name}, two examples' loss alone"
        )


def _copied(state: State) -> State:
    return None if state is None else load(save({key: value.contiguous() for key, value in state.items()}))


def _same(state: State, other: State) -> bool:
    if state is None or other is None:
        return state is other
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)
