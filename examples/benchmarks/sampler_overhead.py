"""What the sampling loop costs beside the network: wall time over the time inside denoiser calls, and memory.

    python examples/benchmarks/sampler_overhead.py
    python examples/benchmarks/sampler_overhead.py --sampler unipc --batch 64 --steps 20 --rounds 5

The network is the U-Net of MNIST's size (untrained: its weights do not matter for time). The clock runs
inside and around one and the same run, so that whatever else the machine does weighs on both. Memory is the
bytes of all living tensors at each step, which must not depend on how many steps there are.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

import click
import torch
from torch import Tensor

import diffkit
from diffkit.interfaces.model import Model


class Timed(Model):
    """A model that adds up the seconds spent in its calls."""

    offers = frozenset({"denoise"})

    def __init__(self, model: Model) -> None:
        self.model, self.seconds = model, 0.0

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        begun = time.perf_counter()
        result = self.model.denoise(x, t, label)
        self.seconds += time.perf_counter() - begun
        return result


def living_bytes() -> int:
    """The bytes behind all tensors that the garbage collector knows."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if issubclass(type(tensor), Tensor)
    }
    return sum(storages.values())


def ratio(model: Model, given: dict[str, Any]) -> float:
    timed = Timed(model)
    begun = time.perf_counter()
    diffkit.sample(timed, **given)
    return (time.perf_counter() - begun) / timed.seconds


def most_bytes(given: dict[str, Any], steps: int) -> int:
    """The most that lives after any step, of a run with a denoiser that keeps nothing."""
    seen: list[int] = []
    keep = {key: value for key, value in given.items() if key != "steps"}
    diffkit.sample(lambda x, t: 0.5 * x, steps=steps, on_step=lambda _: seen.append(living_bytes()), **keep)
    return max(seen)


@click.command(help=__doc__.partition("\n")[0])
@click.option("--sampler", default="adams", show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--steps", default=20, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(sampler: str, batch: int, steps: int, rounds: int) -> None:
    sde = diffkit.create("sde", "vp")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = diffkit.create("network", "unet").build((1, 28, 28)).eval()
    model = diffkit.create("objective", {"name": "noise", "sigma_data": 1.0}).model(network, sde)
    given = {"sde": sde, "sampler": sampler, "steps": steps, "shape": (batch, 1, 28, 28), "batch_size": batch}
    ratio(model, given)
    ratios = [ratio(model, given) for _ in range(rounds)]
    click.echo(
        f"wall time / time in {steps} denoiser calls, batch {batch}: median {statistics.median(ratios):.4f}"
    )
    few, many = most_bytes(given, 10), most_bytes(given, 200)
    click.echo(f"living tensors at most: {few:,} bytes in 10 steps, {many:,} in 200")


if __name__ == "__main__":
    main()
