"""What the objectives on noised data share: training times, and inputs of unit variance.

With x_t = alpha_t x_0 + sigma_t eps, a network F sees

    F = module(c_in x_t, level, label),   c_in = 1 / sqrt(alpha_t^2 sigma_data^2 + sigma_t^2);

nothing here assumes alpha^2 + sigma^2 = 1.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
import torch
from attrs.validators import gt
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level
from diffkit.interfaces.objective import Objective
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.statistics import DataStatistics
from diffkit.tensors import expand

__all__ = ["LogNormal", "NoisedObjective", "Times", "gaussian", "sigma_data_field", "times_field"]

_GOLDEN = 0.5 * (5.0**0.5 - 1.0)


@attrs.frozen(kw_only=True)
class LogNormal:
    """Noise levels with log(sigma/alpha) ~ N(mean, std^2), clipped to the process's range.

    On `flow`, where sigma/alpha = t/(1 - t), this is the logit-normal law of t.

    Source: Karras et al. 2022, arXiv 2206.00364, table 1.
    """

    mean: float = parameter("of log(sigma/alpha)", -1.2)
    std: float = parameter("of log(sigma/alpha)", 1.2, validator=gt(0.0))


Times = Literal["uniform", "log-normal"] | LogNormal


def _known_law(instance: object, attribute: attrs.Attribute[object], value: object) -> None:
    if value not in ("uniform", "log-normal") and not isinstance(value, LogNormal):
        raise ValueError(f"{attribute.name} must be 'uniform', 'log-normal' or a LogNormal, not {value!r}")


def times_field(default: str = "uniform") -> Any:
    """The field `times` of an objective."""
    return parameter(
        "law of the training times: uniform on [t_min, t_max]; log-normal noise levels; or the latter "
        "with a `mean` and a `std` of their own",
        default,
        validator=_known_law,
    )


def _auto_or_positive(instance: object, attribute: attrs.Attribute[object], value: object) -> None:
    if value != "auto" and not (isinstance(value, (int, float)) and 0.0 < value < float("inf")):
        raise ValueError(f"{attribute.name} must be 'auto' or a positive number, not {value!r}")


def sigma_data_field() -> Any:
    """The field `sigma_data` of an objective."""
    return parameter(
        "standard deviation of the encoded data, for scaling the input; auto = measured",
        "auto",
        validator=_auto_or_positive,
    )


class NoisedObjective(Objective):
    """An objective of the family; a concrete one has the two fields."""

    sigma_data: float | Literal["auto"]
    times: Times

    def resolved(self, statistics: DataStatistics) -> Objective:
        if self.sigma_data != "auto":
            return self
        # Constant data have no spread; any scale serves them.
        filled: Objective = attrs.evolve(self, sigma_data=statistics.sigma_data or 1.0)  # type: ignore[misc]
        return filled

    def output(
        self, module: nn.Module, sde: GaussianSDE, x: Tensor, t: Tensor, label: Tensor | None
    ) -> Tensor:
        """F at x_t, shaped like `x` and of its dtype; the network computes in its own.

        Args:
            x: x_t, (B, ...).
            t: float64, 0-d or (B,).
        """
        times = t.expand(len(x)).to(x.device)
        alpha, sigma = sde.alpha(times), sde.sigma(times)
        c_in = torch.rsqrt((alpha * self.scale()) ** 2 + sigma**2)
        own = next(module.parameters(), x)
        output: Tensor = module(
            (expand(c_in, x) * x).to(own.dtype), Level(t=times, alpha=alpha, sigma=sigma), label
        )
        return output.to(x.dtype)

    def scale(self) -> float:
        """sigma_data, once it is known."""
        if self.sigma_data == "auto":
            raise ConfigError(
                "The key objective.sigma_data is still 'auto'",
                "the standard deviation of the training data",
                "Give a number, or call resolved(DataStatistics.of(dataset)) first",
            )
        return self.sigma_data

    def draw_times(self, sde: GaussianSDE, noise: Noise, device: torch.device) -> Tensor:
        """(B,) float64 training times.

        They are spread evenly over a batch: example i of the global batch takes the quantile
        frac(u + i phi) of the law, where u is one draw a step and phi the golden ratio (Weyl's
        sequence). Each t follows the law, the mean over a batch varies less than with independent
        times, and t depends on nothing but (seed, step, i).
        """
        shared = attrs.evolve(noise.stream("time"), index=torch.zeros_like(noise.index))
        offset = shared.uniform((len(noise.index),), dtype=torch.float64, device=device)
        place = noise.index.to(device=device, dtype=torch.float64)
        quantile = torch.frac(offset + place * _GOLDEN)
        if self.times == "uniform":
            return sde.t_min + (sde.t_max - sde.t_min) * quantile
        law = LogNormal() if self.times == "log-normal" else self.times
        log_snr = -2.0 * (law.mean + law.std * torch.special.ndtri(quantile))
        ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64, device=device)
        lowest, highest = sde.log_snr(ends)
        return sde.time_of(log_snr.clamp(lowest, highest)).clamp(sde.t_min, sde.t_max)


def gaussian(sde: SDE) -> GaussianSDE:
    """The process, if it has Gaussian marginals."""
    if not isinstance(sde, GaussianSDE):
        raise TypeError(f"an objective on noised data needs a GaussianSDE, not {type(sde).__name__}")
    return sde
