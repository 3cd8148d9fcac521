"""The residual U-Net: its embedding and its batch statistics by hand, its shapes and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit_standard.networks.residual_unet import ResidualUNet

SMALL = ResidualUNet(widths=(8, 12, 16))


def built(config: ResidualUNet, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
    """A module in evaluation mode, its last layer moved off zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = config.build(shape, classes).eval()
        nn.init.normal_(module.get_parameter("last.weight"))
    return module


def pictures(shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.linspace(-1.0, 1.0, count * math.prod(shape)).sin().reshape(count, *shape)


def level(alpha: float, sigma: float, count: int = 3) -> Level:
    full = torch.ones(count, dtype=torch.float64)
    return Level(t=0.5 * full, alpha=alpha * full, sigma=sigma * full)


def given_to(module: nn.Module, name: str, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
    """What the layer of that name is given."""
    seen: list[Tensor] = []
    handle = module.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        module(x, level, label)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    "alpha, sigma, variance", [(0.8, 0.6, 0.36), (1.0, 3.0, 0.9), (0.95, 0.05, 0.0025 / 0.905)]
)
def test_the_noise_variance_is_laid_over_the_image_in_sinusoids(
    alpha: float, sigma: float, variance: float
) -> None:
    seen = given_to(built(SMALL, (3, 8, 8)), "down.0.0", pictures((3, 8, 8)), level(alpha, sigma))
    assert seen.shape == (3, 8 + 32, 8, 8)
    frequency = np.exp(np.linspace(np.log(1.0), np.log(1000.0), 16))
    angle = 2.0 * np.pi * frequency * variance
    expected = np.concatenate((np.sin(angle), np.cos(angle)))[None, :, None, None]
    np.testing.assert_allclose(seen[:, 8:].numpy(), np.tile(expected, (3, 1, 8, 8)), rtol=0.0, atol=1e-5)


def test_a_process_without_rates_gives_its_time() -> None:
    bare = Level(t=torch.full((3,), 0.36, dtype=torch.float64))
    module, x = built(SMALL, (1, 8, 8)), pictures((1, 8, 8))
    assert torch.equal(module(x, bare), module(x, level(0.8, 0.6)))


def test_a_block_is_normalised_by_its_batch_without_weights() -> None:
    module = built(SMALL, (1, 8, 8)).get_submodule("down.0.0").train()
    x = pictures((40, 4, 4), 5) * 3.0 + 1.0
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    norm = module.get_submodule("norm")
    assert not list(norm.parameters())
    inner = module.get_submodule("conv_1")((x - mean) / torch.sqrt(variance + 1e-5))
    inner = module.get_submodule("conv_2")(inner * torch.sigmoid(inner))
    torch.testing.assert_close(module(x), module.get_submodule("skip")(x) + inner, rtol=0.0, atol=1e-4)


def test_sampling_uses_the_running_statistics() -> None:
    module, x = built(SMALL, (1, 8, 8)), pictures((1, 8, 8))
    before = module(x, level(0.8, 0.6))
    assert torch.equal(before, module(x, level(0.8, 0.6)))
    alone = module(x[:1], level(0.8, 0.6, 1))
    torch.testing.assert_close(alone, before[:1], rtol=0.0, atol=1e-5)
    module.train()(x, level(0.8, 0.6))
    after = module.eval()(x, level(0.8, 0.6))
    assert (after - before).abs().amax() > 1e-4


def test_averages_halve_and_bilinear_interpolation_doubles() -> None:
    module, x = built(SMALL, (1, 8, 16)), pictures((1, 8, 16))
    shapes = [
        tuple(given_to(module, f"{name}.0", x, level(0.8, 0.6)).shape[1:])
        for name in ("down.0", "down.1", "middle", "up.0", "up.1")
    ]
    assert shapes == [(40, 8, 16), (8, 4, 8), (12, 2, 4), (28, 4, 8), (20, 8, 16)]
    left: list[Tensor] = []
    module.get_submodule("down.0.1").register_forward_hook(lambda _, given, out: left.append(out))
    coarser = given_to(module, "down.1.0", x, level(0.8, 0.6))
    blocks = left[0].reshape(3, 8, 4, 2, 8, 2).mean((3, 5))
    torch.testing.assert_close(coarser, blocks)
    module.get_submodule("up.0.1").register_forward_hook(lambda _, given, out: left.append(out))
    finer = given_to(module, "up.1.0", x, level(0.8, 0.6))
    middle = left[-1][..., 0, 0] * 9 / 16 + (left[-1][..., 0, 1] + left[-1][..., 1, 0]) * 3 / 16
    torch.testing.assert_close(finer[:, :12, 1, 1], middle + left[-1][..., 1, 1] / 16)
    assert torch.equal(finer[:, 12:], left[-2])


def test_it_starts_at_zero() -> None:
    answer = SMALL.build((1, 8, 8), 3)(pictures((1, 8, 8)), level(0.8, 0.6))
    assert torch.equal(answer, torch.zeros_like(answer))


def test_the_label_matters_and_none_is_minus_one() -> None:
    module, x = built(SMALL, (1, 8, 8), 3), pictures((1, 8, 8))
    answers = [module(x, level(0.8, 0.6), torch.full((3,), label)) for label in (-1, 0, 1, 2)]
    for first in range(4):
        for second in range(first):
            assert (answers[first] - answers[second]).abs().amax() > 1e-3
    assert torch.equal(module(x, level(0.8, 0.6)), answers[0])


def test_the_documented_size_and_widths() -> None:
    with torch.device("meta"):
        module = ResidualUNet().build((3, 64, 64))
    count = sum(weight.numel() for weight in module.parameters())
    assert f"about {count / 1e6:.2f} million" in (ResidualUNet.__doc__ or "")
    assert (ResidualUNet().widths, ResidualUNet().depth) == ((32, 64, 96, 128), 2)


@pytest.mark.parametrize(
    "config, shape, words",
    [
        (ResidualUNet(), (3, 60, 64), ["60 x 64", "that 8 divides", "network.widths"]),
        (ResidualUNet(), (64,), ["(64,)", "channels, height, width"]),
        (ResidualUNet(embedding=5), (3, 64, 64), ["network.embedding is 5", "even"]),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    config: ResidualUNet, shape: tuple[int, ...], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(shape)
    for word in words:
        assert word in str(caught.value)
