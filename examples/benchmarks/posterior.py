"""Conditioned samples against posteriors that are known exactly: the bias of every conditioner, in one table.

    python examples/benchmarks/posterior.py
    python examples/benchmarks/posterior.py --samples 4000 --steps 200 --particles 64 --out posterior

Three laws of data, of each of which half is observed (or a class is asked for), under the exact denoiser:

    gaussian    16 elements, full covariance
    mixture     four bumps in 4 dimensions
    digits      the kernel density (width 0.15) of 400 real digits of 8 x 8 pixels, the central square hidden

Over the hidden elements, with m, C and p the exact posterior's mean, covariance and weights (of the bumps, or
of the ten classes):

    mean        |mean of samples - m| / sqrt(tr C)
    covariance  |covariance of samples - C|_F / |C|_F
    weights     sum of |share of samples - p| / 2; a sample belongs to the likeliest bump or class

The row `exact` draws from the posterior itself: what is left there is chance. `unconditional` ignores what
was observed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import torch
from torch import Tensor

import diffkit
from diffkit.noise import Noise
from diffkit.testing.exact import (
    ExactProblem,
    GaussianProblem,
    KernelDensityProblem,
    LabelledModel,
    MixtureProblem,
)

METHODS: dict[str, dict[str, Any]] = {
    "replacement": {"method": "replacement"},
    "repaint": {"method": "repaint"},
    "dps": {"method": "reconstruction", "guidance": "dps"},
    "pigdm": {"method": "reconstruction", "guidance": "pigdm"},
    "mmps, 3 iterations": {"method": "reconstruction", "guidance": "mmps"},
    "mmps, 20 iterations": {"method": "reconstruction", "guidance": "mmps", "iterations": 20},
}


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """A law of data, what is observed of an example, and what follows from it.

    Args:
        problem: the law.
        mask, values: (D,), what is observed.
        posterior: the exact law given that.
        group: (K,) to which class each component belongs.
    """

    problem: ExactProblem
    mask: Tensor
    values: Tensor
    posterior: GaussianProblem | MixtureProblem
    group: Tensor


def gaussian() -> Case:
    generator = torch.Generator().manual_seed(0)
    root = 0.3 * torch.randn(16, 16, generator=generator, dtype=torch.float64)
    covariance = root @ root.T + 0.02 * torch.eye(16, dtype=torch.float64)
    problem = GaussianProblem(mean=torch.linspace(-0.5, 0.5, 16), covariance=covariance)
    mask = (torch.arange(16) % 2).bool()
    values = problem.draw(Noise(seed=1, index=torch.arange(1)))[0]
    group = torch.zeros(1, dtype=torch.int64)
    return Case(problem=problem, mask=mask, values=values, posterior=problem.given(mask, values), group=group)


def bumps() -> MixtureProblem:
    means = [[-0.9, -0.7, 0.2, 0.6], [-0.8, 0.8, -0.4, 0.1], [0.7, -0.6, 0.8, -0.5], [0.9, 0.9, -0.7, -0.8]]
    return MixtureProblem(weights=[0.4, 0.3, 0.2, 0.1], means=means, variances=[0.08, 0.15, 0.1, 0.05])


def mixture() -> Case:
    problem, mask = bumps(), torch.tensor([True, False, True, False])
    values = torch.tensor([0.1, 0.0, 0.0, 0.0], dtype=torch.float64)
    posterior = problem.given(mask, values)
    return Case(problem=problem, mask=mask, values=values, posterior=posterior, group=torch.arange(4))


def digits() -> Case:
    dataset = diffkit.create("dataset", "digits")
    train, test = dataset.load("train"), dataset.load("test")
    problem = KernelDensityProblem(points=dataset.encode(train.raw[:400]), width=0.15)
    mask = diffkit.create("operator", "in-painting").apply(torch.ones(1, 1, 8, 8)).flatten() > 0
    values = dataset.encode(test.raw[3]).flatten().double()
    return Case(
        problem=problem,
        mask=mask,
        values=values,
        posterior=problem.given(mask, values),
        group=train.label[:400],
    )


CASES = {"gaussian": gaussian, "mixture": mixture, "digits": digits}


def biases(case: Case, x: Tensor) -> dict[str, float]:
    """How far samples (N, D) are from the exact posterior."""
    free = ~case.mask
    mean, covariance = case.posterior.moments(None, None)
    m, C = mean[free], covariance[free][:, free]
    found = {
        "mean": float((x.mean(0)[free] - m).norm() / C.trace().sqrt()),
        "covariance": float((torch.cov(x.T)[free][:, free] - C).norm() / C.norm()),
    }
    if isinstance(case.posterior, MixtureProblem):
        found["weights"] = float((_shares(case, x) - _weights(case)).abs().sum() / 2.0)
    return found


def _weights(case: Case) -> Tensor:
    assert isinstance(case.posterior, MixtureProblem)
    count = int(case.group.max()) + 1
    return torch.zeros(count, dtype=torch.float64).index_add(0, case.group, case.posterior.weights)


def _shares(case: Case, x: Tensor) -> Tensor:
    """The share of samples in each group, by the posterior's responsibilities over the hidden elements."""
    law, free = case.posterior, ~case.mask
    assert isinstance(law, MixtureProblem)
    variances = law.variances.reshape(len(law.means), -1).expand_as(law.means)[:, free]
    distance = x[:, None, free] - law.means[:, free]
    joint = law.weights.log() - 0.5 * (distance**2 / variances + variances.log()).sum(-1)
    owner = case.group[joint.argmax(1)]
    return torch.bincount(owner, minlength=int(case.group.max()) + 1).double() / len(x)


def conditioned(case: Case, samples: int, steps: int, particles: int) -> Iterator[tuple[str, Tensor, int]]:
    """A name, samples (N, D) and calls a sample for every way to complete."""
    exact = case.posterior.draw(Noise(seed=7, index=torch.arange(samples)))
    yield "exact", exact, 0
    swarm = {f"particle, {particles}": {"method": "particle", "particle_count": particles}}
    ways: dict[str, list[Any]] = {"unconditional": []}
    for name, fields in {**METHODS, **swarm}.items():
        ways[name] = [{"name": "imputation", "observed": case.values, "mask": case.mask, **fields}]
    for name, conditioners in ways.items():
        model = case.problem.model(diffkit.create("sde", "vp"))
        yield name, *sampled(model, conditioners, (samples, case.problem.dim), steps)


def sampled(model: Any, conditioners: list[Any], shape: tuple[int, int], steps: int) -> tuple[Tensor, int]:
    result = diffkit.sample(
        model,
        sampler={"name": "ddim", "eta": 1.0},
        steps=steps,
        shape=shape,
        conditioners=conditioners,
        dtype=torch.float64,
        batch_size=250,
    )
    return result.x, result.nfe


def of_a_class(samples: int, steps: int) -> Iterator[tuple[str, dict[str, float], int]]:
    """Guidance towards bump 1 of the mixture, by the exact conditional model and by the exact classifier."""
    model = LabelledModel(problem=bumps(), sde=diffkit.create("sde", "vp"))
    law = model.component(1)
    case = Case(
        problem=law, mask=torch.zeros(4, dtype=torch.bool), values=torch.zeros(4), posterior=law,
        group=torch.zeros(1, dtype=torch.int64),
    )  # fmt: skip
    ways = {
        "class-guidance, scale 1": {"name": "class-guidance", "label": 1, "scale": 1.0},
        "class-guidance, scale 2": {"name": "class-guidance", "label": 1, "scale": 2.0},
        "classifier-guidance, scale 1": {"name": "classifier-guidance", "label": 1, "classifier": model},
    }
    for name, conditioner in ways.items():
        x, calls = sampled(model, [conditioner], (samples, 4), steps)
        yield name, biases(case, x), calls


@click.command()
@click.option("--cases", default=",".join(CASES), show_default=True)
@click.option("--samples", default=1000, show_default=True)
@click.option("--steps", default=100, show_default=True)
@click.option("--particles", default=32, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="For PATH.json.")
def main(cases: str, samples: int, steps: int, particles: int, out: Path | None) -> None:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for chosen in cases.split(","):
        case = CASES[chosen]()
        rows = ((n, biases(case, x), calls) for n, x, calls in conditioned(case, samples, steps, particles))
        found[chosen] = told(chosen, rows)
    if "mixture" in found:
        found["class"] = told("mixture, one bump asked for", of_a_class(samples, steps))
    if out is not None:
        out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")


def told(title: str, rows: Iterator[tuple[str, dict[str, float], int]]) -> dict[str, dict[str, float]]:
    click.echo(f"{title:30} {'mean':>8} {'covariance':>11} {'weights':>8} {'calls':>6}")
    figures = {}
    for name, bias, calls in rows:
        weights = f"{bias['weights']:8.3f}" if "weights" in bias else " " * 8
        click.echo(f"  {name:28} {bias['mean']:8.3f} {bias['covariance']:11.3f} {weights} {calls:6d}")
        figures[name] = bias
    return figures


if __name__ == "__main__":
    main()
