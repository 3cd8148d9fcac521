"""Time of the Frechet distance of two Gaussians, against the route through scipy's matrix square root.

    python examples/benchmarks/frechet.py --features 2048

Both are given the same moments. Theirs takes `scipy.linalg.sqrtm` of the product of the covariances; ours
factors each covariance and sums singular values. Turns alternate and the shortest counts, so that what else
the machine does falls on both; on a busy one, OMP_NUM_THREADS=1 keeps threads from waiting for each other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch

import diffkit
from diffkit_standard.metrics._moments import Moments


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--examples", type=int, default=5000, help="a side")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    a, b = (moments(given.features, given.examples, seed) for seed in (0, 1))
    ways = {"diffkit": lambda: ours(a, b), "scipy": lambda: by_sqrtm(a, b)}
    ours(moments(8, 20, 0), moments(8, 20, 1))  # what is imported once is not the distance's time
    turns = [{name: timed(way) for name, way in ways.items()} for _ in range(given.rounds)]
    seconds = {name: min(turn[name][0] for turn in turns) for name in ways}
    values = {name: turns[0][name][1] for name in ways}
    for name in ways:
        print(f"{name:8} {seconds[name]:8.3f} s   distance {values[name]:.12g}")
    apart = abs(values["diffkit"] / values["scipy"] - 1.0)
    print(f"ratio of times {seconds['diffkit'] / seconds['scipy']:.3f}, distances apart by {apart:.1e}")


def moments(features: int, examples: int, seed: int) -> Moments:
    """Of features whose variances span six decades, as those of networks do."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(features, features, dtype=torch.float64, generator=generator)).Q
    spread = torch.logspace(0, -3, features, dtype=torch.float64)
    drawn = torch.randn(examples, features, dtype=torch.float64, generator=generator)
    return Moments.of(drawn * spread @ basis + 0.01 * seed)


def ours(a: Moments, b: Moments) -> float:
    return float(diffkit.create("metric", "fid").moment_distance(a, b))


def by_sqrtm(a: Moments, b: Moments) -> float:
    first, second = a.covariance.numpy(), b.covariance.numpy()
    root = scipy.linalg.sqrtm(first @ second).real
    step = (a.mean - b.mean).numpy()
    return float(step @ step + np.trace(first) + np.trace(second) - 2.0 * np.trace(root))


def timed(work: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


if __name__ == "__main__":
    main()
