"""The 8 x 8 handwritten digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import functools
from typing import ClassVar, final

import attrs
import torch

from diffkit.component import parameter
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._images import keep_classes, one_of_classes

__all__ = ["Digits"]

_NAMES = tuple("0123456789")
_TEST_COUNT = 500


@final
@attrs.frozen(kw_only=True)
class Digits(Dataset):
    """1,797 grey digits of 8 x 8 pixels on 17 levels (0 .. 16), ten classes.

    A fixed split that keeps the classes' shares: 1,297 for training, 500 for testing. `classes` keeps
    some of them, renumbered in the order given; a single one is data without labels.
    """

    source: ClassVar[str] = (
        "Alpaydin and Kaynak 1998, UCI: Optical Recognition of Handwritten Digits (test part)"
    )

    classes: tuple[int | str, ...] | None = parameter(
        "keep only these digits; null = all", None, validator=one_of_classes(_NAMES)
    )

    def spec(self) -> DataSpec:
        names = _NAMES if self.classes is None else tuple(str(name) for name in self.classes)
        if len(names) == 1:
            return DataSpec(shape=(1, 8, 8), levels=17)
        return DataSpec(shape=(1, 8, 8), classes=len(names), names=names, levels=17)

    def load(self, split: SplitName) -> Examples:
        train, test = _splits()
        examples = test if split == "test" else train
        if examples.label is None or self.classes is None:
            return examples
        return keep_classes(examples.raw, examples.label, _NAMES, self.classes)

    def unrestricted(self) -> Digits:
        return attrs.evolve(self, classes=None)


@functools.lru_cache(maxsize=1)
def _splits() -> tuple[Examples, Examples]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    raw = torch.from_numpy(bundle.images).to(torch.uint8)[:, None]
    label = torch.from_numpy(bundle.target).to(torch.int64)
    numbers = train_test_split(
        torch.arange(len(raw)).numpy(), test_size=_TEST_COUNT, stratify=label.numpy(), random_state=0
    )
    rows = [torch.from_numpy(part).sort().values for part in numbers]
    train, test = (Examples(raw=raw[part], label=label[part]) for part in rows)
    return train, test
