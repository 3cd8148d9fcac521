"""Counter-based noise: every number is a pure function of where it belongs.

A draw depends on (seed, path, draw number, global sample index, particle, element) and on nothing
else: not on the batch size, the number of processes, the device, or what was drawn before. The
generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in
int64 tensor operations; the 64-bit key is a hash of seed and path, the 128-bit counter is
(block of four elements, draw, sample index, particle). Normals are Box-Muller's, in float64,
cast last, so float32 and float64 runs see the same noise. Torch's global generator is never used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from diffkit.tensors import Device, take

__all__ = ["Noise", "philox"]

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10: four 32-bit words (int64 tensors, broadcast together) from a counter and a key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The 64-bit products wrap; shift and mask still give the true high and low words.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = ((p1 >> 32) & _WORD) ^ c1 ^ k0
        c2 = ((p0 >> 32) & _WORD) ^ c3 ^ k1
        c1, c3 = p1 & _WORD, p0 & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


@attrs.frozen(kw_only=True, eq=False)
class Noise:
    """A stream of noise for the samples of one batch. Immutable: ask for draw 0, 1, 2, ... by number.

    Args:
        seed: the run's seed, any integer.
        index: (B,) int64, the global index of each sample.
        path: the stream's name and whatever numbers it is kept apart by (a move, a training step).
        particle: (B,) int64, where one sample is carried by several particles.
    """

    seed: int
    index: Tensor
    path: tuple[str | int, ...] = ()
    particle: Tensor | None = None

    def stream(self, *names: str | int) -> Noise:
        """An independent stream of the same samples."""
        return attrs.evolve(self, path=(*self.path, *names))

    def take(self, rows: Tensor) -> Noise:
        """The same stream for some of the samples."""
        particle = None if self.particle is None else take(self.particle, rows)
        return attrs.evolve(self, index=take(self.index, rows), particle=particle)

    def split(self, particles: int) -> Noise:
        """The same stream for `particles` particles a sample, consecutive in the batch."""
        numbers = torch.arange(particles, device=self.index.device).repeat(len(self.index))
        return attrs.evolve(self, index=self.index.repeat_interleave(particles), particle=numbers)

    def uniform(
        self, shape: Sequence[int], *, draw: int = 0, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Uniform numbers in [0, 1), shape (B, ...)."""
        dtype = dtype or torch.get_default_dtype()
        # Of a stream of its own, so that the uniform and the normal draw 0 are independent.
        words = torch.stack(self.stream("uniform")._words(shape, draw, device), dim=-1)
        # A cast to float32 may round up to 1, which is not in the range.
        below_one = 1.0 - torch.finfo(dtype).eps / 2
        return self._shaped(_unit(words), shape).to(dtype).clamp(max=below_one)

    def normal(
        self, shape: Sequence[int], *, draw: int = 0, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Standard normal numbers, shape (B, ...)."""
        w0, w1, w2, w3 = self._words(shape, draw, device)
        radius = torch.sqrt(-2.0 * torch.log(_unit(torch.stack((w0, w2), dim=-1))))
        angle = 2.0 * math.pi * _unit(torch.stack((w1, w3), dim=-1))
        pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
        return self._shaped(pairs, shape).to(dtype or torch.get_default_dtype())

    def normal_like(self, x: Tensor, *, draw: int = 0) -> Tensor:
        """Standard normal numbers with the shape, dtype and device of `x`."""
        return self.normal(x.shape, draw=draw, dtype=x.dtype, device=x.device)

    def _words(
        self, shape: Sequence[int], draw: int, device: Device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if shape[0] != len(self.index):
            raise ValueError(f"noise for {len(self.index)} samples was asked for the shape {tuple(shape)}")
        index = self.index.to(device=device, dtype=torch.int64)
        particle = torch.zeros_like(index) if self.particle is None else self.particle.to(index.device)
        blocks = torch.arange(-(-math.prod(shape[1:]) // 4), device=index.device)
        draws = torch.full((1, 1), draw, dtype=torch.int64, device=index.device)
        counter = (blocks[None, :], draws, index[:, None] & _WORD, particle[:, None])
        return philox(counter, _key(self.seed, self.path))

    def _shaped(self, blocks: Tensor, shape: Sequence[int]) -> Tensor:
        return blocks.flatten(1)[:, : math.prod(shape[1:])].reshape(tuple(shape))


def _key(seed: int, path: tuple[str | int, ...]) -> tuple[int, int]:
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _unit(words: Tensor) -> Tensor:
    """32-bit words as float64 in (0, 1), never 0, so that a logarithm is finite."""
    return (words.to(torch.float64) + 0.5) * 2.0**-32
