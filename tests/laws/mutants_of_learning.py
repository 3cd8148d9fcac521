"""Wrong networks, objectives, data sets and feature extractors."""

from __future__ import annotations

from mutation import Mutant

MLP, EMBEDDING = "networks.mlp MLP", ("networks._embedding",)
NOISE, SAMPLE, VELOCITY = (
    "objectives.noise NoisePrediction",
    "objectives.sample SamplePrediction",
    "objectives.velocity VelocityPrediction",
)
SCORE, EDM, CLASSIFICATION = (
    "objectives.score ScorePrediction",
    "objectives.edm EDM",
    "objectives.classification Classification",
)
PREDICTION, NOISED = ("objectives._prediction",), ("objectives._noised", "objectives._prediction")
LABELS, LEVELS, COUNTS = "labels-reach-the-network", "levels-are-of-the-process", "every-example-counts"
HALVES, ALONE = "training-sees-both-halves", "batch-is-left-alone"
SIMPLE, RESIDUAL = "networks.simple_unet SimpleUNet", "networks.residual_unet ResidualUNet"
NORMALIZED = "datasets.normalized Normalized"
POINTS, DIGITS = "datasets.points Points", "datasets.digits Digits"
PIXELS = "features.pixels Pixels"

NETWORKS = (
    Mutant(SIMPLE, "self.positions * level.t", "0.0 * level.t", "level-matters"),
    Mutant(SIMPLE, "embedded = embedded + self", "embedded = embedded + 0.0 * self", "label-matters"),
    Mutant(RESIDUAL, "return sigma**2 /", "return 0.0 * sigma**2 /", "level-matters"),
    Mutant(
        RESIDUAL,
        "affine=False",
        "affine=False, track_running_stats=False",
        "batch-independent",
        {"widths": (8,)},
    ),
    Mutant(RESIDUAL, "= self.last(h)\n", "= self.last(h)[..., 1:]\n", "output-shape"),
    Mutant(MLP, "return output.reshape(len(x), *self.output)", "return output", "output-shape"),
    Mutant(
        MLP,
        'frozenset({"network.image-output", "network.labels"})',
        'frozenset({"network.labels"})',
        "output-shape",
    ),
    Mutant(MLP, "torch.where(rows < 0, none, rows)", "rows.clamp(min=0)", "label-matters", {}, EMBEDDING),
    Mutant(
        MLP,
        "none, device=device) if label is None",
        "0, device=device) if label is None",
        "no-label-is-minus-one",
        {},
        EMBEDDING,
    ),
    Mutant(
        MLP,
        "else vector + self.label(label, count)",
        "else vector + 0.0 * self.label(label, count)",
        "label-matters",
        {},
        EMBEDDING,
    ),
    Mutant(
        MLP,
        "angles = _coordinate(level)",
        "angles = 0.0 * _coordinate(level)",
        "level-matters",
        {},
        EMBEDDING,
    ),
    Mutant(
        MLP,
        "return torch.add(x, self.layer_2(F.silu(h)))",
        "return torch.add(x, self.layer_2(F.silu(h)).detach())",
        "gradient-flows",
    ),
    Mutant(
        MLP,
        "h = self.first(x.flatten(1))",
        "h = self.first(x.flatten(1) - x.flatten(1).mean(0))",
        "batch-independent",
    ),
    Mutant(
        MLP,
        "        h = self.first(x.flatten(1))\n",
        "        if not hasattr(self, 'gain'):\n"
        "            self.gain = float(1.0 + x.new_zeros(1).normal_())\n"
        "        h = self.first(x.flatten(1)) * self.gain\n",
        "saved-and-loaded",
    ),
)

OBJECTIVES = (
    Mutant(NOISE, "x - sigma * output", "x + sigma * output", "zero-at-the-target", {"sigma_data": 0.7}),
    Mutant(NOISE, "return eps", "return x_0", "zero-at-the-target"),
    Mutant(
        NOISE,
        "return error.square() if",
        "return error.square().sqrt().neg() if",
        "least-at-the-exact-denoiser",
    ),
    Mutant(SAMPLE, "return x_0\n", "return x_0 + 0.1 * sigma * eps\n", "zero-at-the-target"),
    Mutant(VELOCITY, "alpha * eps", "sigma * eps", "zero-at-the-target"),
    Mutant(EDM, "* output", "* output.square()", "model-inverts"),
    Mutant(NOISE, "c_in = torch.rsqrt(", "c_in = (", "unit-input", {}, NOISED),
    Mutant(
        NOISE,
        "x_t = process.perturb(batch.x, t, eps)",
        "x_t = process.perturb(batch.x, t.mean().expand_as(t), eps)",
        "zero-at-the-target",
        {},
        PREDICTION,
    ),
    Mutant(
        NOISE,
        "index=torch.zeros_like(noise.index))",
        "index=torch.arange(len(noise.index)))",
        "loss-is-pure",
        {},
        NOISED,
    ),
    Mutant(
        NOISE,
        'noise.stream("eps").normal_like(batch.x)',
        "torch.randn_like(batch.x)",
        "loss-is-pure",
        {},
        PREDICTION,
    ),
    Mutant(
        NOISE,
        "weight * self.distance(error)",
        "weight * self.distance(error).sign()",
        "gradient-flows",
        {},
        PREDICTION,
    ),
    Mutant(NOISE, "x_t, t, batch.label)", "x_t, t, None)", LABELS, {}, PREDICTION),
    Mutant(NOISE, "x_t, t, batch.label)", "x_t, t, batch.label.flip(0))", LABELS, {}, PREDICTION),
    Mutant(NOISE, "self.sde, x, t, label)", "self.sde, x, t, None)", LABELS, {}, PREDICTION),
    Mutant(
        NOISE,
        "self.sde, x, t, label)",
        "self.sde, x, t, t.new_zeros(len(x)) if label is None else label)",
        LABELS,
        {},
        PREDICTION,
    ),
    Mutant(CLASSIFICATION, "process, x_t, t, None)", "process, x_t, t, batch.label)", "answer-is-not-told"),
    Mutant(
        CLASSIFICATION,
        "return loss, state, {",
        "return loss * (t < 0.5), state, {",
        "every-label-counts",
    ),
    Mutant(NOISE, "alpha=alpha, sigma=sigma)", "alpha=sigma, sigma=alpha)", LEVELS, {}, NOISED),
    Mutant(EDM, "alpha=alpha, sigma=sigma)", "alpha=alpha, sigma=sigma**2)", LEVELS, {}, NOISED),
    Mutant(CLASSIFICATION, "sigma=sigma)", "sigma=sigma / alpha)", LEVELS, {}, ("objectives._noised",)),
    Mutant(NOISE, "(weight * self", "(weight * (expand(t, weight) < 0.5) * self", COUNTS, {}, PREDICTION),
    Mutant(NOISE, "return torch.ones_like(t)", "return torch.where(t < 0.9, 1.0, -1.0)", COUNTS),
    Mutant(NOISE, "return error.square() if", "return error.square() - 1.0 if", "zero-at-the-target"),
    Mutant(
        NOISE,
        "(sde.t_max - sde.t_min) * quantile",
        "(sde.t_max - sde.t_min) * quantile / 2",
        HALVES,
        {},
        NOISED,
    ),
    Mutant(EDM, "clamp(lowest, highest)", "clamp(0.0, highest)", HALVES, {}, NOISED),
    Mutant(
        NOISE,
        "x_t = process.perturb(batch.x, t, eps)",
        "x_t = batch.x.copy_(process.perturb(batch.x, t, eps))",
        ALONE,
        {},
        PREDICTION,
    ),
    Mutant(
        CLASSIFICATION, "batch.label, ignore_index=-1", "batch.label.clamp_(min=0), ignore_index=-1", ALONE
    ),
    Mutant(
        CLASSIFICATION,
        "ignore_index=-1",
        "ignore_index=-1, label_smoothing=0.3",
        "least-at-the-exact-posterior",
    ),
    Mutant(
        CLASSIFICATION,
        "return self.objective.output(self.module, self.sde, x, t.to(torch.float64), None)",
        "return 0.5 * self.objective.output(self.module, self.sde, x, t.to(torch.float64), None)",
        "logits-are-the-posterior",
    ),
    Mutant(
        CLASSIFICATION,
        "batch.label, ignore_index=-1",
        "batch.label.clamp(min=0), ignore_index=-1",
        "no-label-no-loss",
    ),
)

DATASETS = (
    Mutant(
        POINTS,
        "    def picture(self",
        "    def decode(self, x):\n        return super(Points, self).decode(x) + 0.01"
        "\n\n    def picture(self",
        "units-go-both-ways",
    ),
    Mutant(POINTS, "classes=len(law.names) or None", "classes=len(law.names) - 1", "labels-in-range"),
    Mutant(
        POINTS, "            names=law.names,\n", "            names=law.names[1:],\n", "specification-holds"
    ),
    Mutant(POINTS, 'path=("points", split)', 'path=("points",)', "splits-are-disjoint"),
    Mutant(
        POINTS, 'stream.stream("jitter").normal_like(raw)', "torch.randn_like(raw)", "reading-is-repeatable"
    ),
    Mutant(
        POINTS,
        "return (up.flip(1)[:, :, None] * across[:, None, :])[:, None]",
        "return up.flip(1)[:, :, None] * across[:, None, :]",
        "pictures",
    ),
    Mutant(
        POINTS,
        "    def picture(self",
        "    def encode(self, raw):\n        return super(Points, self).encode(raw).tanh()"
        "\n\n    def picture(self",
        "encoding-is-affine",
    ),
    Mutant(NORMALIZED, "- mean) / std", "- mean) * std", "plain-units"),
    Mutant(NORMALIZED, "return self.dataset.to_plain(self._inner(x))", "return x", "plain-units"),
    Mutant(DIGITS, "levels=17", "levels=16", "specification-holds"),
    Mutant(
        DIGITS,
        "train, test = _splits()\n",
        "train, _ = _splits()\n        test = train\n",
        "splits-are-disjoint",
    ),
    Mutant(DIGITS, "to(torch.int64)\n", "to(torch.int64) + 1\n", "labels-in-range"),
)

FEATURES = (
    Mutant(PIXELS, "return x.flatten(1)", "return x.flatten(2)", "finite-and-flat"),
    Mutant(PIXELS, "return x.flatten(1)", "return x.flatten(1) - x.flatten(1).mean(0)", "batch-independent"),
    Mutant(PIXELS, "return x.flatten(1)", "return 0.0 * x.flatten(1)", "tells-examples-apart"),
    Mutant(PIXELS, "return x.flatten(1)", "return x.flatten(1).log()", "finite-and-flat"),
    Mutant(PIXELS, 'f"pixels:{shape}"', 'f"pixels:{cache}"', "identity-is-stable"),
)
