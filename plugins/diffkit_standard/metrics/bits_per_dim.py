"""The negative log-likelihood of held-out examples, in bits a dimension, along the probability flow.

Raw levels k are dequantised, y = k + u - 1/2 with u ~ U[0, 1), and encoded, x = scale y + offset, so that

    P(k) >= exp E_u log p(y),   -log2 p(y) / D = -log2 p(x) / D - mean log2 |scale|,

the mean over the D elements: + log2(L/2) for L levels on [-1, 1]. Data without levels are not dequantised,
and their figure is that of a density, in raw units too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import ge, gt
from torch import Tensor

from diffkit.batch import Batch
from diffkit.component import Requirement, parameter
from diffkit.errors import DataError, IncompatibleError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.sampling_run import Denoiser, as_model, process_of
from diffkit.selection import Selection
from diffkit.tensors import per_channel
from diffkit_standard.metrics._chosen import Chosen
from diffkit_standard.metrics._flow_density import FlowDensity, end_time
from diffkit_standard.metrics._likelihood import (
    Measured,
    mean_and_error,
    prior_divergence,
    refusals,
    require,
    requirements,
)

__all__ = ["BitsPerDim"]

_COARSE, _TOO_COARSE = 0.25, 2.0  # sigma where the flow ends, in widths of a level
_REMEDY = "choose a schedule that begins with less noise, such as linear or cosine, or leave the metric out"


@final
@attrs.frozen(kw_only=True)
class BitsPerDim(Metric):
    """The likelihood of a model, as the density that its probability flow carries from the prior to data.

    The figure of a run is that of held-out examples in the data set's own levels; `log_prob` gives that of
    any x. The density is the one at sigma = `sigma_min`, or at the process's least noise; the run's details
    hold it against the width of a level. A quarter of the width earns a caveat, more than two a refusal.

    The standard error is over examples, each with a dequantisation and probes of its own, so it holds the
    spread of all three; the part of the probes is given apart (`probe_error`). `prior_divergence` bounds
    what the prior's distance from the marginal at t_max adds, in bits/dim.

    Needs a Gaussian process and a model that gives a denoiser or a score; refused where conditioners bend
    the samples. A model trained on the middles of levels knows them as points once the noise is far below
    a level's width, and its density between them, which this figure is of, may be low: see `elbo`.

    Source: Song et al. 2021, arXiv 2011.13456, appendix D.2; dequantisation: Theis et al. 2016, arXiv
    1511.01844, section 3.1.

    Raises:
        DataError: fewer than two held-out examples, NaN or infinite values.
        RunError: the solver cannot hold its tolerance.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, appendix D.2"

    count: int = parameter("held-out examples at most, chosen at random", 100, validator=ge(2))
    probes: int = parameter(
        "Rademacher probes of the divergence, fixed for an example; exact for examples of no more elements",
        2,
        validator=ge(1),
    )
    tolerance: float = parameter(
        "of the adaptive solver, relative and absolute, for the state and for nats a dimension",
        1e-5,
        validator=gt(0.0),
    )
    sigma_min: float = parameter(
        "noise rate at which the flow ends, where the process goes so low", 1e-3, validator=gt(0.0)
    )
    conditional: bool = parameter("measure p(x | label), with the examples' own labels", False)
    batch_size: int = parameter("examples computed together", 100, validator=ge(1))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"model", "held-out"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return requirements(self.conditional)

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        width = self._width_in(selection)
        if width is None or width <= _TOO_COARSE:
            return refusals(selection)
        return (*refusals(selection), (_coarseness(width), _REMEDY))

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        width = self._width_in(selection)
        return () if width is None or not _COARSE < width <= _TOO_COARSE else (_coarseness(width),)

    def log_prob(
        self,
        model: Denoiser | None = None,
        *,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        sde: Any = None,
        x: Tensor,
        label: Tensor | None = None,
        probes: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """log p(x), (B,) nats for each example, in the units of x and its dtype.

        Args:
            model: a `Model`, or a callable `(x, t) -> x0_hat`, differentiable in x; t is (B,).
            score: instead of `model`, a callable `(x, t) -> grad_x log p_t(x)`.
            sde: a name, a mapping or an object; by default the model's own process.
            x: (B, ...), continuous data (dequantised, where they have levels).
            label: (B,), for p(x | label); None = p(x).
            probes: Rademacher probes of the divergence; by default it is exact, at as many gradients of
                the model in each evaluation as x has elements.
            seed: of the probes.

        Raises:
            IncompatibleError: a process or a model without a likelihood, with the remedy.
            DataError: x is not floating point, has no axis of examples, or holds NaN.
            RunError: the solver cannot hold its tolerance.
        """
        estimates = self.log_prob_estimates(
            model, score=score, sde=sde, x=x, label=label, probes=probes, seed=seed
        )
        return estimates.mean(1).to(x.dtype)

    def log_prob_estimates(
        self,
        model: Denoiser | None = None,
        *,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        sde: Any = None,
        x: Tensor,
        label: Tensor | None = None,
        probes: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """One unbiased estimate of log p(x) for each probe, (B, probes) float64; (B, 1) where exact.

        Their spread over sqrt(probes) is the standard error of `log_prob`. Arguments as there.
        """
        known = as_model(model, score)
        process = process_of(known, sde)
        require(attrs.evolve(self, conditional=label is not None), known, process)
        assert isinstance(process, GaussianSDE)  # required just now
        _refuse_unusable(x)
        density = FlowDensity(model=known, sde=process, sigma_min=self.sigma_min, tolerance=self.tolerance)
        device = known.device or x.device
        noise, parts = Noise(seed=seed, index=torch.arange(len(x))), []
        for rows in torch.split(torch.arange(len(x)), self.batch_size):
            part = x.detach()[rows.to(x.device)].to(device)
            labels = None if label is None else label[rows.to(label.device)].to(device)
            drawn = None if probes is None else _rademacher(noise.take(rows), part, probes)
            parts.append(density.log_density(part, labels, drawn).to(x.device))
        return torch.cat(parts)

    def start(self, context: MetricContext) -> Measured:
        state = Measured(name="bits-per-dim", limit=self.count, context=context)
        require(self, state.model, state.sde)
        width = self._in_level_widths(state.sde, state.spec)
        if width is not None and width > _TOO_COARSE:
            raise IncompatibleError(_coarseness(width), remedy=_REMEDY)
        return state

    def update(self, state: Measured, batch: Batch, noise: Noise) -> Measured:
        return state.seen(batch, noise)

    def merge(self, a: Measured, b: Measured) -> Measured:
        return a.merge(b)

    def finish(self, state: Measured) -> Measurement:
        parts = state.parts(self.batch_size)
        bits = torch.cat([self._bits(state, part) for part in parts])
        value, error = mean_and_error(bits.mean(1))
        spread = None if bits.shape[1] < 2 else float(bits.var(1).mean() / bits.numel()) ** 0.5
        end = end_time(state.sde, self.sigma_min)
        levels = state.spec.levels is not None
        details = {
            "unit": "bits/dim" if levels else "bits/dim, of a density",
            "reference": f"held-out, beside {state.context.reference}",
            "divergence": "exact" if self._exact(state.spec) else f"{self.probes} Rademacher probes",
            "probe_error": spread,
            "dequantisation": "uniform, one draw an example" if levels else None,
            "tolerance": self.tolerance,
            "t_end": end,
            "sigma_end": float(state.sde.sigma(torch.tensor(end, dtype=torch.float64))),
            "sigma_in_level_widths": self._in_level_widths(state.sde, state.spec),
            "prior_divergence": prior_divergence(state.sde, torch.cat([part.x for part in parts])),
            "conditional": self.conditional,
        }
        return Measurement(value=value, error=error, count=len(bits), details=details)

    def _bits(self, state: Measured, part: Chosen) -> Tensor:
        """Bits a dimension, (n, k): an example in each row, an estimate in each column."""
        model, spec = state.model, state.spec
        x = part.x.to(model.device or part.x.device)
        scale = per_channel(spec.scale, x)
        if spec.levels is not None:
            uniform = part.noise.stream("dequantisation").uniform(x.shape, dtype=x.dtype, device=x.device)
            x = x + scale * (uniform - 0.5)
        probes = None if self._exact(spec) else _rademacher(part.noise, x, self.probes)
        density = FlowDensity(model=model, sde=state.sde, sigma_min=self.sigma_min, tolerance=self.tolerance)
        label = part.label.to(x.device) if self.conditional else None
        nats = -density.log_density(x, label, probes).cpu() / x[0].numel()
        return nats / math.log(2.0) - float(scale.abs().to(torch.float64).log2().mean())

    def _exact(self, spec: DataSpec) -> bool:
        return math.prod(spec.shape) <= self.probes

    def _in_level_widths(self, sde: GaussianSDE, spec: DataSpec) -> float | None:
        """sigma where the flow ends over the width of a level; None where there are no levels."""
        if spec.levels is None:
            return None
        end = torch.tensor(end_time(sde, self.sigma_min), dtype=torch.float64)
        return float(sde.sigma(end)) / min(abs(scale) for scale in spec.scale)

    def _width_in(self, selection: Selection) -> float | None:
        sde, dataset = selection.one("sde"), selection.one("dataset")
        if dataset is None or not isinstance(sde, GaussianSDE):
            return None
        return self._in_level_widths(sde, dataset.spec())


def _coarseness(widths: float) -> str:
    return (
        f"the process's least noise, where the density is taken, is {widths:.2g} times the width of a level "
        "of the data, so the figure is of blurred data"
    )


def _rademacher(noise: Noise, x: Tensor, probes: int) -> Tensor:
    """Signs, (probes, B, ...), of x's dtype and on its device."""
    stream = noise.stream("probes")
    drawn = [stream.uniform(x.shape, draw=draw, dtype=x.dtype, device=x.device) for draw in range(probes)]
    return 1.0 - 2.0 * (torch.stack(drawn) < 0.5).to(x.dtype)


def _refuse_unusable(x: Tensor) -> None:
    if not x.is_floating_point() or x.ndim < 2 or not len(x):
        raise DataError(
            f"x has the shape {tuple(x.shape)} and the dtype {x.dtype}",
            "examples (B, ...) in floating point, as the model takes them",
            "Encode them as the data set does, and add half-open uniform noise of one level's width",
        )
    if not bool(torch.isfinite(x).all()):
        raise DataError("x holds NaN or infinite values", "finite examples", "Look where they came from")
