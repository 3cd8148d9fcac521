"""What the networks of energies take, how large they are, and that an energy can be normalised."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit_energy.networks.energy_cnn import EnergyCNN
from diffkit_energy.networks.energy_mlp import EnergyMLP


@pytest.mark.parametrize(
    "shape,dense", [((1, 32, 32), 256), ((1, 28, 28), 256), ((3, 64, 48), 64 * 4 * 3), ((1, 5, 7), 64)]
)
def test_every_size_of_image_fits(shape: tuple[int, ...], dense: int) -> None:
    module = EnergyCNN().build(shape)
    sizes = [tuple(each.shape) for each in module.parameters() if each.ndim > 1]
    convolutions = [(16, shape[0], 5, 5), (32, 16, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
    assert sizes == [*convolutions, (64, dense), (1, 64)]
    assert module(torch.zeros(2, *shape), Level(t=torch.zeros(2)), None).shape == (2,)


def test_examples_that_are_no_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"energy-cnn was given examples of shape \(2,\).*energy-mlp"):
        EnergyCNN().build((2,))


def test_far_away_the_gaussian_rules() -> None:
    """E(x) - |x|^2 / (2 r^2) is the perceptron's, which grows no faster than a line."""
    torch.manual_seed(0)
    module = EnergyMLP(reach=2.0).build((2,))
    way = torch.tensor([[math.cos(a), math.sin(a)] for a in torch.linspace(0.0, 6.0, 20).tolist()])
    with torch.no_grad():
        near, far = (module(scale * way, Level(t=torch.zeros(20))) / scale**2 for scale in (1e2, 1e4))
    assert torch.allclose(far, torch.tensor(0.125), atol=1e-3)
    assert float((near - 0.125).abs().max()) > 10.0 * float((far - 0.125).abs().max())
