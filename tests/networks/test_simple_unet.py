"""The plain U-Net: its time embedding by hand, its shapes, what it is made of and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit_standard.networks.simple_unet import SimpleUNet

SMALL = SimpleUNet(channels=(8, 16, 24), groups=4, positions=300)


def built(config: SimpleUNet, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return config.build(shape, classes).eval()


def pictures(shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.linspace(-1.0, 1.0, count * math.prod(shape)).sin().reshape(count, *shape)


def at(t: float, count: int = 3) -> Level:
    return Level(t=torch.full((count,), t, dtype=torch.float64))


def given_to(module: nn.Module, name: str, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
    """What the layer of that name is given."""
    seen: list[Tensor] = []
    handle = module.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        module(x, level, label)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("k", [1, 2, 150, 300])
def test_the_time_is_embedded_in_sinusoids_of_the_step(k: int) -> None:
    seen = given_to(built(SMALL, (3, 8, 8)), "time", pictures((3, 8, 8)), at(k / 300))
    frequency = 10000.0 ** (-np.arange(16) / 15)
    expected = np.concatenate((np.sin(k * frequency), np.cos(k * frequency)))
    np.testing.assert_allclose(seen.numpy(), np.tile(expected, (3, 1)), rtol=0.0, atol=1e-5)


def test_every_stage_adds_the_embedding_between_its_convolutions() -> None:
    module, x = built(SMALL, (1, 8, 8)), pictures((1, 8, 8))
    for name in ("down.0", "down.1", "up.0", "up.1"):
        stage = module.get_submodule(name)
        early, late = (given_to(module, f"{name}.time", x, at(t)) for t in (0.1, 0.9))
        h = given_to(module, f"{name}.conv_1", x, at(0.1))
        with torch.no_grad():
            normed = stage.get_submodule("norm_1")(torch.relu(stage.get_submodule("conv_1")(h)))
            added = torch.relu(stage.get_submodule("time")(early))[:, :, None, None]
        torch.testing.assert_close(given_to(module, f"{name}.conv_2", x, at(0.1)), normed + added)
        assert not torch.allclose(early, late)


def test_sizes_go_down_and_up_again_with_the_skips_of_their_level() -> None:
    module, x = built(SMALL, (3, 16, 24)), pictures((3, 16, 24))
    shapes = {
        name: tuple(given_to(module, name, x, at(0.5)).shape[1:]) for name in ("down.1", "up.0", "up.1")
    }
    assert shapes == {"down.1": (16, 8, 12), "up.0": (48, 4, 6), "up.1": (32, 8, 12)}
    assert given_to(module, "last", x, at(0.5)).shape[1:] == (8, 16, 24)
    skip = given_to(module, "down.1", x, at(0.5))
    assert torch.equal(given_to(module, "up.1", x, at(0.5))[:, 16:], skip)
    assert isinstance(module.get_submodule("down.0.resize"), nn.Conv2d)
    assert isinstance(module.get_submodule("up.0.resize"), nn.ConvTranspose2d)


def test_the_label_matters_and_none_is_minus_one() -> None:
    module, x = built(SMALL, (1, 8, 8), 3), pictures((1, 8, 8))
    answers = [module(x, at(0.5), torch.full((3,), label)) for label in (-1, 0, 1, 2)]
    for first in range(4):
        for second in range(first):
            assert (answers[first] - answers[second]).abs().amax() > 1e-4
    assert torch.equal(module(x, at(0.5)), answers[0])


def test_the_documented_size_and_widths() -> None:
    with torch.device("meta"):
        module = SimpleUNet().build((3, 64, 64))
    count = sum(weight.numel() for weight in module.parameters())
    assert f"about {count / 1e6:.1f} million" in (SimpleUNet.__doc__ or "")
    assert SimpleUNet().channels == (64, 128, 256, 512)


@pytest.mark.parametrize(
    "config, shape, words",
    [
        (SimpleUNet(), (3, 60, 64), ["60 x 64", "that 8 divides", "network.channels"]),
        (SimpleUNet(), (64,), ["(64,)", "channels, height, width"]),
        (SimpleUNet(groups=7), (3, 64, 64), ["network.groups is 7", "64 wide"]),
        (SimpleUNet(embedding=5), (3, 64, 64), ["network.embedding is 5", "even"]),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    config: SimpleUNet, shape: tuple[int, ...], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(shape)
    for word in words:
        assert word in str(caught.value)
