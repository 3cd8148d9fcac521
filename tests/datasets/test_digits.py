"""The bundled digits, and what every data set on levels owes: exact levels, a round trip, a fingerprint."""

from __future__ import annotations

import subprocess
import sys

import attrs
import torch

from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets.digits import Digits


def rows(examples: Examples) -> set[bytes]:
    return {bytes(image.numpy().tobytes()) for image in examples.raw}


def test_the_split_is_fixed_stratified_and_disjoint() -> None:
    train, test = Digits().load("train"), Digits().load("test")
    assert (len(train), len(test)) == (1297, 500)
    assert train.label is not None
    assert test.label is not None
    assert not rows(train) & rows(test)
    whole = torch.bincount(torch.cat([train.label, test.label]))
    assert (torch.bincount(test.label) - whole * 500 / 1797).abs().max() < 1.0


def test_kept_classes_are_the_same_pictures_renumbered() -> None:
    whole, some = Digits().load("test"), Digits(classes=(7, "2"))
    examples = some.load("test")
    assert whole.label is not None
    assert examples.label is not None
    assert (some.spec().classes, some.spec().names) == (2, ("7", "2"))
    for number, digit in enumerate((7, 2)):
        assert torch.equal(examples.raw[examples.label == number], whole.raw[whole.label == digit])
    assert len(examples) == int(((whole.label == 7) | (whole.label == 2)).sum())


def test_one_class_is_data_without_labels() -> None:
    three = Digits(classes=(3,))
    assert three.load("train").label is None
    assert three.spec().classes is None
    assert three.unrestricted() == Digits()


def test_the_spec_tells_the_data_without_reading_them() -> None:
    spec, train = Digits().spec(), Digits().load("train")
    assert (spec.shape, spec.classes, spec.levels) == (tuple(train.raw.shape[1:]), 10, 17)
    assert train.raw.dtype == torch.uint8
    assert (int(train.raw.min()), int(train.raw.max())) == (0, 16)
    code = (
        "import sys; from diffkit_standard.datasets.digits import Digits; Digits().spec();"
        " assert 'sklearn' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_levels_are_encoded_at_the_middle_of_their_cells() -> None:
    raw = torch.arange(17, dtype=torch.uint8).reshape(17, 1, 1, 1).expand(17, 1, 8, 8)
    x = Digits().encode(raw)
    expected = torch.tensor([2 * (k + 0.5) / 17 - 1 for k in range(17)])
    torch.testing.assert_close(x[:, 0, 0, 0], expected, rtol=0, atol=1e-6)
    assert x.dtype == torch.get_default_dtype()
    assert torch.equal(Digits().decode(x), raw)


def test_decoding_goes_to_the_nearest_level_and_clips() -> None:
    x = torch.tensor([-3.0, -1.0, -1.0 + 1.9 / 17, -1.0 + 2.1 / 17, 1.0, 7.0]).reshape(6, 1, 1, 1)
    assert Digits().decode(x).flatten().tolist() == [0, 0, 0, 1, 16, 16]
    assert Digits().picture(x).flatten().tolist()[-1] == 1.0


@attrs.frozen(kw_only=True)
class Few(Dataset):
    """Examples given as they are."""

    raw: torch.Tensor
    shift: float = 0.0
    levels: int | None = None

    def spec(self) -> DataSpec:
        if self.levels is not None:
            return DataSpec(shape=tuple(self.raw.shape[1:]), levels=self.levels)
        return DataSpec(shape=tuple(self.raw.shape[1:]), scale=(0.3, 4.0), offset=(self.shift, 0.1))

    def load(self, split: SplitName) -> Examples:
        return Examples(raw=self.raw)


def test_the_fingerprint_is_stable_and_changes_with_a_pixel_and_with_the_units() -> None:
    raw = Digits().load("train").raw[:5].repeat(1, 2, 1, 1)
    changed = raw.clone()
    changed[4, 0, 7, 7] += 1
    code = "from diffkit_standard.datasets.digits import Digits; print(Digits().fingerprint())"
    elsewhere = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert elsewhere.stdout.strip() == Digits().fingerprint()
    assert Few(raw=raw).fingerprint() == Few(raw=raw.clone()).fingerprint()
    prints = [Few(raw=raw), Few(raw=changed), Few(raw=raw, shift=0.5), Few(raw=raw, levels=256)]
    assert len({dataset.fingerprint() for dataset in prints}) == 4


def test_continuous_data_keep_their_precision_and_are_scaled_by_channel() -> None:
    raw = torch.rand(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dataset = Few(raw=raw)
    x = raw * torch.tensor([0.3, 4.0], dtype=torch.float64)[:, None, None]
    x = x + torch.tensor([0.0, 0.1], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(dataset.encode(raw), x.to(torch.float32))
    torch.testing.assert_close(dataset.decode(x), raw, rtol=1e-14, atol=1e-15)


def test_a_picture_without_levels_runs_from_minus_one_to_one() -> None:
    dataset = Few(raw=torch.zeros(1, 1, 1, 4))
    shown = dataset.picture(torch.tensor([-2.0, -1.0, 0.0, 1.0]).reshape(1, 1, 1, 4))
    assert shown.flatten().tolist() == [0.0, 0.0, 0.5, 1.0]
