"""The laws of a feature extractor, prepared for the built-in digits in a folder of its own."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from diffkit import registry
from diffkit.errors import InputError
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.features import FeatureExtractor, Features
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure, ensure_close

__all__ = ["LAWS"]


def _digits() -> tuple[Dataset, Tensor]:
    dataset: Dataset = registry.create("dataset", "digits")
    return dataset, dataset.encode(dataset.load("test").raw[:32])


def _prepare(features: Features, folder: Path) -> FeatureExtractor:
    try:
        return features.prepare(_digits()[0], folder)
    except InputError as error:
        raise NotApplicable(f"it cannot be prepared for the digits: {error}") from error


@functools.lru_cache(maxsize=1)
def _prepared(features: Features) -> FeatureExtractor:
    """Preparing may take a training: once for all laws."""
    with tempfile.TemporaryDirectory() as folder:
        return _prepare(features, Path(folder))


def finite_and_flat(features: Features) -> None:
    """features(x) is (B, F), finite, floating point; logits(x) is (B, K) where it classifies."""
    extractor, (_, x) = _prepared(features), _digits()
    found = extractor.features(x)
    ensure(found.ndim == 2 and len(found) == len(x), f"its shape is {tuple(found.shape)}")
    ensure(found.is_floating_point() and found.isfinite().all(), "it is not finite, or no real number")
    if "features.logits" in features.provides:
        logits = extractor.logits(x)
        ensure(logits.ndim == 2 and len(logits) == len(x), f"the logits' shape is {tuple(logits.shape)}")
        ensure(logits.isfinite().all(), "the logits are not finite")
        both = extractor.features_and_logits(x)
        ensure_close(both[0], found, 1e-4, "features of features_and_logits")
        ensure_close(both[1], logits, 1e-4, "logits of features_and_logits")


def batch_independent(features: Features) -> None:
    """features(x)_i depends on x_i alone."""
    extractor, (_, x) = _prepared(features), _digits()
    whole = extractor.features(x)
    alone = torch.cat([extractor.features(each[None]) for each in x[:8]])
    ensure_close(alone, whole[:8], 1e-3 * (1.0 + whole[:8].abs().double()), "the features of one example")


def identity_is_stable(features: Features) -> None:
    """Prepared from nothing again, or found in the cache, the extractor has its identity and features."""
    first, (_, x) = _prepared(features), _digits()
    with tempfile.TemporaryDirectory() as folder:
        for what in ("prepared again", "found in the cache"):
            again = _prepare(features, Path(folder))
            ensure(
                again.identity == first.identity, f"{what}, it is {again.identity}, and was {first.identity}"
            )
            ensure_close(again.features(x), first.features(x), 1e-5, f"a feature, {what},")


def tells_examples_apart(features: Features) -> None:
    """Different examples have different features."""
    extractor, (_, x) = _prepared(features), _digits()
    ensure(float(extractor.features(x).std(0).max()) > 0.0, "all examples have one feature vector")


LAWS = book_of("features", finite_and_flat, batch_independent, identity_is_stable, tells_examples_apart)
