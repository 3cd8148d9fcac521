"""What imputation and restoration share: samples of p(x_0 | y) for a linear measurement y = A x_0 + s_y n."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import attrs
import torch
from attrs.validators import and_, ge, lt
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.errors import DataError, RunError
from diffkit.interfaces.conditioner import Conditioner, Exactness, Move
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.selection import Selection
from diffkit.tensors import expand
from diffkit_standard.conditioners import _particles
from diffkit_standard.conditioners._evidence import Guidance, Measurement, clean_of, evidence
from diffkit_standard.conditioners.threshold import Threshold

__all__ = ["Measured", "Method"]

Method = Literal["replacement", "repaint", "reconstruction", "particle"]


@attrs.frozen(kw_only=True, eq=False)
class Measured(Conditioner):
    """Four ways to p(x_0 | y), y = A x_0 + s_y n. With P = A+ A, and D, J = dD/dx of the unconditional model:

        replacement     x_s <- x_s + P (alpha_s A+ y + sigma_s z - x_s) after every step; s_y = 0
        repaint         the same, and every `jump` steps back up and down again, `resamplings` times in all
        reconstruction  D <- D + strength (sigma^2 / alpha) J^T A^T (s_y^2 I + A V A^T)^-1 (y - A D)
                        mmps: V = (sigma^2 / alpha) J, exact for any Gaussian data
                        pigdm: V = sigma^2 / (alpha^2 + sigma^2) I, exact for standard-normal data
                        dps: instead x_s <- x_s - strength grad |y - A D(x_t)|, a heuristic
        particle        sequential Monte Carlo, exact as the number of particles grows

    Replacement and repaint are approximate whatever the data; the others are where D is not exact, and mmps
    and pigdm where the data are not as said.
    """

    method: Method = parameter("how the measurement bends the samples", "reconstruction")
    guidance: Guidance = parameter("reconstruction: what stands for the covariance of x_0 given x_t", "mmps")
    strength: float = parameter(
        "multiplies reconstruction's guidance; with 0 every method leaves samples as they are",
        1.0,
        validator=and_(ge(0.0), lt(math.inf)),
    )
    iterations: int = parameter(
        "reconstruction: most iterations of the conjugate gradients; mmps takes a backward pass for each",
        3,
        validator=ge(1),
    )
    jump: int = parameter("repaint: how many steps are gone back", 10, validator=ge(1))
    resamplings: int = parameter("repaint: how often each stretch is gone down", 10, validator=ge(1))
    particle_count: int = parameter("particle: how many carry each sample", 16, validator=ge(1))

    @abstractmethod
    def measured(self, problem: Problem) -> Measurement:
        """A, y and s_y for the samples of a batch.

        Raises:
            DataError: a measurement or a mask of another shape.
        """

    @abstractmethod
    def examined(self, shape: tuple[int, ...]) -> None:
        """Looks at what can be known before data are read.

        Raises:
            DataError: a mask, a file or an operator that does not suit samples of this shape.
        """

    @property
    @abstractmethod
    def informative(self) -> bool:
        """Whether the measurement says anything at all."""

    def imposed(self, measured: Measurement, x: Tensor) -> Tensor:
        """Clean x with what was measured put in: x + A+ (y - A x)."""
        return x + measured.pinv(measured.y - measured.operator.apply(x))

    def finished(self, measured: Measurement, x: Tensor) -> Tensor:
        """Clean samples of reconstruction and of particles, as they are handed out."""
        return x

    @property
    def active(self) -> bool:
        return self.strength > 0.0 and self.informative

    @property
    def exactness(self) -> Exactness:
        if not self.active:
            return "exact"
        return "asymptotic" if self.method == "particle" else "approximate"

    @property
    def particles(self) -> int:
        return self.particle_count if self.method == "particle" and self.active else 1

    @property
    def requires(self) -> tuple[Requirement, ...]:
        needs = [
            Requirement(
                "sde.gaussian",
                "what is measured is compared with alpha_t x_0 + sigma_t eps at every noise level",
                "choose sde vp, sub-vp, ve or flow",
            ),
            Requirement(
                "sampler.fixed-steps",
                "what is measured is imposed between the steps of a grid, and an adaptive sampler chooses "
                "steps of its own between them",
                "choose a sampler with fixed steps, such as ddim or dpm-solver++",
            ),
        ]
        if self.method == "particle":
            remedy = "choose ancestral, ddim with eta: 1, euler-maruyama or reverse-diffusion"
            reason = "particles are weighted by the densities of noisy Gaussian steps"
            needs += [
                Requirement("sampler.transition", reason, remedy),
                Requirement("sampler.stochastic", reason, remedy),
            ]
        return tuple(needs)

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        found = []
        if selection.model is not None and not selection.model & {"model.denoise", "model.score"}:
            reason = "it corrects a denoiser or a score, and the model gives neither"
            found.append((reason, "use a model that denoises, or leave it out"))
        others = [each for each in selection.all("conditioner") if each is not self]
        if self.method == "particle" and any(map(_changes_the_state, others)):
            reason = (
                "particles are weighted by where the sampler took them, and another conditioner moves them"
            )
            found.append((reason, "combine them with what acts on the model, or leave one out"))
        try:
            if selection.shape is not None:
                self.examined(selection.shape)
        except DataError as error:
            wanted = f"give {error.expected}." if error.expected else ""
            found.append((error.got, f"{wanted} {error.remedy}".strip()))
        return tuple(found)

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        found, sampler = [], selection.one("sampler")
        changes = self.method != "reconstruction" or self.guidance == "dps"
        if changes and sampler is not None and sampler.order > 1:
            found.append(
                "Changing the state between steps drops a multistep sampler's history, which leaves it at "
                "order 1"
            )
        if self.method == "repaint" and selection.steps is not None and selection.steps <= self.jump + 1:
            found.append(
                f"With {selection.steps} steps there is no stretch of {self.jump} to go back over, so that "
                "repaint is replacement"
            )
        return tuple(found)

    def wrap(self, model: Model, problem: Problem) -> Model:
        if not self.active or self.method != "reconstruction" or self.guidance == "dps":
            return model
        return _Reconstructing(model, self, self.measured(problem), problem.gaussian)

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
        if not self.active:
            return x_s, memory
        known: _Memory = memory or _Memory(measured=self.measured(problem))
        if s is None:
            _refuse_not_finite(problem, x_s)
        if self.method in ("replacement", "repaint"):
            return self._replaced(problem, known.measured, x_s, s, noise), known
        if self.method == "particle":
            return self._weighted(problem, known, x_t, x_s, t, s, noise)
        if self.guidance == "dps" and x_t is not None and t is not None:
            x_s = self._nudged(problem, known.measured, x_t, x_s, t)
        return self.finished(known.measured, x_s) if s is None else x_s, known

    def plan(self, times: Sequence[Tensor | None]) -> Sequence[Move]:
        down = list(super().plan(times))
        if self.method != "repaint" or not self.active:
            return down
        last = len(times) - 1 - (times[-1] is None)
        moves: list[Move] = []
        for origin, target in down:
            moves.append((origin, target))
            # Stretches are counted from the clean end, where the picture is decided.
            if target <= last and target >= self.jump and (last - target) % self.jump == 0:
                back = [(target, target - self.jump), *down[target - self.jump : target]]
                moves += back * (self.resamplings - 1)
        return moves

    def _replaced(
        self, problem: Problem, measured: Measurement, x: Tensor, s: Tensor | None, noise: Noise
    ) -> Tensor:
        if s is None:
            return self.imposed(measured, x)
        sde, z = problem.gaussian, noise.normal_like(x)
        level = expand(sde.alpha(s), x) * measured.y
        level = level + expand(sde.sigma(s), x) * measured.operator.apply(z)
        return x + measured.pinv(level - measured.operator.apply(x))

    def _weighted(
        self,
        problem: Problem,
        known: _Memory,
        x_t: Tensor | None,
        x_s: Tensor,
        t: Tensor | None,
        s: Tensor | None,
        noise: Noise,
    ) -> tuple[Tensor, _Memory]:
        measured, count = known.measured, self.particle_count
        if s is None:
            assert known.swarm is not None
            chosen = _particles.ended(measured, known.swarm, count, x_s, noise)
            return self.finished(measured, chosen), known
        if known.swarm is None or x_t is None or t is None:
            return x_s, attrs.evolve(known, swarm=_particles.begun(problem, measured, x_s, s))
        x_s, swarm = _particles.moved(problem, measured, known.swarm, count, x_t, x_s, t, s, noise)
        return x_s, attrs.evolve(known, swarm=swarm)

    def _nudged(self, problem: Problem, measured: Measurement, x_t: Tensor, x_s: Tensor, t: Tensor) -> Tensor:
        """DPS: a step of length `strength` times |grad| down |y - A D(x_t)|."""
        with torch.enable_grad():
            point = x_t.detach().requires_grad_(True)
            residual = measured.y - measured.operator.apply(problem.denoise(point, t))
            distance = torch.linalg.vector_norm(residual.flatten(1), dim=1)
            if not distance.requires_grad:
                return x_s
            (gradient,) = torch.autograd.grad(distance.sum(), point)
        return x_s - self.strength * gradient


def _changes_the_state(conditioner: Conditioner) -> bool:
    if isinstance(conditioner, Measured):
        return conditioner.method != "reconstruction" or conditioner.guidance == "dps"
    return isinstance(conditioner, Threshold) and conditioner.method == "state"


def _refuse_not_finite(problem: Problem, x: Tensor) -> None:
    finite = x.isfinite().flatten(1).all(1).to(problem.index.device)
    lost = sorted(set(problem.index[~finite].tolist()))
    if lost:
        raise RunError(
            f"The samples {', '.join(map(str, lost[:5]))}{' and more' * (len(lost) > 5)} are not finite",
            "numbers",
            "Lower strength or iterations, take more steps, or choose another method",
        )


@attrs.frozen(kw_only=True, eq=False)
class _Memory:
    """What is kept along a run: the measurement, and the particles where there are any."""

    measured: Measurement
    swarm: _particles.Swarm | None = None


class _Reconstructing(Model):
    """E[x_0 | x_t, y], as far as V is right."""

    offers = frozenset({"denoise"})

    def __init__(self, model: Model, rule: Measured, measured: Measurement, sde: GaussianSDE) -> None:
        self._model, self._rule, self._measured, self._process = model, rule, measured, sde
        self.classes, self.capabilities = model.classes, model.capabilities
        self.sde, self.device = model.sde, model.device

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        rule = self._rule
        assert rule.guidance != "dps"
        found = evidence(
            lambda point: clean_of(self._model, self._process, point, t, label),
            self._measured,
            self._process,
            x,
            t,
            rule.guidance,
            rule.iterations,
        )
        t = t.to(torch.float64)
        scale = rule.strength * self._process.sigma(t) ** 2 / self._process.alpha(t)
        return found.clean + expand(scale, x) * found.gradient
