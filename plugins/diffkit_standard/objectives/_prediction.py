"""What the objectives of denoising share: one loss and one denoiser.

A network F of the noised data (see `_noised`) is trained on weight |F - target|^2, and is read as the
denoiser D(x_t, F). An objective says what `target`, `weight` and D are.
"""

from __future__ import annotations

from abc import abstractmethod

import attrs
import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.component import Requirement
from diffkit.interfaces.model import Model
from diffkit.interfaces.objective import State
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.tensors import expand
from diffkit_standard.objectives._noised import NoisedObjective, gaussian

__all__ = ["Prediction"]


class Prediction(NoisedObjective):
    """An objective of the family; a concrete one has the two fields and gives `target` and `denoised`.

    Both are given rates that broadcast over x: 0-d, or (B, 1, ...).
    """

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

    def loss(
        self, module: nn.Module, sde: SDE, batch: Batch, noise: Noise, state: State
    ) -> tuple[Tensor, State, dict[str, float]]:
        """The loss of each example, the mean over its elements, (B,); no state, no further figures."""
        process = gaussian(sde)
        t = self.draw_times(process, noise, batch.x.device)
        eps = noise.stream("eps").normal_like(batch.x)
        x_t = process.perturb(batch.x, t, eps)
        alpha, sigma = expand(process.alpha(t), batch.x), expand(process.sigma(t), batch.x)
        output = self.output(module, process, x_t, t, batch.label)
        error = output - self.target(batch.x, eps, alpha, sigma)
        weight = expand(self.weight(process, t), batch.x)
        return (weight * self.distance(error)).flatten(1).mean(1), state, {}

    def model(self, module: nn.Module, sde: SDE) -> Model:
        return _Denoiser(module=module, sde=gaussian(sde), objective=self)


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
