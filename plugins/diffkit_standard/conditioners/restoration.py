"""Restoration: a sample from a linear measurement of it, with noise or without."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import ge

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.operator import Operator
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit_standard.conditioners._evidence import Measurement
from diffkit_standard.conditioners._measured import Measured
from diffkit_standard.conditioners._observed import examples_of, refuse_missing, rows_for, values_of
from diffkit_standard.operators._masks import Values, mask_for, same_values
from diffkit_standard.operators.identity import Identity
from diffkit_standard.operators.in_painting import InPainting


def _exact_where_imposed(restoration: Restoration, attribute: Any, value: float) -> None:
    if value > 0.0 and restoration.method in ("replacement", "repaint"):
        raise ValueError(f"{restoration.method} imposes what has no noise; use reconstruction or particle")


@final
@attrs.frozen(kw_only=True)
class Restoration(Measured):
    """Samples of p(x_0 | y) for y = A x_0 + s_y n: super-resolution, deblurring, colouring, denoising.

    Sample i is given measurement i modulo their number. Without noise, replacement and repaint end on
    samples that measure as y exactly.

    Source: as `imputation`; replacement for a general A: Wang, Yu and Zhang 2022, arXiv 2212.00490.
    """

    source: ClassVar[str] = "Rozet et al. 2024, arXiv 2405.13712; Wu et al. 2023, arXiv 2306.17775"

    operator: Operator = parameter("A: what was measured", factory=Identity)
    observed: Values = parameter(
        "y: `held-out` (the data set's test split, measured here), a file (.npy, .npz or a picture), a "
        "folder of pictures, or an array (N, ...) in the model's units",
        "held-out",
        same=same_values,
    )
    noise: float = parameter(
        "s_y, the standard deviation of the measurement's noise, in the model's units",
        0.0,
        validator=[ge(0.0), _exact_where_imposed],
    )

    @property
    def informative(self) -> bool:
        return math.isfinite(self.noise)

    def examined(self, shape: tuple[int, ...]) -> None:
        self.operator.measured_shape(shape)
        self._resolved(shape)
        refuse_missing(self.observed)

    def prepared(self, dataset: Dataset) -> Restoration:
        shape = dataset.spec().shape
        operator = self._resolved(shape)
        if str(self.observed) != "held-out":
            size = operator.measured_shape(shape)
            noise = self.noise if self.informative else 0.0
            observed = examples_of(self.observed, dataset, size, noise=noise)
            return attrs.evolve(self, operator=operator, observed=observed)
        clean = examples_of("held-out", dataset)
        y = operator.apply(clean)
        z = Noise(seed=0, index=torch.arange(len(y))).stream("measurement").normal_like(y)
        y = y + self.noise * z if self.informative else y
        return attrs.evolve(self, operator=operator, observed=y)

    def measured(self, problem: Problem) -> Measurement:
        shape = tuple(problem.shape[1:])
        operator = self._resolved(shape)
        size = operator.measured_shape(shape)
        y = rows_for(values_of(self.observed), problem.index, size, "what was measured")
        y = y.to(dtype=problem.dtype, device=problem.device)
        if not bool(y.isfinite().all()):
            raise DataError("what was measured holds values that are NaN or infinite", "finite numbers")
        return Measurement(operator=operator, y=y, noise=self.noise, shape=shape)

    def _resolved(self, shape: tuple[int, ...]) -> Operator:
        """The operator with a mask read once."""
        if not isinstance(self.operator, InPainting):
            return self.operator
        mask = mask_for(self.operator.mask, shape)
        if len(mask) > 1:
            raise DataError(
                f"the operator in-painting was given {len(mask)} masks",
                "one mask for all samples",
                "Use the conditioner `imputation`, which takes a mask for each example",
            )
        return InPainting(mask=mask)
