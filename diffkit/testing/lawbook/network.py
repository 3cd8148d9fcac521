"""The laws of a network: what comes out, what it depends on, and that it can be learnt and kept."""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from diffkit.errors import InputError
from diffkit.interfaces.network import Level, Network
from diffkit.noise import Noise
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure, ensure_close

__all__ = ["LAWS"]

_SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (3, 16, 16), (1, 32, 32), (3, 64, 64), (2,), (1, 64))
_CLASSES = 3
_BATCH = 4


def _built(network: Network, shape: tuple[int, ...], classes: int | None) -> nn.Module:
    """A module in evaluation mode, moved off its initial point, where the last layer is often zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = network.build(shape, classes).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return module


def _modules(network: Network) -> list[tuple[tuple[int, ...], nn.Module]]:
    """A module for each shape, of those tried, that the network takes; two shapes at the most."""
    classes = _CLASSES if "network.labels" in network.provides else None
    if "network.logits-output" in network.provides:
        classes = _CLASSES
    found = []
    for shape in _SHAPES:
        try:
            found.append((shape, _built(network, shape, classes)))
        except InputError:
            continue
        if len(found) == 2:
            break
    if not found:
        raise NotApplicable(f"it takes none of the shapes {_SHAPES}")
    return found


def _inputs(shape: tuple[int, ...], t: float = 0.4) -> tuple[Tensor, Level]:
    x = Noise(seed=0, index=torch.arange(_BATCH)).normal((_BATCH, *shape))
    time = torch.full((_BATCH,), t)
    return x, Level(t=time, alpha=torch.cos(1.5 * time), sigma=torch.sin(1.5 * time))


def _labelled(network: Network) -> None:
    if "network.labels" not in network.provides:
        raise NotApplicable("it takes no labels")


def output_shape(network: Network) -> None:
    """The output is finite, shaped like x (image-output), (B,) (energy-output) or (B, K) (logits-output)."""
    declared = network.provides & {"network.image-output", "network.energy-output", "network.logits-output"}
    ensure(len(declared) == 1, f"it declares {sorted(declared) or 'no output'}")
    for shape, module in _modules(network):
        x, level = _inputs(shape)
        expected = {
            "network.image-output": tuple(x.shape),
            "network.energy-output": (_BATCH,),
            "network.logits-output": (_BATCH, _CLASSES),
        }[next(iter(declared))]
        output = module(x, level, None)
        ensure(tuple(output.shape) == expected, f"for {tuple(x.shape)} it is {tuple(output.shape)}")
        ensure(output.dtype == x.dtype and output.isfinite().all(), "it is not finite, or of another dtype")


def no_label_is_minus_one(network: Network) -> None:
    """F(x, level, None) = F(x, level, -1)."""
    _labelled(network)
    for shape, module in _modules(network):
        x, level = _inputs(shape)
        none = module(x, level, torch.full((_BATCH,), -1))
        ensure_close(module(x, level, None), none, 1e-6, f"the output without labels for {shape}")


def label_matters(network: Network) -> None:
    """F(x, level, k) differs from class to class, and from no class."""
    _labelled(network)
    for shape, module in _modules(network):
        x, level = _inputs(shape)
        outputs = [module(x, level, torch.full((_BATCH,), label)) for label in range(-1, _CLASSES)]
        for label, output in enumerate(outputs):
            for other in outputs[label + 1 :]:
                ensure(not torch.allclose(output, other), f"for {shape} two labels give one output")


def level_matters(network: Network) -> None:
    """F(x, level) differs between noise levels, where the output is an image or depends on a level at all."""
    if "network.image-output" not in network.provides:
        raise NotApplicable("only a denoising network has to know the noise level")
    for shape, module in _modules(network):
        outputs = [module(*_inputs(shape, t), None) for t in (0.1, 0.4, 0.41)]
        same = torch.allclose(outputs[0], outputs[1]) or torch.equal(outputs[1], outputs[2])
        ensure(not same, f"for {shape} two noise levels give one output")


def gradient_flows(network: Network) -> None:
    """d|F - target|^2 / d theta is finite for every parameter, and zero for none."""
    for shape, module in _modules(network):
        x, level = _inputs(shape)
        labels = torch.arange(_BATCH) % (_CLASSES + 1) - 1 if "network.labels" in network.provides else None
        output = module(x, level, labels)
        target = Noise(seed=1, index=torch.arange(_BATCH)).normal(output.shape)
        names, parameters = zip(*module.named_parameters(), strict=True)
        gradients = torch.autograd.grad((output - target).square().mean(), parameters, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            ensure(gradient is not None, f"for {shape} {name} does not touch the output")
            assert gradient is not None
            right = bool(gradient.isfinite().all()) and bool(gradient.abs().max() > 0.0)
            ensure(right, f"for {shape} the gradient of {name} is zero or not finite")


def batch_independent(network: Network) -> None:
    """In evaluation mode F(x)_i depends on x_i alone."""
    for shape, module in _modules(network):
        x, level = _inputs(shape)
        one = Level(t=level.t[:1], alpha=_first(level.alpha), sigma=_first(level.sigma))
        whole = module(x, level, None)[:1]
        ensure_close(module(x[:1], one, None), whole, 1e-4 * (1.0 + whole.abs().double()), f"one of {shape}")


def saved_and_loaded(network: Network) -> None:
    """The state dictionary, written as safetensors and read into a fresh module, gives the same output."""
    classes = _CLASSES if network.provides & {"network.labels", "network.logits-output"} else None
    for shape, module in _modules(network):
        x, level = _inputs(shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            fresh = network.build(shape, classes).eval()
        fresh.load_state_dict(load(save({k: v.contiguous() for k, v in module.state_dict().items()})))
        ensure(torch.equal(fresh(x, level, None), module(x, level, None)), f"for {shape} the outputs differ")


def _first(value: Tensor | None) -> Tensor | None:
    return None if value is None else value[:1]


LAWS = book_of(
    "network",
    output_shape,
    no_label_is_minus_one,
    label_matters,
    level_matters,
    gradient_flows,
    batch_independent,
    saved_and_loaded,
)
