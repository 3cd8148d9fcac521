"""The variational bound on -log P of held-out examples under a discrete diffusion, term by term in t.

With s the level before t, D = D(x_t, t) and levels k = 1 .. T at t = k/T,

    L_T     = KL(q(x_T|x_0) || prior) = alpha_T^2 |x_0|^2 / (2 sigma_T^2)
    L_{k-1} = KL(q(x_s|x_t, x_0) || N(mu(x_t, D), v)),   k = 2 .. T
            = (alpha_s sigma_{t|s}^2 / sigma_t^2)^2 |x_0 - D|^2 / (2 v) + dim/2 (r - 1 - log r),   r = v_q / v
    L_0     = -log prod_i [Phi(b_i) - Phi(a_i)],   a and b the edges of x_0's level about D(x_1, t_1)

and -log P(x_0) <= E sum of them over the noise. v_q = sigma_s^2 sigma_{t|s}^2 / sigma_t^2 is the posterior's
variance, v the model's: v_q itself, or sigma_{t|s}^2. L_0 takes v_q of k = 2, as published code does; the
lowest level reaches down to minus infinity and the highest up to infinity.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import ge, in_, optional
from torch import Tensor
from torch.special import log_ndtr

from diffkit.batch import Batch
from diffkit.component import Requirement, parameter
from diffkit.errors import IncompatibleError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.interfaces.sde import SDE, GaussianSDE, ScheduledSDE
from diffkit.noise import Noise
from diffkit.progress import watched
from diffkit.selection import Selection
from diffkit.tensors import per_channel
from diffkit_standard.metrics._chosen import Chosen
from diffkit_standard.metrics._likelihood import (
    Measured,
    denoiser,
    mean_and_error,
    refusals,
    require,
    requirements,
)
from diffkit_standard.schedules.discrete import Discrete

__all__ = ["ELBO"]

_NO_TABLE = (
    "the bound is a sum over the levels of a discrete diffusion, and this process has no table of them",
    "set sde: vp and schedule: discrete, or measure bits-per-dim, which serves every schedule",
)
_NO_LEVELS = (
    "the bound ends in a decoder that gives levels their probability, and these data are continuous",
    "measure bits-per-dim, which gives their density",
)


@final
@attrs.frozen(kw_only=True)
class ELBO(Metric):
    """The bound in bits/dim of the data set's own levels: an upper bound of the model's -log2 P / D.

    Each term is estimated with one noise an example, unbiased. Asked for fewer `levels` than T - 1, each
    example takes one level at random out of so many equal parts of 2 .. T, and stands for its part. The
    standard error is over examples and so holds the spread of all of that. The details hold the mean of
    every term, in bits/dim: `L_0`, `L_T`, and `terms` with `t` = k/T and `bits`.

    Needs a process with the schedule `discrete`, data with levels, and a model that gives a denoiser or a
    score; refused where conditioners bend the samples. The objective `noise` with `weighting: bound` and
    `levels: T` trains on these terms.

    Source: Ho et al. 2020, arXiv 2006.11239, eq. 5 and 8, section 3.3; the weights of |x_0 - D|^2: Kingma et
    al. 2021, arXiv 2107.00630, eq. 14.

    Raises:
        DataError: fewer than two held-out examples, NaN or infinite values.
    """

    source: ClassVar[str] = "Ho et al. 2020, arXiv 2006.11239, eq. 5 and section 3.3"

    count: int = parameter("held-out examples at most, chosen at random", 100, validator=ge(2))
    variance: Literal["posterior", "large"] = parameter(
        "of the model's steps: the posterior's, or sigma_{t|s}^2 (beta_t for vp)",
        "posterior",
        validator=in_(("posterior", "large")),
    )
    levels: int | None = parameter(
        "how many of the levels 2 .. T are drawn for each example; null = all of them",
        None,
        validator=optional(ge(1)),
    )
    conditional: bool = parameter("bound P(x | label), with the examples' own labels", False)
    batch_size: int = parameter("examples computed together", 100, validator=ge(1))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"model", "held-out"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return requirements(self.conditional)

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        sde, dataset = selection.one("sde"), selection.one("dataset")
        found = list(refusals(selection))
        if isinstance(sde, GaussianSDE) and _table_length(sde) is None:
            found.append(_NO_TABLE)
        if dataset is not None and dataset.spec().levels is None:
            found.append(_NO_LEVELS)
        return tuple(found)

    def start(self, context: MetricContext) -> Measured:
        state = Measured(name="elbo", limit=self.count, context=context)
        require(self, state.model, state.sde)
        if state.spec.levels is None:
            reason, remedy = _NO_LEVELS
            raise IncompatibleError(reason, remedy=remedy)
        return state

    def update(self, state: Measured, batch: Batch, noise: Noise) -> Measured:
        return state.seen(batch, noise)

    def merge(self, a: Measured, b: Measured) -> Measured:
        return a.merge(b)

    @torch.no_grad()
    def finish(self, state: Measured) -> Measurement:
        steps = _table_length(state.sde)
        assert steps is not None  # required in start
        parts = [self._terms(state, part, steps) for part in state.parts(self.batch_size)]
        unit = math.log(2.0) * math.prod(state.spec.shape)
        decoder, prior = (torch.cat([part[name] for part in parts]) / unit for name in ("L_0", "L_T"))
        level, bits = (torch.cat([part[name] for part in parts], dim=1) for name in ("level", "bits"))
        bits = bits / unit
        value, error = mean_and_error(decoder + prior + bits.mean(0) * (steps - 1))
        sums = bits.new_zeros(steps + 1).index_add(0, level.flatten(), bits.flatten())
        visits = level.flatten().bincount(minlength=steps + 1)
        seen = visits.nonzero().flatten()
        details = {
            "unit": "bits/dim, an upper bound",
            "reference": f"held-out, beside {state.context.reference}",
            "variance": self.variance,
            "steps": steps,
            "levels": len(bits),
            "conditional": self.conditional,
            "L_0": float(decoder.mean()),
            "L_T": float(prior.mean()),
            "terms": {
                "t": (seen.to(torch.float64) / steps).tolist(),
                "bits": (sums[seen] / visits[seen]).tolist(),
            },
        }
        return Measurement(value=value, error=error, count=len(decoder), details=details)

    def _terms(self, state: Measured, part: Chosen, steps: int) -> dict[str, Tensor]:
        """L_0 and L_T, (n,) nats; `bits` (m, n), in nats still, and the k they are of, `level` (m, n)."""
        sde, model = state.sde, state.model
        x = part.x.to(model.device or part.x.device)
        label = part.label.to(x.device) if self.conditional else None
        denoise = denoiser(model, sde, label)
        level = self._levels(part.noise, steps)
        bits = []
        for number, k in enumerate(watched(level.to(torch.float64), "likelihood", len(level), "terms")):
            t, s = k / steps, (k - 1) / steps
            eps = part.noise.stream("eps").normal_like(x, draw=number)
            error = x - denoise(sde.perturb(x, t, eps), t.to(x.device))
            bits.append(self._divergence(sde, t, s, error))
        first = torch.tensor(1.0 / steps, dtype=torch.float64)
        eps = part.noise.stream("decoder").normal_like(x)
        mean = denoise(sde.perturb(x, first, eps), first)
        end = torch.tensor(1.0, dtype=torch.float64)
        share = float(sde.alpha(end) / sde.sigma(end)) ** 2
        return {
            "L_0": _decoder_loss(state.spec, x, mean, _posterior_variance(sde, 2.0 * first, first).sqrt()),
            "L_T": 0.5 * share * _squares(x),
            "level": level,
            "bits": torch.stack(bits),
        }

    def _levels(self, noise: Noise, steps: int) -> Tensor:
        """(m, n) int64: the levels k, out of 2 .. T, to be taken of each example."""
        count = steps - 1
        if self.levels is None or self.levels >= count:
            return torch.arange(2, steps + 1)[:, None].expand(-1, len(noise.index))
        uniform = noise.stream("levels").uniform((len(noise.index), self.levels), dtype=torch.float64)
        place = (torch.arange(self.levels) + uniform) * (count / self.levels)
        return 2 + place.T.long().clamp(max=count - 1)

    def _divergence(self, sde: GaussianSDE, t: Tensor, s: Tensor, error: Tensor) -> Tensor:
        """L_{k-1} in nats, (n,) float64, from x_0 - D."""
        posterior, step = _posterior_variance(sde, t, s), sde.transition(t, s)[1]
        model = posterior if self.variance == "posterior" else step**2
        ratio = posterior / model
        slope = sde.alpha(s) * step**2 / sde.sigma(t) ** 2
        widths = 0.5 * error[0].numel() * (ratio - 1.0 - ratio.log())
        return 0.5 * slope**2 / model * _squares(error) + widths


def _table_length(sde: SDE) -> int | None:
    """T of a process with the schedule `discrete`, else None."""
    if isinstance(sde, ScheduledSDE) and isinstance(sde.schedule, Discrete):
        return len(sde.schedule.beta_table)
    return None


def _posterior_variance(sde: GaussianSDE, t: Tensor, s: Tensor) -> Tensor:
    """v_q of q(x_s | x_t, x_0)."""
    return (sde.sigma(s) * sde.transition(t, s)[1] / sde.sigma(t)) ** 2


def _decoder_loss(spec: DataSpec, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """-log of the probability that N(mean, std^2) gives to the levels of x, (n,) float64 nats."""
    assert spec.levels is not None  # required in start
    x, mean = x.to(torch.float64), mean.to(torch.float64)
    scale, offset = per_channel(spec.scale, x), per_channel(spec.offset, x)
    level, centre = ((x - offset) / scale).round(), (mean - offset) / scale
    width = std.to(x.device) / scale.abs()
    low = torch.where(level <= 0, -torch.inf, (level - 0.5 - centre) / width)
    high = torch.where(level >= spec.levels - 1, torch.inf, (level + 0.5 - centre) / width)
    # The interval is turned to the left tail, where the logarithms keep their digits.
    right = low + high > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_high = log_ndtr(high)
    log_share: Tensor = log_high + torch.log(-torch.expm1(log_ndtr(low) - log_high))
    return -log_share.flatten(1).sum(1).cpu()


def _squares(x: Tensor) -> Tensor:
    """|x|^2 of each example, (n,) float64 on the CPU, where the terms are gathered."""
    return x.to(torch.float64).square().flatten(1).sum(1).cpu()
