"""Ways into sampling other than fresh noise: great circles between noises, and data noised part of the way.

noise_a, noise_b = torch.randn(2, 1, 1, 28, 28)                 # noises of two samples (1, 1, 28, 28)
frames = diffkit.slerp(noise_a, noise_b).flatten(0, 1)          # 11 noises
diffkit.sample(model, x_init=frames, sampler="ddim")            # and what becomes of them

diffkit.interpolate(model, image_a, image_b)                    # from one real image to another

x_t = diffkit.renoise(images, sde=model.sde, t=0.4)             # SDEdit: a sketch becomes a sample
diffkit.sample(model, x_init=x_t, start=0.4)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffkit import registry
from diffkit.errors import DataError, IncompatibleError
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.sampling import encode, sample
from diffkit.sampling_run import DEFAULT_SAMPLER, Denoiser

__all__ = ["interpolate", "renoise", "slerp"]


def slerp(a: Tensor, b: Tensor, shares: int | Sequence[float] | Tensor = 11) -> Tensor:
    """Frames along the shortest great circle from each sample of `a` to its partner in `b`.

        f(u) = ((1 - u) |a| + u |b|) (cos(u theta) e_1 + sin(u theta) e_2)

    with e_1 = a / |a|, e_2 the unit vector across it in the plane of the two, and theta the angle between
    them. (A straight line between two noises would pass far inside the sphere that noise lies near.) Where b
    is opposite to a, every great circle is a shortest one: that through the coordinate axis which a has
    least of is taken. A sample that is zero has no direction, and takes its partner's.

    Source: Shoemake 1985, "Animating rotation with quaternion curves"; White 2016, arXiv 1609.04468.

    Args:
        a, b: (N, ...), of at least two elements a sample.
        shares: u of each frame; or how many frames, evenly spaced from 0 to 1.

    Returns:
        (frames, N, ...) in the dtype of `a`.
    """
    if a.shape != b.shape or a[:1].numel() < 2:
        raise DataError(
            f"slerp was given the shapes {tuple(a.shape)} and {tuple(b.shape)}",
            "two batches (N, ...) of one shape, with at least two elements a sample",
        )
    u = torch.linspace(0.0, 1.0, shares) if isinstance(shares, int) else torch.as_tensor(shares)
    u = u.to(a.device, torch.float64)[:, None, None]
    flat_a, flat_b = (side.flatten(1).to(torch.float64) for side in (a, b))
    norm_a, norm_b = (side.norm(dim=1, keepdim=True) for side in (flat_a, flat_b))
    e_1 = _unit(torch.where(norm_a > 0.0, flat_a, flat_b))
    end = _unit(torch.where(norm_b > 0.0, flat_b, flat_a))
    across = _across(e_1, end)
    across = torch.where(across.norm(dim=1, keepdim=True) > 1e-12, across, _across(e_1, _least_axis(e_1)))
    # Of the half angle, which is accurate for parallel and for opposite vectors alike.
    theta = 2.0 * torch.atan2((e_1 - end).norm(dim=1), (e_1 + end).norm(dim=1))[:, None]
    e_2 = _unit(_across(e_1, _unit(across)))  # once more, for what is left of nearly parallel vectors
    circle = torch.cos(u * theta) * e_1 + torch.sin(u * theta) * e_2
    return (torch.lerp(norm_a, norm_b, u) * circle).reshape(-1, *a.shape).to(a.dtype)


def interpolate(
    model: Denoiser,
    a: Tensor,
    b: Tensor,
    *,
    shares: int | Sequence[float] | Tensor = 11,
    sde: Any = None,
    sampler: Any = DEFAULT_SAMPLER,
    steps: int | None = None,
    conditioners: Sequence[Any] = (),
) -> Tensor:
    """From real examples `a` to `b`: both are encoded, and the noises on the great circle are decoded.

    The first and last frames are `a` and `b`, up to the error of the sampler there and back.

    Args:
        a, b: (N, ...) clean data.
        shares: as for `slerp`.
        sde, sampler, steps, conditioners: as for `encode`; a label must be one for all.

    Returns:
        (frames, N, ...).
    """
    given = {"sde": sde, "sampler": sampler, "steps": steps, "conditioners": conditioners}
    frames = slerp(encode(model, x=a, **given), encode(model, x=b, **given), shares)
    return sample(model, x_init=frames.flatten(0, 1), **given).x.reshape(frames.shape)


def renoise(x: Tensor, *, sde: Any, t: float, seed: int = 0, first: int = 0) -> Tensor:
    """x_t = alpha_t x + sigma_t eps: clean data at the level t, for `sample(x_init=x_t, start=t)`.

    The larger t, the less of `x` is left, and the more the result is the model's own. Source: Meng et al.
    2022, arXiv 2108.01073, algorithm 1.

    Args:
        x: (N, ...).
        sde: a name, a mapping or an object.
        t: a time of the process, t_min to t_max.
        seed, first: of the noise, and the global index of the first sample.
    """
    process = registry.create("sde", sde)
    if not isinstance(process, GaussianSDE) or not process.t_min <= t <= process.t_max:
        raise IncompatibleError(
            f"{type(process).__name__} cannot noise data up to t = {t:g}",
            "a Gaussian process, and a time between its t_min and t_max",
        )
    eps = Noise(seed=seed, index=torch.arange(first, first + len(x))).stream("renoise").normal_like(x)
    return process.perturb(x, torch.tensor(t, dtype=torch.float64), eps)


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1; zero stays zero."""
    return torch.nn.functional.normalize(x, dim=1, eps=1e-300)


def _across(e_1: Tensor, x: Tensor) -> Tensor:
    """What of x stands at right angles to e_1."""
    return x - (x * e_1).sum(1, keepdim=True) * e_1


def _least_axis(e_1: Tensor) -> Tensor:
    """The unit vector of the coordinate in which e_1 is smallest."""
    return torch.nn.functional.one_hot(e_1.abs().argmin(1), e_1.shape[1]).to(e_1)
