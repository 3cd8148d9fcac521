"""The laws of a data set: what its specification promises is what is loaded, and units go both ways."""

from __future__ import annotations

import torch

from diffkit.interfaces.dataset import Dataset, Examples, SplitName
from diffkit.statistics import settled
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure, ensure_close

__all__ = ["LAWS"]

_SPLITS: tuple[SplitName, ...] = ("train", "test")


def _splits(dataset: Dataset) -> list[tuple[SplitName, Examples]]:
    return [(split, dataset.load(split)) for split in _SPLITS]


def specification_holds(dataset: Dataset) -> None:
    """load(split).raw is (N, *shape), N >= 1, on 0 .. L-1 where there are levels, else finite; one scale and
    offset, or one a channel; as many names as classes."""
    spec = dataset.spec()
    for split, examples in _splits(dataset):
        raw = examples.raw
        ensure(
            len(raw) >= 1 and tuple(raw.shape[1:]) == spec.shape,
            f"{split} is {tuple(raw.shape)}, not {spec.shape}",
        )
        if spec.levels is None:
            ensure(raw.is_floating_point() and raw.isfinite().all(), f"{split} is {raw.dtype}, or not finite")
        else:
            low, high = int(raw.min()), int(raw.max())
            ensure(not raw.is_floating_point(), f"{split} has levels and is {raw.dtype}")
            ensure(
                low >= 0 and high < spec.levels, f"{split} goes from {low} to {high}, of {spec.levels} levels"
            )
    lengths = (len(spec.scale), len(spec.offset))
    ensure(all(length in (1, spec.shape[0]) for length in lengths), f"scale and offset have {lengths} values")
    ensure(all(value != 0.0 for value in spec.scale), "a scale is 0")
    ensure(
        len(spec.names) in (0, spec.classes), f"there are {len(spec.names)} names for {spec.classes} classes"
    )


def labels_in_range(dataset: Dataset) -> None:
    """Labels are (N,) int64 in 0 .. K-1 where the specification has K classes, else there are none."""
    classes = dataset.spec().classes
    for split, examples in _splits(dataset):
        if classes is None:
            ensure(examples.label is None, f"{split} has labels, and the specification no classes")
            continue
        label = examples.label
        ensure(label is not None, f"{split} has no labels, and the specification {classes} classes")
        assert label is not None
        right = label.dtype == torch.int64 and label.shape == (len(examples),)
        ensure(right, f"labels of {split} are {label.dtype} {tuple(label.shape)}")
        low, high = int(label.min()), int(label.max())
        ensure(
            low >= 0 and high < classes, f"labels of {split} go from {low} to {high}, of {classes} classes"
        )


def units_go_both_ways(dataset: Dataset) -> None:
    """decode(encode(raw)) = raw: on the levels exactly, where the data are continuous to rounding."""
    dataset, _ = settled(dataset)
    spec = dataset.spec()
    for split, examples in _splits(dataset):
        raw = examples.raw[:256]
        back = dataset.decode(dataset.encode(raw))
        if spec.levels is None:
            ensure_close(back, raw, 1e-5 * (1.0 + raw.abs().double()), f"decode(encode(raw)) of {split}")
        else:
            ensure(torch.equal(back.long(), raw.long()), f"levels of {split} come back as others")


def encoding_is_affine(dataset: Dataset) -> None:
    """encode(raw) = scale raw + offset, in torch's default dtype."""
    dataset, _ = settled(dataset)
    spec = dataset.spec()
    raw = dataset.load("train").raw[:64]
    encoded = dataset.encode(raw)
    ensure(encoded.dtype == torch.get_default_dtype(), f"it is {encoded.dtype}")
    inner = (1,) * (len(spec.shape) - 1)
    scale, offset = (
        torch.tensor(value, dtype=torch.float64).reshape(-1, *inner) for value in (spec.scale, spec.offset)
    )
    expected = scale * raw.double() + offset
    ensure_close(encoded, expected, 1e-5 * (1.0 + expected.abs()), "encode(raw)")


def reading_is_repeatable(dataset: Dataset) -> None:
    """Two readings give the same examples and the same fingerprint, and move no global generator."""
    before = torch.get_rng_state()
    for split in _SPLITS:
        first, again = dataset.load(split), dataset.load(split)
        ensure(torch.equal(first.raw, again.raw), f"two readings of {split} differ")
        if first.label is not None and again.label is not None:
            ensure(torch.equal(first.label, again.label), f"two readings of {split} have other labels")
    ensure(dataset.fingerprint() == dataset.fingerprint(), "two fingerprints differ")
    ensure(torch.equal(before, torch.get_rng_state()), "the global generator was moved")


def splits_are_disjoint(dataset: Dataset) -> None:
    """Hardly any example of the test split is one of the training split."""
    train, test = (examples.raw.flatten(1).to(torch.float64) for _, examples in _splits(dataset))
    weights = torch.sin(
        1.0 + torch.arange(train.shape[1], dtype=torch.float64)
    )  # a cheap fingerprint of each
    shared = torch.isin(test @ weights, train @ weights).to(torch.float64).mean()
    ensure(float(shared) <= 0.05, f"{float(shared):.1%} of the test split is in the training split")


def plain_units(dataset: Dataset) -> None:
    """to_plain(from_plain(x)) = x, and images are within [-1, 1] in plain units."""
    dataset, _ = settled(dataset)
    x = dataset.encode(dataset.load("train").raw[:64])
    plain = dataset.to_plain(x)
    ensure_close(dataset.from_plain(plain), x, 1e-5 * (1.0 + x.abs().double()), "from_plain(to_plain(x))")
    if dataset.spec().image:
        ensure(float(plain.abs().max()) <= 1.0 + 1e-6, f"plain units reach {float(plain.abs().max()):g}")


def pictures(dataset: Dataset) -> None:
    """picture(x) is (B, 1 or 3, H, W) in [0, 1]."""
    dataset, _ = settled(dataset)
    x = dataset.encode(dataset.load("train").raw[:4])
    try:
        drawn = dataset.picture(x)
    except TypeError as error:
        raise NotApplicable(str(error)) from error
    ensure(drawn.ndim == 4 and drawn.shape[1] in (1, 3), f"its shape is {tuple(drawn.shape)}")
    low, high = float(drawn.min()), float(drawn.max())
    ensure(low >= 0.0 and high <= 1.0, f"its values go from {low} to {high}")


LAWS = book_of(
    "dataset",
    specification_holds,
    labels_in_range,
    units_go_both_ways,
    encoding_is_affine,
    reading_is_repeatable,
    splits_are_disjoint,
    plain_units,
    pictures,
)
