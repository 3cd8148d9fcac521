"""Wrong schedules, processes and grids."""

from __future__ import annotations

from mutation import Mutant

LINEAR, COSINE = "schedules.linear Linear", "schedules.cosine Cosine"
GEOMETRIC = "schedules.geometric Geometric"
VP, SUB_VP, VE = "sdes.vp VP", "sdes.sub_vp SubVP", "sdes.ve VE"
UNIFORM, LOG_SNR, KARRAS = "grids.uniform Uniform", "grids.log_snr LogSNR", "grids.karras Karras"

SCHEDULES = (
    Mutant(LINEAR, "0.5 * t * (self", "t * (self", "rate-is-derivative"),
    Mutant(LINEAR, "2.0 * integral / (", "integral / (", "time-inverts"),
    Mutant(LINEAR, "self.beta_min + t *", "self.beta_max - t *", "rate-is-derivative"),
    Mutant(
        LINEAR, "return t * (self.beta_min + 0.5", "return t * (self.beta_min - 0.5", "integral-increases"
    ),
    Mutant(LINEAR, "return t * (self.beta_min", "return t * (t.mean() + self.beta_min", "batch-independent"),
    Mutant(COSINE, "    @float64\n", "", "precision"),
    Mutant(
        LINEAR,
        "t * (self.beta_max - self.beta_min)\n\n",
        "t * (self.beta_max - self.beta_min) * torch.where((t > 0.503) & (t < 0.506), 1.01, 1.0)\n\n",
        "mean-rate",
    ),
    Mutant(
        LINEAR,
        "return t * (self.beta_min + 0.5",
        "return 1e-4 * (t > 0.5037) + t * (self.beta_min + 0.5",
        "mean-rate",
    ),
    Mutant(LINEAR, "root = torch", "root = -integral + torch", "time-inverts"),
    Mutant(COSINE, "tan(self._d(t)", "tan(0.5 * self._d(t)", "rate-is-derivative"),
    Mutant(COSINE, "return 0.9946", "return 1.2", "range-of-times"),
    Mutant(
        COSINE,
        "torch.tan(self._d(t) + self._a0)",
        "torch.tan(self._d(t) + self._a0).clamp(max=9.0)",
        "rate-is-derivative",
    ),
    Mutant(
        LINEAR,
        "root = torch.sqrt(self.beta_min**2",
        "root = torch.sqrt(0.1 * self.beta_min",
        "other-parameters",
    ),
    Mutant(COSINE, "2.0 * (1.0 + self.s) / math.pi * d", "2.016 / math.pi * d", "other-parameters"),
    Mutant(GEOMETRIC, "return 2.0 * self", "return self", "rate-is-derivative"),
    Mutant(GEOMETRIC, "return 0.0", "return -0.1", "range-of-times"),
)

PROCESSES = (
    Mutant(VP, "torch.exp(-0.5 * self", "torch.exp(-self", "moment-equations"),
    Mutant(VP, "return -0.5 * self", "return 0.5 * self", "moment-equations"),
    Mutant(VP, "return -B - torch.log", "return B - torch.log", "log-snr"),
    Mutant(VP, "torch.sqrt(self.schedule.rate(t))", "self.schedule.rate(t)", "moment-equations"),
    Mutant(VP, "torch.expm1(-self", "torch.expm1(-2.0 * self", "log-snr"),
    Mutant(
        VP,
        "    @float64\n    def sigma(self, t: Tensor) -> Tensor:\n"
        "        return torch.sqrt(-torch.expm1(-self",
        "    def sigma(self, t: Tensor) -> Tensor:\n        return torch.sqrt(1.0 - torch.exp(-self",
        "precision",
    ),
    Mutant(
        VP, "torch.sqrt(self.schedule.rate(t))", "torch.sqrt(self.schedule.rate(t)).reshape(-1)", "shapes"
    ),
    Mutant(
        VP,
        "    @float64\n    def alpha",
        "    def alpha_dot(self, t: Tensor) -> Tensor:\n        return -0.5 * self.schedule.rate(t)\n\n"
        "    @float64\n    def alpha",
        "derivatives",
    ),
    Mutant(
        VP,
        "    @float64\n    def alpha",
        "    def transition(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:\n"
        "        return self.alpha(t) / self.alpha(s), (self.sigma(t) ** 2 - self.sigma(s) ** 2) ** 0.5\n\n"
        "    @float64\n    def alpha",
        "composition",
    ),
    Mutant(
        VP,
        "    @float64\n    def alpha",
        "    def perturb(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:\n"
        "        t = t.reshape(-1, *(1,) * (x_0.ndim - 1))\n"
        "        return self.alpha(t) * (x_0 + self.sigma(t) * eps)\n\n"
        "    @float64\n    def alpha",
        "perturbation",
    ),
    Mutant(
        VP, "    @float64\n    def alpha", "    t_max = 1.5\n\n    @float64\n    def alpha", "range-of-times"
    ),
    Mutant(VP, "torch.sqrt(self.schedule.rate(t))", "torch.sqrt(0.1 + 19.9 * t)", "other-parameters"),
    Mutant(SUB_VP, "expm1(-2.0 *", "expm1(-1.0 *", "moment-equations"),
    Mutant(SUB_VP, "torch.asinh(0.5 *", "torch.asinh(1.0 *", "time-inverts"),
    Mutant(SUB_VP, "-B - 2.0 * torch.log", "-B - torch.log", "log-snr"),
    Mutant(VE, "torch.sqrt(self.schedule.rate(t))", "self.schedule.rate(t)", "fokker-planck"),
    Mutant(VE, "torch.exp(-log_snr)", "torch.exp(-0.5 * log_snr)", "time-inverts"),
    Mutant(
        VE,
        "return torch.sqrt(self.schedule.integral(t))",
        "return torch.sqrt(self.schedule.integral(1.0 - t))",
        "positive-rates",
    ),
    Mutant(
        VE,
        "    @float64\n    def alpha",
        "    def prior(self, shape, noise, dtype=None, device=None):\n"
        "        return noise.normal(shape, dtype=dtype, device=device)\n\n"
        "    @float64\n    def alpha",
        "prior",
    ),
    Mutant(
        VE,
        "factory=Geometric\n    )\n",
        "factory=lambda: Geometric(sigma_max=2.0)\n    )\n\n"
        "    def prior(self, shape, noise, dtype=None, device=None):\n"
        "        return super(VE, self).prior(shape, noise, dtype, device)\n",
        "prior-mismatch-stated",
    ),
)

GRIDS = (
    Mutant(UNIFORM, "steps + 1, dtype", "steps, dtype", "count-and-dtype"),
    Mutant(UNIFORM, "start, stop, steps", "stop, start, steps", "strictly-decreasing"),
    Mutant(
        UNIFORM, "dtype=torch.float64)", "dtype=torch.float64) - 1e-3 * torch.rand(()) * 0.0 * start", "pure"
    ),
    Mutant(LOG_SNR, "times[0], times[-1] = start, stop", "pass", "exact-ends"),
    Mutant(KARRAS, "times[0], times[-1] = start, stop", "times[0] = start", "exact-ends"),
    Mutant(KARRAS, "-2.0 * self.rho * torch.log", "2.0 * self.rho * torch.log", "strictly-decreasing"),
    Mutant(LOG_SNR, "1.0, steps + 1", "steps / (steps + 1), steps + 1", "refinement"),
    Mutant(
        UNIFORM,
        "torch.linspace(start, stop, steps + 1, dtype=torch.float64)",
        "torch.tensor([*(start - 1e-6 * i for i in range(steps)), stop], dtype=torch.float64)",
        "refinement",
    ),
)
