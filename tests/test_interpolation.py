"""Great circles, their ends, and data noised part of the way, against what geometry and Gaussians say."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import diffkit
from diffkit.errors import DataError, IncompatibleError, RunError
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.testing.exact import GaussianProblem, KernelDensityProblem, LabelledModel, MixtureProblem
from diffkit_standard.sdes.vp import VP

SDE = VP()
GAUSSIAN = GaussianProblem(
    mean=[0.4, -0.3, 0.1], covariance=[[0.5, 0.2, 0.0], [0.2, 0.3, 0.1], [0.0, 0.1, 0.2]]
)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return Noise(seed=seed, index=torch.arange(shape[0])).normal(shape, dtype=torch.float64)


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Between flattened samples, accurate for small angles too."""
    a, b = (x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True) for x in (a, b))
    return 2.0 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


class TestSlerp:
    def test_eleven_frames_turn_evenly_while_the_norm_goes_straight(self) -> None:
        a, b = normals(5, 1, 4, 4), 2.0 * normals(5, 1, 4, 4, seed=1)
        frames = diffkit.slerp(a, b)
        assert frames.shape == (11, 5, 1, 4, 4)
        norms = frames.flatten(2).norm(dim=2)
        share = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)[:, None]
        torch.testing.assert_close(norms, (1.0 - share) * norms[0] + share * norms[-1])
        whole = angle(a, b)
        assert (whole < math.pi).all()
        for frame, u in zip(frames, share, strict=True):
            torch.testing.assert_close(angle(a, frame), u * whole, rtol=1e-10, atol=1e-7)
            torch.testing.assert_close(angle(frame, b), (1.0 - u) * whole, rtol=1e-10, atol=1e-7)

    def test_the_ends_are_the_two(self) -> None:
        a, b = normals(5, 7), normals(5, 7, seed=1)
        frames = diffkit.slerp(a, b, 3)
        torch.testing.assert_close(frames[0], a, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(frames[-1], b, rtol=1e-14, atol=1e-14)
        single = diffkit.slerp(a.float(), b.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single[0], a.float(), rtol=1e-6, atol=1e-6)

    def test_between_vectors_of_one_length_it_is_the_formula_of_sines(self) -> None:
        a = torch.nn.functional.normalize(normals(6, 9), dim=1)
        b = torch.nn.functional.normalize(normals(6, 9, seed=1), dim=1)
        theta = torch.arccos((a * b).sum(1, keepdim=True))
        for u in (0.2, 0.7):
            expected = (torch.sin((1.0 - u) * theta) * a + torch.sin(u * theta) * b) / torch.sin(theta)
            torch.testing.assert_close(diffkit.slerp(a, b, [u])[0], expected)

    def test_shares_may_be_given_and_go_beyond_the_ends(self) -> None:
        a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        shares = torch.tensor([-0.5, 0.5, 2.0])
        frames = diffkit.slerp(a, b, shares)
        right = torch.tensor([[[0.5**0.5, -(0.5**0.5)]], [[0.5**0.5, 0.5**0.5]], [[-1.0, 0.0]]])
        torch.testing.assert_close(frames, right)

    def test_parallel_samples_go_straight(self) -> None:
        a = normals(3, 6)
        frames = diffkit.slerp(a, 3.0 * a, 5)
        for frame, factor in zip(frames, (1.0, 1.5, 2.0, 2.5, 3.0), strict=True):
            torch.testing.assert_close(frame, factor * a)

    def test_opposite_samples_go_half_round_by_the_axis_that_the_first_has_least_of(self) -> None:
        a = torch.tensor([[3.0, 0.0, 4.0]], dtype=torch.float64)
        frames = diffkit.slerp(a, -a, 3)
        torch.testing.assert_close(frames[1], torch.tensor([[0.0, 5.0, 0.0]], dtype=torch.float64))
        torch.testing.assert_close(frames[2], -a)

    def test_a_sample_that_is_zero_takes_its_partner_s_direction(self) -> None:
        b = normals(2, 5)
        torch.testing.assert_close(diffkit.slerp(torch.zeros_like(b), b, 3)[1], 0.5 * b)
        torch.testing.assert_close(diffkit.slerp(b, torch.zeros_like(b), 3)[1], 0.5 * b)
        assert torch.equal(diffkit.slerp(0.0 * b, 0.0 * b, 3), torch.zeros(3, 2, 5, dtype=torch.float64))

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(st.floats(-12.0, 0.0), st.booleans(), st.integers(2, 6))
    def test_nearly_parallel_and_nearly_opposite_samples_are_no_trouble(
        self, exponent: float, opposite: bool, size: int
    ) -> None:
        a = normals(2, size)
        b = (-a if opposite else a) + 10.0**exponent * normals(2, size, seed=1)
        frames = diffkit.slerp(a, b, 7)
        assert frames.isfinite().all()
        torch.testing.assert_close(frames[-1], b, rtol=1e-6, atol=1e-6)
        steps = torch.stack([angle(p, q) for p, q in itertools.pairwise(frames)])
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((4, 1), (4, 1)), ((4,), (4,))])
    def test_what_has_no_great_circle_is_refused(self, shapes: Any) -> None:
        with pytest.raises(DataError, match="at least two elements"):
            diffkit.slerp(torch.ones(shapes[0]), torch.ones(shapes[1]))


class TestInterpolate:
    sampler: ClassVar[dict[str, Any]] = {"name": "dpm-solver++", "order": 2}

    @pytest.mark.parametrize("name", ["vp", "ve", "flow"])
    def test_it_begins_and_ends_at_the_real_examples(self, name: str) -> None:
        points = normals(12, 1, 3, 3)
        problem = KernelDensityProblem(points=points, width=0.3)
        model = problem.model(diffkit.create("sde", name))
        a, b = problem.draw(Noise(seed=2, index=torch.arange(4)), (1, 3, 3)).split(2)
        frames = diffkit.interpolate(model, a, b, sampler=self.sampler, steps=200)
        assert frames.shape == (11, 2, 1, 3, 3)
        torch.testing.assert_close(frames[0], a, rtol=0.0, atol=0.03)
        torch.testing.assert_close(frames[-1], b, rtol=0.0, atol=0.03)

    def test_of_gaussian_data_it_is_a_great_circle_in_whitened_space(self) -> None:
        """The flow of N(0, v) is x_0 = x_T sqrt(v / (a^2 v + s^2)), the same factor for every frame."""
        problem = GaussianProblem(mean=[0.0] * 4, covariance=0.4 * torch.eye(4, dtype=torch.float64))
        a, b = problem.draw(Noise(seed=2, index=torch.arange(6))).split(3)
        frames = diffkit.interpolate(problem.model(SDE), a, b, shares=5, sampler=self.sampler, steps=100)
        torch.testing.assert_close(frames, diffkit.slerp(a, b, 5), rtol=0.0, atol=2e-3)

    def test_a_label_leads_there_and_back(self) -> None:
        mixture = MixtureProblem(weights=[0.5, 0.5], means=[[-1.0, 0.0], [1.0, 0.5]], variances=[0.2, 0.1])
        model = LabelledModel(problem=mixture, sde=SDE)
        a, b = model.component(1).draw(Noise(seed=2, index=torch.arange(2))).split(1)
        bend = {"name": "class-guidance", "label": 1}
        frames = diffkit.interpolate(model, a, b, sampler=self.sampler, steps=100, conditioners=[bend])
        flow = model.component(1).model(SDE)
        expected = diffkit.interpolate(flow, a, b, sampler=self.sampler, steps=100)
        torch.testing.assert_close(frames, expected)


class TestEncode:
    def test_the_last_denoise_is_undone_to_the_tolerance(self) -> None:
        """Even where the noise left over is as large as the data, so that eight trials are not enough."""
        sde = diffkit.create("sde", {"name": "ve", "schedule": {"name": "geometric", "sigma_min": 0.5}})
        problem = GaussianProblem(mean=[0.3, 0.0], covariance=[[0.2, 0.0], [0.0, 1.0]])
        x = problem.draw(Noise(seed=2, index=torch.arange(5)))
        start = torch.tensor(sde.t_min, dtype=torch.float64)
        latent = diffkit.encode(
            problem.model(sde), x=x, stop=float(sde.t_min) + 1e-9, sampler="ddim", steps=2
        )
        torch.testing.assert_close(problem.denoise(sde, latent, start), x, rtol=0.0, atol=2e-4)

    def test_a_sample_s_noise_does_not_depend_on_its_company(self) -> None:
        """Each is undone in as many trials as it takes alone: the one at the mean in the fewest."""
        sde = diffkit.create("sde", {"name": "ve", "schedule": {"name": "geometric", "sigma_min": 0.5}})
        problem = GaussianProblem(mean=[0.3, 0.0], covariance=[[0.2, 0.0], [0.0, 1.0]])
        x = problem.draw(Noise(seed=2, index=torch.arange(3)))
        x[1] = torch.tensor([0.3001, 0.0])
        whole = diffkit.encode(problem.model(sde), x=x, sampler="ddim", steps=5)
        alone = torch.cat(
            [diffkit.encode(problem.model(sde), x=row, sampler="ddim", steps=5) for row in x.split(1)]
        )
        torch.testing.assert_close(whole, alone, rtol=1e-12, atol=1e-12)

    def test_data_that_the_model_cannot_make_are_refused_and_counted(self) -> None:
        """A kernel density of two points, so narrow that no noise is denoised to anything else."""
        points = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
        model = KernelDensityProblem(points=points, width=1e-6).model(SDE)
        x = torch.tensor([[1.0, 1.0], [0.5, -3.0]], dtype=torch.float64)
        with pytest.raises(RunError, match="1 of 2 examples cannot be encoded") as caught:
            diffkit.encode(model, x=x, sampler="ddim", steps=5)
        assert "start=t" in str(caught.value)

    def test_a_model_that_gives_no_number_is_told(self) -> None:
        class Broken(Model):
            offers = frozenset({"denoise"})
            sde = SDE

            def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
                return x / 0.0

        with pytest.raises(RunError, match="3 of 3 examples"):
            diffkit.encode(Broken(), x=torch.ones(3, 2), sampler="ddim", steps=5)


class TestRenoise:
    def test_it_is_the_marginal_given_the_data(self) -> None:
        t, count = 0.4, 20000
        x = torch.tensor([0.7, -1.2]).double().expand(count, 2)
        x_t = diffkit.renoise(x, sde="vp", t=t, seed=3)
        time = torch.tensor(t, dtype=torch.float64)
        eps = (x_t - SDE.alpha(time) * x) / SDE.sigma(time)
        assert (eps.mean(0).abs() < 5.0 / count**0.5).all()
        torch.testing.assert_close(eps.T @ eps / count, torch.eye(2).double(), rtol=0.0, atol=0.05)
        assert torch.equal(x_t[5:9], diffkit.renoise(x[5:9], sde=SDE, t=t, seed=3, first=5))
        assert not torch.equal(x_t, diffkit.renoise(x, sde=SDE, t=t, seed=4))
        assert diffkit.renoise(x.float(), sde=SDE, t=t).dtype == torch.float32

    def test_one_noise_serves_every_level(self) -> None:
        found = []
        for t in (SDE.t_min, 0.3, 0.8, SDE.t_max):
            time = torch.tensor(t, dtype=torch.float64)
            noise = diffkit.renoise(torch.zeros(4, 3, dtype=torch.float64), sde=SDE, t=t)
            data = diffkit.renoise(torch.ones(4, 3, dtype=torch.float64), sde=SDE, t=t) - noise
            torch.testing.assert_close(data, SDE.alpha(time).expand(4, 3))
            found.append(noise / SDE.sigma(time))
            torch.testing.assert_close(found[-1], found[0])

    @pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
    def test_the_law_of_the_result_given_the_guide_on_the_flow(self, t: float) -> None:
        """x_0' = m + F (x_t - a m), x_t ~ N(a g, s^2): mean m + a F (g - m), covariance s^2 F F^T."""
        count = 4000
        x, mean, _, result, (a, s) = self._edited(t, count, {"name": "dpm-solver++", "order": 2})
        centre = GAUSSIAN.flow(SDE, a * mean[None], torch.tensor(t, dtype=torch.float64), None)
        rows = GAUSSIAN.flow(
            SDE, a * mean + torch.eye(3, dtype=torch.float64), torch.tensor(t).double(), None
        )
        F = (rows - centre).T
        self._check(result, mean + a * F @ (x - mean), s**2 * F @ F.T)

    @pytest.mark.parametrize("t", [0.15, 0.5])
    def test_the_law_of_the_result_given_the_guide_by_a_stochastic_sampler(self, t: float) -> None:
        """x_0' ~ p(x_0 | x_t): mean m + a K (g - m), covariance C - a K C + s^2 K K^T, K = a C V^-1."""
        count = 4000
        x, mean, covariance, result, (a, s) = self._edited(
            t, count, {"name": "dpm-solver++", "variant": "sde"}
        )
        V = a**2 * covariance + s**2 * torch.eye(3, dtype=torch.float64)
        K = a * covariance @ torch.linalg.inv(V)
        self._check(result, mean + a * K @ (x - mean), covariance - a * K @ covariance + s**2 * K @ K.T)

    @pytest.mark.parametrize("t", [-0.1, 0.0, 1.1])
    def test_a_time_out_of_range_is_refused(self, t: float) -> None:
        with pytest.raises(IncompatibleError, match="t_min"):
            diffkit.renoise(torch.zeros(2, 3), sde="vp", t=t)

    @staticmethod
    def _edited(t: float, count: int, sampler: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Any]:
        guide = torch.tensor([1.5, 0.5, -1.0], dtype=torch.float64)
        x_t = diffkit.renoise(guide.expand(count, 3), sde=SDE, t=t, seed=11)
        result = diffkit.sample(
            GAUSSIAN.model(SDE), x_init=x_t, start=t, sampler=sampler, steps=60, batch_size=count
        )
        mean, covariance = GAUSSIAN.moments(None, None)
        return guide, mean, covariance, result.x, _rates(SDE, t)

    @staticmethod
    def _check(x: Tensor, mean: Tensor, covariance: Tensor) -> None:
        deviation = covariance.diagonal().sqrt()
        assert ((x.mean(0) - mean).abs() < 5.0 * deviation / len(x) ** 0.5 + 0.005).all()
        scale = deviation[:, None] * deviation
        assert ((x.T.cov() - covariance).abs() < 5.0 * scale * (2.0 / len(x)) ** 0.5 + 0.005).all()


def _rates(sde: GaussianSDE, t: float) -> tuple[Tensor, Tensor]:
    time = torch.tensor(t, dtype=torch.float64)
    return sde.alpha(time), sde.sigma(time)
