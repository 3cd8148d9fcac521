"""The sampling loop: the meaning of time and steps, the call protocol, the same sample for the same seed."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import attrs
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner, Move
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling import SampleResult
from diffkit.testing.exact import ExactProblem, GaussianProblem, LabelledModel, MixtureProblem

GAUSSIAN = GaussianProblem(mean=[0.4, -0.3], covariance=[[0.3, 0.1], [0.1, 0.2]])
MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-0.8, 0.5], [0.7, 0.2]], variances=[0.1, 0.2])
VP: GaussianSDE = diffkit.create("sde", "vp")


def sample(**given: Any) -> SampleResult:
    """Six samples of the mixture on VP, unless told otherwise."""
    settings: dict[str, Any] = {
        "model": MIXTURE.model(VP),
        "sampler": "ddim",
        "steps": 5,
        "dtype": torch.float64,
    }
    settings |= {"shape": (6, 2)} if "x_init" not in given else {}
    settings |= given
    return diffkit.sample(settings.pop("model"), **settings)


def time(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def real(times: Sequence[Tensor | None]) -> list[float | None]:
    return [None if t is None else float(t) for t in times]


class TestTimeAndSteps:
    @pytest.mark.parametrize("steps", [1, 2, 3, 10])
    @pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++", "euler-maruyama", "exponential-integrator"])
    def test_n_steps_are_n_calls_of_a_one_call_sampler(self, sampler: str, steps: int) -> None:
        result = sample(sampler=sampler, steps=steps)
        assert result.nfe == steps
        assert result.nfe_per_sample.tolist() == [steps] * 6
        assert len(result.times) == steps + 1
        assert result.times[0] == VP.t_max
        assert result.times[-1] is None
        assert steps == 1 or result.times[-2] == VP.t_min

    def test_heun_spends_two_calls_an_interval_and_one_at_the_end(self) -> None:
        assert sample(sampler={"name": "probability-flow", "method": "heun"}, steps=5).nfe == 2 * 4 + 1

    def test_one_step_is_one_denoiser_call_and_asks_no_grid(self) -> None:
        result = sample(steps=1, grid=NoGrid())
        start = VP.prior((6, 2), Noise(seed=0, index=torch.arange(6)).stream("prior"), dtype=torch.float64)
        assert torch.equal(result.x, MIXTURE.denoise(VP, start, time(VP.t_max)))
        assert real(result.times) == [VP.t_max, None]

    def test_the_last_move_is_the_denoiser_s(self) -> None:
        result = sample(steps=4, trajectory=True)
        assert result.trajectory is not None
        clean = MIXTURE.denoise(VP, result.trajectory[-2], time(VP.t_min))
        assert torch.equal(result.x, clean)

    def test_an_explicit_stop_ends_there_without_a_final_denoise(self) -> None:
        result = sample(steps=7, stop=0.25)
        assert result.nfe == 7
        assert len(result.times) == 8
        assert real(result.times)[-1] == 0.25
        assert result.x.std() > 0.5  # still noisy

    def test_a_stop_at_t_min_is_not_clean_data(self) -> None:
        result = sample(steps=4, stop=VP.t_min)
        assert real(result.times)[-1] == VP.t_min
        assert result.nfe == 4

    def test_start_is_where_x_init_lives(self) -> None:
        x = MIXTURE.draw_at(VP, time(0.5), Noise(seed=1, index=torch.arange(6)))
        result = sample(x_init=x, start=0.5, trajectory=True)
        assert real(result.times)[0] == 0.5
        assert result.trajectory is not None
        assert torch.equal(result.trajectory[0], x)

    def test_x_init_alone_begins_at_the_end_of_the_process(self) -> None:
        assert real(sample(x_init=torch.ones(2, 2, dtype=torch.float64)).times)[0] == VP.t_max

    def test_starting_at_t_min_leaves_only_the_last_move(self) -> None:
        x = torch.ones(2, 2, dtype=torch.float64)
        result = sample(x_init=x, start=VP.t_min, steps=9)
        assert real(result.times) == [VP.t_min, None]
        assert torch.equal(result.x, MIXTURE.denoise(VP, x, time(VP.t_min)))

    def test_a_default_is_taken_for_what_is_not_said(self) -> None:
        sampler = diffkit.create("sampler", "dpm-solver++")
        assert sample(sampler="dpm-solver++", steps=None).nfe == sampler.default_steps
        times = [t for t in sample(sampler="dpm-solver++", steps=9).times if t is not None]
        lambdas = VP.log_snr(torch.stack(times))
        torch.testing.assert_close(lambdas.diff(), lambdas.diff().mean().expand(8), rtol=1e-6, atol=1e-6)

    def test_an_adaptive_sampler_takes_one_interval_and_counts_each_sample(self) -> None:
        result = sample(sampler={"name": "probability-flow", "method": "rk45"}, steps=None)
        assert real(result.times) == [VP.t_max, VP.t_min, None]
        assert result.nfe == int(result.nfe_per_sample.max())
        assert len(set(result.nfe_per_sample.tolist())) > 1

    @pytest.mark.parametrize("steps", [1, 4])
    def test_another_process_than_a_gaussian_one_runs_n_intervals(self, steps: int) -> None:
        def force(x: Tensor, t: Tensor) -> Tensor:
            return -x

        result = diffkit.sample(score=force, sde=Walk(), sampler=Drift(), steps=steps, shape=(2, 2))
        assert real(result.times) == pytest.approx([1.0 - i / steps for i in range(steps + 1)])
        assert result.nfe == steps


@final
@attrs.frozen(kw_only=True)
class NoGrid(Grid):
    """A grid that must not be asked."""

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        raise AssertionError("the grid was asked")


@final
@attrs.frozen(kw_only=True)
class Walk(SDE):
    """A process without alpha and sigma."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -x

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def prior(self, shape: Any, noise: Noise, dtype: Any = None, device: Any = None) -> Tensor:
        return noise.normal(shape, dtype=dtype, device=device)


@final
@attrs.frozen(kw_only=True)
class Drift(Sampler):
    """x + 0.1 score."""

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        return x + 0.1 * problem.score(x, t), None


class TestSeedsAndBatches:
    @pytest.mark.parametrize("sampler", ["ddim", "euler-maruyama", "dpm-solver++", "predictor-corrector"])
    def test_a_sample_is_the_same_in_any_batch(self, sampler: str) -> None:
        whole = sample(sampler=sampler, shape=(10, 2)).x
        alone = sample(sampler=sampler, shape=(10, 2), batch_size=1).x
        torch.testing.assert_close(alone, whole, rtol=1e-10, atol=1e-10)
        parts = [
            sample(sampler=sampler, shape=(n, 2), first=first).x for first, n in ((0, 3), (3, 6), (9, 1))
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-10, atol=1e-10)

    def test_chunks_are_cut_at_multiples_of_the_global_index(self) -> None:
        seen: list[list[int]] = []
        sample(shape=(10, 2), first=5, batch_size=4, on_step=lambda step: seen.append(step.index.tolist()))
        assert [list(cut) for cut in dict.fromkeys(map(tuple, seen))] == [
            [5, 6, 7],
            [8, 9, 10, 11],
            [12, 13, 14],
        ]

    def test_the_same_cuts_give_the_same_bits(self) -> None:
        whole = sample(shape=(128, 2), sampler="euler-maruyama")
        second = sample(shape=(64, 2), first=64, sampler="euler-maruyama")
        assert torch.equal(whole.x[64:], second.x)
        assert second.index.tolist() == list(range(64, 128))

    def test_a_seed_decides_everything(self) -> None:
        first, again, other = (sample(seed=seed, sampler="euler-maruyama").x for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)

    def test_two_steps_of_one_run_draw_different_noise(self) -> None:
        drawn: list[Tensor] = []

        @final
        @attrs.frozen(kw_only=True)
        class Recorder(Sampler):
            @property
            def stochastic(self) -> bool:
                return True

            def step(
                self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
            ) -> tuple[Tensor, Any]:
                drawn.append(noise.normal_like(x))
                return x, None

        sample(sampler=Recorder(), steps=6)
        start = VP.prior((6, 2), Noise(seed=0, index=torch.arange(6)).stream("prior"), dtype=torch.float64)
        drawn.append(start / float(VP.sigma(time(VP.t_max))))
        assert all(not torch.allclose(a, b) for i, a in enumerate(drawn) for b in drawn[:i])

    def test_the_global_generator_is_neither_read_nor_moved(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            before = torch.get_rng_state()
            first = sample(sampler="euler-maruyama").x
            assert torch.equal(before, torch.get_rng_state())
            torch.manual_seed(2)
            assert torch.equal(first, sample(sampler="euler-maruyama").x)

    def test_x_init_is_not_written_to(self) -> None:
        x = torch.ones(4, 2, dtype=torch.float64)
        for sampler in ("ddim", "euler-maruyama", {"name": "probability-flow", "method": "rk45"}):
            sample(x_init=x, sampler=sampler, conditioners=["threshold"])
        assert torch.equal(x, torch.ones(4, 2, dtype=torch.float64))

    def test_the_dtype_is_x_init_s_or_what_is_asked_for_or_torch_s(self) -> None:
        single = torch.ones(2, 2, dtype=torch.float32)
        assert sample(x_init=single, dtype=None).x.dtype == torch.float32
        assert sample(x_init=single, dtype=torch.float64).x.dtype == torch.float64
        assert sample(dtype=None).x.dtype == torch.get_default_dtype()


class TestWatching:
    def test_the_trajectory_runs_from_the_start_to_the_sample(self) -> None:
        result = sample(trajectory=True, batch_size=4)
        assert result.trajectory is not None
        assert result.trajectory.shape == (6, 6, 2)
        assert torch.equal(result.trajectory[-1], result.x)
        start = VP.prior((6, 2), Noise(seed=0, index=torch.arange(6)).stream("prior"), dtype=torch.float64)
        assert torch.equal(result.trajectory[0], start)
        assert sample().trajectory is None

    def test_the_generator_gives_every_state_and_leaves_grad_mode_alone(self) -> None:
        model = MIXTURE.model(VP)
        steps = diffkit.sample_steps(model, sampler="ddim", steps=4, shape=(6, 2), dtype=torch.float64)
        seen = []
        for step in steps:
            assert torch.is_grad_enabled()
            assert not step.x.requires_grad
            seen.append((step.number, step.total, step.t is None, step.s is None, int(step.calls[0])))
        assert seen == [(0, 4, True, False, 0), *((n, 4, False, n == 4, n) for n in (1, 2, 3, 4))]
        assert torch.equal(step.x, sample(steps=4).x)

    def test_a_run_can_be_left_and_the_mode_is_the_caller_s(self) -> None:
        with torch.no_grad():
            steps = diffkit.sample_steps(MIXTURE.model(VP), sampler="ddim", steps=4, shape=(1, 2))
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert torch.is_grad_enabled()

    def test_labels_are_recorded_by_global_index(self) -> None:
        model = LabelledModel(problem=MIXTURE, sde=VP)
        guided = sample(model=model, first=3, conditioners=[{"name": "class-guidance", "label": [1, 0, 0]}])
        assert guided.label.tolist() == [1, 0, 0, 1, 0, 0]
        assert sample().label.tolist() == [-1] * 6


class TestTheModel:
    def test_a_callable_a_model_and_a_score_are_the_same(self) -> None:
        model = MIXTURE.model(VP)
        expected = sample().x
        assert torch.equal(sample(model=lambda x, t: model.denoise(x, t), sde=VP).x, expected)
        score = diffkit.sample(
            score=model.score, sde=VP, sampler="ddim", steps=5, shape=(6, 2), dtype=torch.float64
        )
        torch.testing.assert_close(score.x, expected, rtol=1e-8, atol=1e-8)
        assert score.nfe == 5

    def test_a_model_of_another_process_is_refused(self) -> None:
        with pytest.raises(IncompatibleError, match="one process in training and in sampling"):
            sample(sde="ve")


@pytest.mark.parametrize("problem", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("name", ["vp", "sub-vp", "ve", "flow"])
def test_encoded_data_come_back(problem: ExactProblem, name: str) -> None:
    sde = diffkit.create("sde", name)
    x = problem.draw(Noise(seed=7, index=torch.arange(8)))
    sampler = {"name": "dpm-solver++", "order": 2}
    latent = diffkit.encode(problem.model(sde), x=x, sampler=sampler, steps=400)
    back = diffkit.sample(problem.model(sde), x_init=latent, sampler=sampler, steps=400)
    torch.testing.assert_close(back.x, x, rtol=0.0, atol=0.02)
    sigma = float(sde.sigma(time(sde.t_max)))
    assert 0.3 * sigma < float(latent.std()) < 2.0 * sigma


def test_encoding_is_the_exact_flow() -> None:
    x = GAUSSIAN.draw_at(VP, time(0.1), Noise(seed=7, index=torch.arange(8)))
    latent = diffkit.encode(
        GAUSSIAN.model(VP),
        x=x,
        start=0.1,
        stop=0.8,
        sampler={"name": "probability-flow", "method": "rk4"},
        steps=60,
    )
    torch.testing.assert_close(latent, GAUSSIAN.flow(VP, x, time(0.1), time(0.8)), rtol=1e-6, atol=1e-6)


def test_encoding_with_noise_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="deterministic"):
        diffkit.encode(GAUSSIAN.model(VP), x=torch.zeros(1, 2), sampler="euler-maruyama")


Call = tuple[float | None, float | None, Any, bool]


@final
@attrs.frozen(kw_only=True, eq=False)
class Watcher(Conditioner):
    """Writes down every call of after_step, and replaces the state where told to.

    Args:
        calls: t, s, memory, and whether x_t was there.
        replace: numbers of the calls that return another tensor.
    """

    calls: list[Call] = attrs.field(factory=list)
    replace: tuple[int, ...] = ()

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
        self.calls.append((*real((t, s)), memory, x_t is not None))
        number = len(self.calls) - 1
        return (x_s.clone() if number in self.replace else x_s), number


@final
@attrs.frozen(kw_only=True, eq=False)
class UpAndDown(Conditioner):
    """Goes up again by `jump` from one position, once."""

    position: int = 3
    jump: int = 2

    def plan(self, times: Sequence[Tensor | None]) -> Sequence[Move]:
        moves = [(place, place + 1) for place in range(len(times) - 1)]
        again = [(place, place + 1) for place in range(self.position - self.jump, self.position)]
        return [
            *moves[: self.position],
            (self.position, self.position - self.jump),
            *again,
            *moves[self.position :],
        ]


@final
@attrs.frozen(kw_only=True, eq=False)
class Counting(Sampler):
    """Keeps still, and writes down the carry it is given at each step."""

    seen: list[Any] = attrs.field(factory=list)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        self.seen.append(carry)
        return x + 0.0, (carry or 0) + 1


class TestConditioners:
    def test_after_step_is_called_at_the_start_and_after_every_downward_move(self) -> None:
        watcher = Watcher()
        result = sample(steps=4, conditioners=[watcher])
        times = real(result.times)
        assert watcher.calls == [
            (None, times[0], None, False),
            *((t, s, number, True) for number, (t, s) in enumerate(itertools.pairwise(times))),
        ]

    def test_a_move_upwards_is_not_reported_and_memory_lives_on(self) -> None:
        watcher = Watcher()
        times = real(sample(steps=6, conditioners=[watcher, UpAndDown()]).times)
        visited = [0, 1, 2, 3, 2, 3, 4, 5, 6]
        assert [s for _, s, _, _ in watcher.calls] == [times[place] for place in visited]
        assert [memory for _, _, memory, _ in watcher.calls] == [None, *range(8)]

    def test_a_move_upwards_is_re_noising_with_the_owner_s_stream(self) -> None:
        result = sample(steps=6, conditioners=[Watcher(), UpAndDown()], trajectory=True)
        assert result.trajectory is not None
        low, high = result.times[3], result.times[1]
        assert low is not None
        assert high is not None
        factor, deviation = VP.transition(high, low)
        stream = Noise(seed=0, index=torch.arange(6)).stream("conditioner", 1, "up", 4)
        z = stream.normal((6, 2), dtype=torch.float64)
        expected = factor * result.trajectory[3] + deviation * z
        torch.testing.assert_close(result.trajectory[4], expected, rtol=1e-12, atol=1e-12)
        marginal = (factor * VP.sigma(low)) ** 2 + deviation**2
        torch.testing.assert_close(marginal, VP.sigma(high) ** 2)

    def test_the_carry_is_dropped_after_a_move_upwards(self) -> None:
        sampler = Counting()
        sample(sampler=sampler, steps=6, conditioners=[UpAndDown()])
        assert sampler.seen == [None, 1, 2, None, 1, 2, 3]

    def test_the_carry_is_dropped_where_another_tensor_comes_back(self) -> None:
        sampler = Counting()
        sample(sampler=sampler, steps=6, conditioners=[Watcher(), Watcher(replace=(2, 3))])
        assert sampler.seen == [None, 1, None, None, 1]

    def test_what_comes_back_is_the_state(self) -> None:
        @final
        @attrs.frozen(kw_only=True)
        class Zero(Conditioner):
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
                return torch.zeros_like(x_s), memory

        assert torch.equal(sample(conditioners=[Zero()]).x, torch.zeros(6, 2, dtype=torch.float64))

    def test_two_that_change_the_plan_are_refused(self) -> None:
        with pytest.raises(IncompatibleError, match="both change the order of the steps"):
            sample(steps=6, conditioners=[UpAndDown(), UpAndDown(position=4)])

    def test_guidance_is_counted_and_composed(self) -> None:
        model = LabelledModel(problem=MIXTURE, sde=VP)
        guidance = {"name": "class-guidance", "label": 1, "scale": 3.0}
        result = sample(model=model, conditioners=[guidance, Watcher()])
        assert result.nfe == 2 * 5
        assert model.passes == 2 * 5 * 6

    def test_particles_are_folded_into_the_batch_and_out_again(self) -> None:
        seen: list[tuple[int, list[int]]] = []
        starts: list[Tensor] = []

        @final
        @attrs.frozen(kw_only=True)
        class Three(Conditioner):
            @property
            def particles(self) -> int:
                return 3

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
                seen.append((len(x_s), problem.index.tolist()))
                if t is None:
                    starts.append(x_s)
                return x_s, memory

        result = sample(shape=(2, 2), sampler="euler-maruyama", conditioners=[Three()], trajectory=True)
        assert len(starts[0].unique(dim=0)) == 6  # every particle is a draw of its own from the prior
        assert set(map(str, seen)) == {str((6, [0, 0, 0, 1, 1, 1]))}
        assert result.x.shape == (2, 2)
        assert result.trajectory is not None
        assert result.trajectory.shape == (6, 2, 2)
        assert result.nfe == 3 * 5
        # The first particle of a sample is what the sample is without the others.
        plain = sample(shape=(2, 2), sampler="euler-maruyama")
        torch.testing.assert_close(result.x, plain.x)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no step": (lambda: sample(steps=0), ConfigError, "at least one step"),
    "no batch": (lambda: sample(batch_size=0), ConfigError, "batch_size is 0"),
    "no sample": (lambda: sample(shape=(0, 2)), ConfigError, "at least one sample"),
    "no shape": (lambda: sample(shape=None), ConfigError, "neither shape nor x_init"),
    "two shapes": (
        lambda: sample(shape=(3, 2), x_init=torch.zeros(2, 2)),
        ConfigError,
        "the same shape twice",
    ),
    "no model": (lambda: sample(model=None), ConfigError, "neither a model nor a score"),
    "two models": (lambda: sample(score=lambda x, t: x), ConfigError, "both a model and a score"),
    "no function": (lambda: sample(model=3), ConfigError, "int is not a model"),
    "no process": (lambda: sample(model=lambda x, t: x), ConfigError, "no process was given"),
    "start without a state": (lambda: sample(start=0.5), ConfigError, "without x_init"),
    "start beyond the end": (lambda: sample(x_init=torch.zeros(1, 2), start=1.5), ConfigError, "t_max"),
    "stop before the beginning": (lambda: sample(stop=0.0), ConfigError, "t_min"),
    "start at stop": (
        lambda: sample(x_init=torch.zeros(1, 2), start=0.5, stop=0.5),
        ConfigError,
        "start > stop",
    ),
    "upwards": (lambda: sample(x_init=torch.zeros(1, 2), start=0.2, stop=0.5), ConfigError, "start > stop"),
    "nowhere": (lambda: sample(stop=math.nan), ConfigError, "stop"),
    "no such sampler": (lambda: sample(sampler="ddimm"), Exception, "Did you mean 'ddim'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_argument_is_refused_in_words(case: str) -> None:
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()


WORKER = """
import sys
import torch
import torch.distributed as distributed
import diffkit
from diffkit.testing.exact import MixtureProblem

rank, world, store, target = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
shape, batch_size = tuple(map(int, sys.argv[5].split("x"))), int(sys.argv[6])
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
sde = diffkit.create("sde", "vp")
if len(shape) == 2:
    problem = MixtureProblem(weights=[0.4, 0.6], means=[[-0.8, 0.5], [0.7, 0.2]], variances=[0.1, 0.2])
    model = problem.model(sde)
else:
    torch.manual_seed(0)
    network = diffkit.create("network", {"name": "unet", "channels": 8, "multipliers": [1, 2], "heads": 2})
    module = network.build(shape[1:]).eval().requires_grad_(False)
    for weight in module.parameters():  # the last layer starts at zero
        weight += 0.05 * torch.randn_like(weight)
    model = diffkit.create("objective", {"name": "velocity", "sigma_data": 0.5}).model(module, sde)
asked = 0

def denoise(x, t):
    global asked
    asked += len(x)
    return model.denoise(x, t)

result = diffkit.sample(
    denoise,
    sde="vp",
    sampler="euler-maruyama",
    steps=8,
    shape=shape,
    first=3,
    batch_size=batch_size,
    trajectory=True,
)
from safetensors.torch import save_file
save_file(
    {
        "x": result.x.contiguous(),
        "trajectory": result.trajectory.contiguous(),
        "nfe": result.nfe_per_sample,
        "index": result.index,
        "asked": torch.tensor(asked),
    },
    target,
)
if world > 1:
    distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    "shape, batch_size",
    [("23x2", 4), ("70x1x8x8", 16), pytest.param("1000x1x8x8", 64, marks=pytest.mark.prove)],
)
def test_two_processes_give_the_bits_of_one(tmp_path: Path, shape: str, batch_size: int) -> None:
    from safetensors.torch import load_file

    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}

    def start(rank: int, world: int) -> subprocess.Popen[bytes]:
        arguments = [
            str(rank),
            str(world),
            str(tmp_path / f"store{world}"),
            str(tmp_path / f"{world}-{rank}"),
            shape,
            str(batch_size),
        ]
        return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], env=environment)

    workers = [start(0, 1), start(0, 2), start(1, 2)]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0, 0]
    one, first, second = (load_file(tmp_path / name) for name in ("1-0", "2-0", "2-1"))
    for name in ("x", "trajectory", "nfe", "index"):
        assert torch.equal(one[name], first[name]), name
        assert torch.equal(one[name], second[name]), name
    # The work was shared, not done twice.
    assert int(first["asked"] + second["asked"]) == int(one["asked"])
    assert int(first["asked"]) > 0
    assert int(second["asked"]) > 0
