"""Wrong samplers."""

from __future__ import annotations

from mutation import Mutant

DDIM, DPM = "samplers.ddim DDIM", "samplers.dpm_solver_pp DPMSolverPP"
EM, DEIS = "samplers.euler_maruyama EulerMaruyama", "samplers.exponential_integrator ExponentialIntegrator"
PC, FLOW = "samplers.predictor_corrector PredictorCorrector", "samplers.probability_flow ProbabilityFlow"
HEUN = "samplers.heun Heun"

SAMPLERS = (
    Mutant(EM, "drift(x, t) -", "drift(x, t) +", "weak-order"),
    Mutant(EM, "g * dt.abs().sqrt()", "g * dt.abs()", "weak-order"),
    Mutant(EM, "- expand(g**2", "- 0.5 * expand(g**2", "weak-order"),
    Mutant(EM, "noise.normal_like(x)", "__import__('torch').randn_like(x)", "global-random-state"),
    Mutant(
        EM,
        "noise.normal_like(x)",
        "noise.normal_like(x) * (1.0 + 1e-9 * __import__('time').monotonic())",
        "same-seed-same-bits",
    ),
    Mutant(
        EM,
        "        mean, deviation = self.transition",
        "        x.mul_(1.0 - 1e-3)\n        mean, deviation = self.transition",
        "input-untouched",
    ),
    Mutant(
        EM,
        "return mean + expand(deviation, x) * noise",
        "return mean + 0.9 * expand(deviation, x) * noise",
        "transition-is-the-step",
    ),
    Mutant(
        EM,
        "return mean + expand(deviation, x) * noise.normal_like(x), None",
        "return (mean + expand(deviation, x) * noise.normal_like(x)).float(), None",
        "shapes-and-dtypes",
    ),
    Mutant(DDIM, "sde.alpha(s), x) * clean", "sde.alpha(t), x) * clean", "order"),
    Mutant(DDIM, "sigma_t, sigma_s = sde", "sigma_s, sigma_t = sde", "order"),
    Mutant(DDIM, "sigma_s**2 - deviation**2", "sigma_s**2 + deviation**2", "weak-order", {"eta": 0.6}),
    Mutant(DDIM, "expand(kept, x) * eps", "expand(sigma_s, x) * eps", "weak-order", {"eta": 0.6}),
    Mutant(DDIM, "return self.eta > 0.0", "return True", "deterministic-means-seedless"),
    Mutant(
        DDIM,
        "clean = problem.denoise(x, t)",
        "clean = problem.denoise(x, t) * (0.5 if s > t else 1.0)",
        "there-and-back",
    ),
    Mutant(
        DDIM, "clean = problem.denoise(x, t)", "clean = problem.counted._model.denoise(x, t)", "honest-nfe"
    ),
    Mutant(DPM, "(0.5 * h / ", "(1.0 * h / ", "order"),
    Mutant(DPM, "(0.5 * h / (here - before))", "0.5", "order"),
    Mutant(DPM, "sde.sigma(s) / sde.sigma(t)", "sde.sigma(t) / sde.sigma(s)", "order"),
    Mutant(DPM, "r0 / (r0 + r1)", "r1 / (r0 + r1)", "order", {"order": 3}),
    Mutant(DPM, "else 2.0)", "else 1.0)", "order", {"order": 3}),
    Mutant(DPM, "torch.expm1(-2.0 * h)", "torch.expm1(-h)", "weak-order", {"variant": "sde"}),
    Mutant(DPM, "return clean + (clean - clean_1)", "return clean + (clean - 0.99 * clean_1)", "point-mass"),
    Mutant(
        DPM,
        "*(carry or ()))[: self.order]",
        "*(carry or globals().get('_KEPT', ())))[: self.order]\n        globals()['_KEPT'] = history",
        "reentrant",
    ),
    Mutant(
        DPM,
        "history = ((here, problem.denoise(x, t)), *(carry or ()))",
        "globals()['_KEPT'] = carry or ()\n"
        "        history = ((here, problem.denoise(x, t)), *globals()['_KEPT'])",
        "thread-safe",
    ),
    Mutant(
        DPM,
        "        x_s, deviation, history = self._advance(problem, x, t, s, carry)\n",
        "        x_s, deviation, history = self._advance(problem, x, t, s, carry)\n"
        "        if carry:\n            carry[0][1].mul_(0.9)\n",
        "input-untouched",
    ),
    Mutant(DEIS, "- value_t * rho_t", "+ value_t * rho_t", "order"),
    Mutant(DEIS, "-(1.0 + self.eta**2) * h", "-(0.5 + self.eta**2) * h", "weak-order", {"eta": 1.0}),
    Mutant(FLOW, "return 5 if", "return 3 if not", "order"),
    Mutant(FLOW, "rtol=self.rtol, atol=self.atol", "rtol=0.5, atol=0.5", "tolerance", {"method": "rk45"}),
    Mutant(PC, "expand(e, x) * score", "expand(-e, x) * score", "samples-the-law"),
    Mutant(PC, "(2.0 * e).sqrt()", "(18.0 * e).sqrt()", "samples-the-law"),
    Mutant(PC, "norm = per_sample_norm(score)", "norm = per_sample_norm(score).mean()", "batch-invariance"),
    Mutant(HEUN, "(eps_t + eps_s)", "(eps_t + eps_t)", "order"),
    Mutant(HEUN, "rho_t**2)", "rho_t)", "weak-order", {"s_churn": 8.0}),
    Mutant(
        DDIM,
        "noise.normal_like(x)",
        "noise.normal((len(x), *x.shape[1:2], *(1 for _ in x.shape[2:])), dtype=x.dtype)",
        "moments-from-the-start",
        {"eta": 1.0},
    ),
    Mutant(
        DDIM,
        "noise.normal_like(x)",
        "noise.normal((len(x), 1, *x.shape[2:]) if x.ndim > 2 else x.shape, dtype=x.dtype)",
        "moments-from-the-start",
        {"eta": 1.0},
    ),
    Mutant(
        EM,
        "noise.normal_like(x)",
        "noise.normal_like(x) * (t < 0.9 * problem.sde.t_max)",
        "moments-from-the-start",
    ),
    Mutant(
        PC,
        "norm = per_sample_norm(score).clamp(min=float(least))",
        "norm = score.norm(dim=1).reshape(len(x), -1)[:, 0]",
        "samples-the-law",
    ),
)
