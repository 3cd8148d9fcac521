"""Keeps the predicted clean sample, or the state, in the range of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import attrs
import torch
from attrs.validators import and_, gt, le
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.errors import IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand, per_channel

if TYPE_CHECKING:
    from diffkit.compatibility import Selection


Ends = float | tuple[float, ...]

_STATE_CAVEAT = (
    "Clamping the state cuts noise as well as data, and drops a multistep sampler's history in every step, "
    "which leaves it at order 1"
)


def _above_low(threshold: Threshold, attribute: Any, value: Ends) -> None:
    low, high = (torch.tensor(ends, dtype=torch.float64).reshape(-1) for ends in (threshold.low, value))
    if len(low) != len(high) or bool((high <= low).any()):
        raise ValueError("the range ends above where it begins, low < high, both one number or one a channel")


@final
@attrs.frozen(kw_only=True)
class Threshold(Conditioner):
    """Clamping, for every sampler, with c = (low + high) / 2, w = (high - low) / 2 and u = (D - c) / w:

        static   D <- clamp(D, low, high)
        dynamic  D <- c + w clamp(u, -q, q) / q,  q = max(1, each sample's percentile of its |u|)
        state    x <- clamp(x, low, high) after every step, the last one included

    The first two act on the model, so score and eps_hat follow from the clamped D, and a multistep method's
    history holds clamped predictions. In a list of conditioners it stands after those that guide. The state
    clamp is that of simple DDPM codes; it cuts noise as well as data. An experiment takes the range in its
    data set's plain units, in which images lie in [-1, 1]; `diffkit.sample` knows the model's units only.

    Source: Saharia et al. 2022 (Imagen), arXiv 2205.11487, section 2.3 (static, dynamic); Ho, Jain and Abbeel
    2020, arXiv 2006.11239, the published code (static).
    """

    source: ClassVar[str] = "Saharia et al. 2022, arXiv 2205.11487, section 2.3"

    method: Literal["static", "dynamic", "state"] = parameter(
        "clamp D (static), clamp and rescale D by a percentile of each sample (dynamic), or clamp x", "static"
    )
    low: Ends = parameter("least value of clean data, one or one a channel", -1.0)
    high: Ends = parameter("largest value of clean data, likewise", 1.0, validator=_above_low)
    percentile: float = parameter(
        "dynamic: the share of a sample's elements that is not clamped",
        0.995,
        validator=and_(gt(0.0), le(1.0)),
    )

    @property
    def requires(self) -> tuple[Requirement, ...]:
        if self.method == "state":
            return ()
        return (Requirement("sde.gaussian", "only a Gaussian process has a predicted clean sample to clamp"),)

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        if self.method == "state":
            return (_STATE_CAVEAT,)
        chain = selection.all("conditioner")
        later = chain[chain.index(self) + 1 :] if self in chain else ()
        if any(type(conditioner).wrap is not Conditioner.wrap for conditioner in later):
            return ("Guidance that comes after the threshold may lead the prediction out of the range again",)
        return ()

    def prepared(self, dataset: Dataset) -> Threshold:
        shape = dataset.spec().shape
        example = torch.zeros(2, shape[0], *(1,) * (len(shape) - 1), dtype=torch.float64)
        plain = torch.stack(self._range(example)) + example
        low, high = dataset.from_plain(plain).flatten(1).tolist()
        return attrs.evolve(self, low=tuple(low), high=tuple(high))

    def wrap(self, model: Model, problem: Problem) -> Model:
        return model if self.method == "state" else _Thresholded(model, self, problem.gaussian)

    def after_step(
        self,
        problem: Problem,
        x_t: Tensor | None,
        x_s: Tensor,
        t: Tensor | None,
        s: Tensor | None,
        memory: Any,
        noise: Noise,
    ) -> tuple[Tensor, Any]:
        if self.method != "state" or x_t is None:
            return x_s, memory
        # A new tensor even where nothing exceeds: whether a history is dropped must not depend on the batch.
        return x_s.clamp(*self._range(x_s)), memory

    def clamped(self, clean: Tensor) -> Tensor:
        """D in the range, (B, ...)."""
        low, high = self._range(clean)
        if self.method == "static":
            return clean.clamp(low, high)
        centre, width = 0.5 * (low + high), 0.5 * (high - low)
        u = (clean - centre) / width
        excess = self._percentile(u.abs())
        rescaled = centre + width * torch.clamp(u, -excess, excess) / excess
        return torch.where(excess > 1.0, rescaled, clean).clamp(low, high)

    def _range(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends, to broadcast over (B, C, ...)."""
        low, high = (ends if isinstance(ends, tuple) else (ends,) for ends in (self.low, self.high))
        return per_channel(low, like), per_channel(high, like)

    def _percentile(self, u: Tensor) -> Tensor:
        """The percentile over each sample's elements, at least 1, (B, 1, ...)."""
        precise = u.flatten(1).to(torch.promote_types(u.dtype, torch.float32))
        # One sample at a time: torch.quantile refuses tensors of more than 2^24 elements.
        found = torch.stack([sample.quantile(self.percentile) for sample in precise])
        # At least 1, so that the branch that is not taken stays finite, and so does its gradient.
        return expand(found.clamp(min=1.0), u)


class _Thresholded(Model):
    """A denoiser in the range, from one that is not or from a score."""

    offers = frozenset({"denoise"})

    def __init__(self, model: Model, threshold: Threshold, sde: GaussianSDE) -> None:
        if not model.offers & {"denoise", "score"}:
            raise IncompatibleError(
                f"the model offers {', '.join(sorted(model.offers)) or 'nothing'}",
                "threshold clamps a denoiser's output, or that of a score",
                "leave threshold out, or set its method: state",
            )
        self._model, self._threshold, self._process = model, threshold, sde
        self.classes, self.capabilities = model.classes, model.capabilities
        self.sde, self.device = model.sde, model.device

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._threshold.clamped(self._clean(x, t, label))

    def _clean(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        if "denoise" in self._model.offers:
            return self._model.denoise(x, t, label)
        variance = expand(self._process.sigma(t) ** 2, x)
        return (x + variance * self._model.score(x, t, label)) / expand(self._process.alpha(t), x)
