"""The U-Net: what it takes and refuses, and that every input and every weight matters."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit_standard.networks.unet import UNet, _Attention

SMALL = UNet(channels=8, multipliers=(1, 2), heads=2, groups=4)


def built(
    config: UNet, shape: tuple[int, ...], classes: int | None = None, *, shaken: bool = True
) -> nn.Module:
    """A module in evaluation mode; `shaken` moves the weights that start at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = config.build(shape, classes).eval()
        if shaken:
            for weight in module.parameters():
                weight.data += 0.05 * torch.randn_like(weight)
    return module


def pictures(shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.linspace(-1.0, 1.0, count * math.prod(shape)).sin().reshape(count, *shape)


def level(count: int = 3, sigma: float = 0.6) -> Level:
    full = torch.full((count,), sigma, dtype=torch.float64)
    return Level(t=full, alpha=torch.sqrt(1.0 - full**2), sigma=full)


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    channels=st.integers(1, 5),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    levels=st.integers(1, 3),
    patch=st.integers(1, 2),
    blocks=st.integers(1, 2),
)
def test_any_channels_and_any_size_on_the_ladder(
    channels: int, height: int, width: int, levels: int, patch: int, blocks: int
) -> None:
    config = UNet(channels=4, multipliers=(1, 2, 3)[:levels], heads=2, groups=2, patch=patch, blocks=blocks)
    unit = patch * 2 ** (levels - 1)
    shape = (channels, height * unit, width * unit)
    answer = built(config, shape, 3)(pictures(shape), level(), torch.tensor([0, -1, 2]))
    assert answer.shape == (3, *shape)
    assert torch.isfinite(answer).all()


def test_it_starts_at_zero() -> None:
    answer = built(SMALL, (1, 8, 8), 3, shaken=False)(pictures((1, 8, 8)), level())
    assert torch.equal(answer, torch.zeros_like(answer))


def test_the_label_matters_and_none_is_minus_one() -> None:
    module, x = built(SMALL, (1, 8, 8), 3), pictures((1, 8, 8))
    answers = [module(x, level(), torch.full((3,), label)) for label in (-1, 0, 1, 2)]
    for first in range(4):
        for second in range(first):
            assert (answers[first] - answers[second]).abs().amax() > 1e-3
    assert torch.equal(module(x, level()), answers[0])
    mixed = module(x, level(), torch.tensor([2, -1, 0]))
    expected = torch.stack([answers[3][0], answers[0][1], answers[1][2]])
    torch.testing.assert_close(mixed, expected, rtol=0.0, atol=1e-6)


def test_a_network_without_classes_ignores_no_label() -> None:
    module, x = built(SMALL, (1, 8, 8)), pictures((1, 8, 8))
    assert torch.equal(module(x, level()), module(x, level(), torch.full((3,), -1)))


def test_the_noise_level_matters_also_without_rates() -> None:
    module, x = built(SMALL, (1, 8, 8)), pictures((1, 8, 8))
    assert (module(x, level(sigma=0.2)) - module(x, level(sigma=0.9))).abs().amax() > 1e-3
    times = [Level(t=torch.full((3,), t, dtype=torch.float64)) for t in (0.1, 0.8)]
    assert (module(x, times[0]) - module(x, times[1])).abs().amax() > 1e-3


@pytest.mark.parametrize("alpha, sigma", [(1.0, 0.0), (0.0, 1.0), (1.0, 1e-30), (1e-30, 80.0)])
def test_the_ends_of_time_are_finite(alpha: float, sigma: float) -> None:
    ends = [torch.full((3,), value, dtype=torch.float64) for value in (0.5, alpha, sigma)]
    answer = built(SMALL, (1, 8, 8))(pictures((1, 8, 8)), Level(t=ends[0], alpha=ends[1], sigma=ends[2]))
    assert torch.isfinite(answer).all()


def test_examples_do_not_mix() -> None:
    module, x = built(SMALL, (2, 8, 8), 3), pictures((2, 8, 8))
    label = torch.tensor([2, -1, 0])
    alone = torch.cat([module(x[i : i + 1], level(1), label[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(module(x, level(), label), alone, rtol=0.0, atol=1e-5)


def test_a_gradient_reaches_every_weight() -> None:
    module = built(UNet(channels=8, multipliers=(1, 2), blocks=2, heads=2, groups=4), (1, 8, 8), 3).train()
    module(pictures((1, 8, 8), 4), level(4), torch.tensor([0, 1, 2, -1])).square().sum().backward()
    for name, weight in module.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0.0, name
    embedding = module.get_parameter("embedding.label.weight").grad
    assert embedding is not None
    assert (embedding.abs().sum(dim=1) > 0.0).all()


@pytest.mark.parametrize("attention", [(), (0,), (-1,)])
def test_only_attention_sees_across_the_picture(attention: tuple[int, ...]) -> None:
    shape = (1, 20, 20)
    module = built(UNet(channels=8, multipliers=(1,), heads=2, groups=4, attention=attention), shape)
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.GroupNorm):  # its statistics see the whole picture
                part.add_module(name, nn.Identity())
    x = pictures(shape, 1)
    moved = x.clone()
    moved[..., 0, 0] += 3.0
    change = (module(moved, level(1)) - module(x, level(1)))[..., 19, 19].abs().amax()
    assert (change > 0.0) == bool(attention)


def test_levels_with_attention_count_from_both_ends() -> None:
    assert [UNet(attention=(-1, 0)).attends(number) for number in range(3)] == [True, False, True]


def test_attention_is_scaled_dot_product_attention() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _Attention(UNet(channels=8, multipliers=(1,), heads=4, groups=2), 8)
        nn.init.normal_(module.out.weight)
    x = pictures((8, 3, 5))
    tokens = module.norm(x).flatten(2).transpose(1, 2)
    query, key, value = (
        part.reshape(3, 15, 4, 2).transpose(1, 2) for part in module.project(tokens).chunk(3, dim=2)
    )
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(3, 15, 8)
    expected = x + module.out(mixed).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(module(x), expected)


def test_dropout_acts_in_training_only() -> None:
    config = UNet(channels=8, multipliers=(1, 2), heads=2, groups=4, dropout=0.5)
    module, x = built(config, (1, 8, 8)), pictures((1, 8, 8))
    assert torch.equal(module(x, level()), module(x, level()))
    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(module(x, level()), module(x, level()))


def test_the_documented_size() -> None:
    count = sum(weight.numel() for weight in UNet().build((1, 28, 28), 10).parameters())
    assert f"about {count / 1e6:.2f} million" in (UNet.__doc__ or "")


@pytest.mark.parametrize(
    "config, shape, words",
    [
        (UNet(), (1, 30, 28), ["30 x 28", "that 4 divides", "multipliers"]),
        (UNet(patch=2), (1, 28, 28), ["28 x 28", "that 8 divides", "patch"]),
        (UNet(), (64,), ["(64,)", "channels, height, width"]),
        (UNet(groups=5), (1, 8, 8), ["network.groups is 5", "32"]),
        (UNet(heads=7), (1, 8, 8), ["network.heads is 7"]),
        (UNet(attention=(3,)), (1, 8, 8), ["network.attention", "3"]),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    config: UNet, shape: tuple[int, ...], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(shape)
    for word in words:
        assert word in str(caught.value)


def test_the_way_up_is_given_what_the_way_down_saw() -> None:
    module = built(UNet(channels=8, multipliers=(1, 2), blocks=2, heads=2, groups=4), (1, 8, 8))
    down, up = (module.get_submodule(name) for name in ("down", "up"))
    left: list[Tensor] = []
    taken: list[Tensor] = []
    for block in [block for stage in down.children() for block in stage.get_submodule("blocks").children()]:
        block.register_forward_hook(lambda _, given, answer: left.append(answer))
    for block in [block for stage in up.children() for block in stage.get_submodule("blocks").children()]:
        block.register_forward_pre_hook(lambda _, given: taken.append(given[0].chunk(2, dim=1)[1]))
    module(pictures((1, 8, 8)), level())
    assert len(left) == 4
    for before, after in zip(reversed(left), taken, strict=True):
        assert torch.equal(before, after)
