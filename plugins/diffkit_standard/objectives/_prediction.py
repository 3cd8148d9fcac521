"""What the objectives of denoising share: times, the input's scale, and one denoiser.

With x_t = alpha_t x_0 + sigma_t eps, a network F sees the input at unit variance,

    F = module(c_in x_t, level, label),   c_in = 1 / sqrt(alpha_t^2 sigma_data^2 + sigma_t^2),

is trained on weight |F - target|^2, and is read as the denoiser D(x_t, F). An objective says what
`target`, `weight` and D are; nothing here assumes alpha^2 + sigma^2 = 1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import attrs
import torch
from attrs.validators import gt
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.component import Requirement, parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.model import Model
from diffkit.interfaces.network import Level
from diffkit.interfaces.objective import Objective, State
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.statistics import DataStatistics
from diffkit.tensors import expand

__all__ = ["LogNormal", "Prediction", "Times", "sigma_data_field", "times_field"]

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


class Prediction(Objective):
    """An objective of the family; a concrete one has the two fields and gives `target` and `denoised`.

    Both are given rates that broadcast over x: 0-d, or (B, 1, ...).
    """

    sigma_data: float | Literal["auto"]
    times: Times

    @abstractmethod
    def target(self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What F should be at x_t = alpha x_0 + sigma eps, shaped like `x_0`."""

    @abstractmethod
    def denoised(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D, from x_t and the network's output F, shaped like `x`."""

    def weight(self, sde: GaussianSDE, t: Tensor) -> Tensor:
        """By how much the loss counts at the times t, (B,)."""
        return torch.ones_like(t)

    def distance(self, error: Tensor) -> Tensor:
        """The loss of an error, element by element."""
        return error.square()

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"model.denoise"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.gaussian",
                reason="denoising mixes data and noise at the rates alpha_t and sigma_t",
                remedy="choose a process with Gaussian marginals, such as vp",
            ),
            Requirement(
                "network.image-output",
                reason="the prediction has the shape of the data",
                remedy="choose a network whose output is shaped like its input, such as unet or mlp",
            ),
        )

    def resolved(self, statistics: DataStatistics) -> Objective:
        if self.sigma_data != "auto":
            return self
        # Constant data have no spread; any scale serves them.
        filled: Objective = attrs.evolve(self, sigma_data=statistics.sigma_data or 1.0)  # type: ignore[misc]
        return filled

    def loss(
        self, module: nn.Module, sde: SDE, batch: Batch, noise: Noise, state: State
    ) -> tuple[Tensor, State, dict[str, float]]:
        """The loss of each example, the mean over its elements, (B,); no state, no further figures."""
        process = gaussian(sde)
        t = self._draw_times(process, noise, batch.x.device)
        eps = noise.stream("eps").normal_like(batch.x)
        x_t = process.perturb(batch.x, t, eps)
        alpha, sigma = expand(process.alpha(t), batch.x), expand(process.sigma(t), batch.x)
        output = self.output(module, process, x_t, t, batch.label)
        error = output - self.target(batch.x, eps, alpha, sigma)
        weight = expand(self.weight(process, t), batch.x)
        return (weight * self.distance(error)).flatten(1).mean(1), state, {}

    def model(self, module: nn.Module, sde: SDE) -> Model:
        return _Denoiser(module=module, sde=gaussian(sde), objective=self)

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

    def _draw_times(self, sde: GaussianSDE, noise: Noise, device: torch.device) -> Tensor:
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


@attrs.frozen(kw_only=True, eq=False)
class _Denoiser(Model):
    offers: frozenset[str] = frozenset({"denoise"})
    module: nn.Module
    sde: GaussianSDE
    objective: Prediction

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        t = t.to(torch.float64)
        output = self.objective.output(self.module, self.sde, x, t, label)
        alpha, sigma = expand(self.sde.alpha(t), x), expand(self.sde.sigma(t), x)
        return self.objective.denoised(x, output, alpha, sigma)


def gaussian(sde: SDE) -> GaussianSDE:
    """The process, if it has Gaussian marginals."""
    if not isinstance(sde, GaussianSDE):
        raise TypeError(f"an objective of denoising needs a GaussianSDE, not {type(sde).__name__}")
    return sde
