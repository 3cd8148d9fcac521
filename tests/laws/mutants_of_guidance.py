"""Wrong conditioners and operators."""

from __future__ import annotations

from mutation import Mutant

GUIDANCE, THRESHOLD = "conditioners.class_guidance ClassGuidance", "conditioners.threshold Threshold"
IMPUTATION, MEASURED = "conditioners.imputation Imputation", ("conditioners._measured",)
LABELS = ("conditioners._labels",)
IN_PAINTING, GREY = "operators.in_painting InPainting", "operators.grey Grey"
SUPER_RESOLUTION, BLUR = "operators.super_resolution SuperResolution", "operators.blur Blur"

GUIDED = {"label": (0, 1, 2), "scale": 3.0}
STATE = {"method": "state"}
REPLACED = {"method": "replacement"}

CONDITIONERS = (
    Mutant(
        GUIDANCE,
        "index % len(wanted)",
        "torch.arange(len(index)) % len(wanted)",
        "labels-in-range",
        {"label": (0, 1, 2)},
        LABELS,
    ),
    Mutant(
        GUIDANCE,
        "wanted[index % len(wanted)]",
        "wanted[index % len(wanted)] + 1",
        "labels-in-range",
        GUIDED,
        LABELS,
    ),
    Mutant(
        GUIDANCE,
        "return unconditional + expand(scale, x) * (conditional - unconditional)",
        "return (unconditional + expand(scale, x) * (conditional - unconditional)).double()",
        "model-kept",
        GUIDED,
    ),
    Mutant(
        GUIDANCE,
        "(conditional - unconditional)",
        "(conditional - unconditional) * (1.0 + 1e-3 * len(x))",
        "batch-invariance",
        GUIDED,
    ),
    Mutant(
        GUIDANCE,
        "(conditional - unconditional)",
        "(conditional - unconditional) + 1e-3 * __import__('torch').randn_like(x)",
        "seeded",
        GUIDED,
    ),
    Mutant(
        GUIDANCE,
        '"exact" if plain else "approximate"',
        '"certain" if plain else "approximate"',
        "declarations",
        {"label": 1},
    ),
    Mutant(
        GUIDANCE,
        "self.offers = model.offers & {",
        "self.offers = model.offers | {'energy'} | {",
        "model-kept",
        GUIDED,
    ),
    Mutant(
        GUIDANCE,
        "predict(x, t, None)\n        return",
        "self._model._model.denoise(x, t, None)\n        return",
        "honest-nfe",
        GUIDED,
    ),
    Mutant(
        THRESHOLD,
        "return x_s.clamp(*self._range(x_s)), memory",
        "return x_s.clamp_(*self._range(x_s)), memory",
        "after-step-is-pure",
        STATE,
    ),
    Mutant(
        THRESHOLD,
        "return x_s.clamp(*self._range(x_s)), memory",
        "return x_s.clamp(*self._range(x_s)).float(), memory",
        "after-step-is-pure",
        STATE,
    ),
    Mutant(
        THRESHOLD,
        "    def clamped(self",
        "    def plan(self, times):\n        return [(i + 1, i) for i in range(len(times) - 1)]\n\n"
        "    def clamped(self",
        "plan-is-a-path",
    ),
    Mutant(
        THRESHOLD,
        "for sample in precise]",
        "for sample in precise.mean(0, keepdim=True).expand_as(precise)]",
        "batch-invariance",
        {"method": "dynamic", "low": -0.1, "high": 0.1},
    ),
    Mutant(
        GUIDANCE, "return predict(x, t, None)\n", "return predict(x, t, label)\n", "zero-strength", GUIDED
    ),
    Mutant(GUIDANCE, '"exact" if plain else "approximate"', '"exact"', "exact-where-declared", GUIDED),
    Mutant(
        IMPUTATION,
        "return self.strength > 0.0 and",
        "return",
        "zero-strength",
        REPLACED,
        MEASURED,
    ),
    Mutant(GUIDANCE, "unconditional + expand", "unconditional - expand", "asked-class-favoured", GUIDED),
    Mutant(
        GUIDANCE,
        "self.labels(problem.index, model.classes))",
        "(self.labels(problem.index, model.classes) + 1) % 3)",
        "asked-class-favoured",
        GUIDED,
    ),
    Mutant(
        GUIDANCE,
        "self.labels(problem.index, model.classes))",
        "0 * self.labels(problem.index, model.classes))",
        "asked-class-favoured",
        GUIDED,
    ),
    Mutant(IMPUTATION, "finished = imposed", "pass", "observed-kept"),
    Mutant(
        IMPUTATION,
        "expand(sde.sigma(s), x) * measured.operator.apply(z)",
        "0.0",
        "observed-noised",
        REPLACED,
        MEASURED,
    ),
    Mutant(
        IMPUTATION,
        "        if s is None:\n            return self.imposed(measured, x)\n        sde",
        "        if s is None or True:\n            return self.imposed(measured, x)\n        sde",
        "observed-noised",
        REPLACED,
        MEASURED,
    ),
)

OPERATORS = (
    Mutant(IN_PAINTING, "return x * mask_for", "return 0.5 + x * mask_for", "linear"),
    Mutant(
        IN_PAINTING,
        "def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:\n        return self.apply(y)",
        "def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:\n        return y",
        "pseudo-inverse",
    ),
    Mutant(
        IN_PAINTING, "dtype=x.dtype, device", "dtype=__import__('torch').float64, device", "shapes-and-dtypes"
    ),
    Mutant(SUPER_RESOLUTION, "/ math.prod(self.factor for _ in shape[1:])", "/ self.factor", "adjoint"),
    Mutant(
        SUPER_RESOLUTION,
        "math.prod(self.factor for _ in shape[1:])",
        "(math.prod(shape[1:]) / y.shape[-1] ** len(shape[1:]))",
        "adjoint",
    ),
    Mutant(
        SUPER_RESOLUTION,
        "x.reshape(*x.shape[:2], *blocks).mean(inner)",
        "x.reshape(*x.shape[:2], *blocks).amax(inner)",
        "linear",
    ),
    Mutant(SUPER_RESOLUTION, "return y\n", "return y / self.factor\n", "pseudo-inverse"),
    Mutant(
        GREY,
        "return weights * y / weights.square().sum()",
        "return y.expand(-1, 3, *y.shape[2:])",
        "pseudo-inverse",
    ),
    Mutant(GREY, "return _weights(y) * y\n", "return _weights(y).flip(0) * y\n", "adjoint"),
    Mutant(BLUR, "passed**power", "passed ** abs(power)", "pseudo-inverse"),
    Mutant(
        BLUR,
        "return self._along_all(x, power=1)",
        "return self._along_all(x - x.mean(0), power=1)",
        "batch-independent",
    ),
    Mutant(BLUR, "transform[0] *= math.sqrt(0.5)", "pass", "pseudo-inverse"),
)
