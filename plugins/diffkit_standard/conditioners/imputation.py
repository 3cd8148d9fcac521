"""Imputation: the missing part of a sample, given the observed part."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import ClassVar, final

import attrs
import numpy as np
import torch
from torch import Tensor

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset
from diffkit.problem import Problem
from diffkit_standard.conditioners._evidence import Measurement
from diffkit_standard.conditioners._measured import Measured
from diffkit_standard.conditioners._observed import examples_of, refuse_missing, rows_for, values_of
from diffkit_standard.operators._masks import Values, mask_for, same_values
from diffkit_standard.operators.in_painting import InPainting


@final
@attrs.frozen(kw_only=True)
class Imputation(Measured):
    """Completes what a mask hides: samples of p(x_0 | m x_0 = m y), the observed elements exactly as given.

    Restoration with the operator `in-painting` and no noise; the methods and how exact each is are told
    there. Sample i is given row i modulo the number of examples observed, so that twice as many samples as
    examples are two completions of each.

    Source: Song et al. 2021, arXiv 2011.13456, appendix I (replacement); Lugmayr et al. 2022,
    arXiv 2201.09865, algorithm 1 (repaint); Rozet et al. 2024, arXiv 2405.13712 (mmps); Song et al. 2023,
    "Pseudoinverse-guided diffusion models for inverse problems", ICLR (pigdm); Chung et al. 2023,
    arXiv 2209.14687, algorithm 1 (dps); Wu et al. 2023, arXiv 2306.17775, algorithm 1 (particle).
    """

    source: ClassVar[str] = "Lugmayr et al. 2022, arXiv 2201.09865; Rozet et al. 2024, arXiv 2405.13712"

    observed: Values = parameter(
        "the examples to complete: `held-out`, a file (.npy, .npz or a picture), a folder of pictures, or an "
        "array (N, ...) in the model's units, where what the mask hides may be NaN",
        "held-out",
        same=same_values,
    )
    mask: Values = parameter(
        "1 where observed, 0 where missing: centre, border, left-half or random:SHARE (what is missing), a "
        "file (.npy, .npz or a picture) or an array, one for all examples or one each",
        "centre",
        same=same_values,
    )
    mask_missing: bool = parameter("the mask is 1 where missing instead", False)

    @cached_property
    def informative(self) -> bool:
        # What a name or a file hides is known once the shape is.
        if not isinstance(self.mask, (Tensor, np.ndarray)):
            return True
        return bool((torch.as_tensor(self.mask).bool() != self.mask_missing).any())

    def examined(self, shape: tuple[int, ...]) -> None:
        self._mask_for(shape)
        refuse_missing(self.observed)

    def prepared(self, dataset: Dataset) -> Imputation:
        mask = self._mask_for(dataset.spec().shape)
        for extreme, words in ((~mask, "hides every element"), (mask, "hides no element")):
            if bool(extreme.all()):
                logging.getLogger("diffkit").warning("The mask %s", words)
        observed = examples_of(self.observed, dataset, mask=mask)
        if len(mask) not in (1, len(observed)):
            raise DataError(
                f"there are {len(mask)} masks and {len(observed)} examples",
                "one mask for all examples, or one each",
                "Give as many masks as examples",
            )
        return attrs.evolve(self, observed=observed, mask=mask, mask_missing=False)

    def measured(self, problem: Problem) -> Measurement:
        shape = tuple(problem.shape[1:])
        mask = rows_for(self._mask_for(shape), problem.index, shape, "the mask").to(problem.device)
        given = rows_for(values_of(self.observed), problem.index, shape, "what was observed")
        y = torch.where(mask, given.to(dtype=problem.dtype, device=problem.device), 0.0)
        return Measurement(operator=InPainting(mask=mask), y=y, noise=0.0, shape=shape)

    def imposed(self, measured: Measurement, x: Tensor) -> Tensor:
        mask = measured.operator.apply(torch.ones_like(x)) > 0.0
        return torch.where(mask, measured.y, x)

    finished = imposed

    def _mask_for(self, shape: tuple[int, ...]) -> Tensor:
        mask = mask_for(self.mask, shape)
        return ~mask if self.mask_missing else mask
