"""The classifier as a view: how good it is, that it is learnt once, and whom it refuses."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.interfaces.features import FeatureExtractor
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.features.classifier import Classifier


@attrs.frozen(kw_only=True)
class Blobs(Dataset):
    """Bright squares whose corner is their class, of any image shape; or only the first class."""

    shape: tuple[int, ...] = (1, 12, 12)
    only_first: bool = False
    seed: int = 0

    def spec(self) -> DataSpec:
        return DataSpec(shape=self.shape, classes=None if self.only_first else 2, levels=256)

    def load(self, split: SplitName) -> Examples:
        generator = torch.Generator().manual_seed(self.seed + (split == "test"))
        raw = torch.randint(0, 60, (40, *self.shape), dtype=torch.uint8, generator=generator)
        label = torch.arange(40) % 2
        raw[label == 0, ..., :4] += 150
        raw[label == 1, ..., -4:] += 150
        if self.only_first:
            return Examples(raw=raw[label == 0])
        return Examples(raw=raw, label=label)

    def unrestricted(self) -> Dataset:
        return attrs.evolve(self, only_first=False)


QUICK = Classifier(steps=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureExtractor, Path]:
    cache = tmp_path_factory.mktemp("cache")
    return Classifier().prepare(Digits(), cache), cache


def test_it_tells_digits_apart(trained: tuple[FeatureExtractor, Path]) -> None:
    extractor, _ = trained
    test = Digits().load("test")
    assert test.label is not None
    logits = extractor.logits(Digits().encode(test.raw))
    accuracy = float((logits.argmax(1) == test.label).double().mean())
    assert accuracy >= 0.97
    assert extractor.details == {"held_out_accuracy": pytest.approx(accuracy, abs=1e-9)}


def test_features_lead_to_the_logits_whatever_the_batch(trained: tuple[FeatureExtractor, Path]) -> None:
    extractor, _ = trained
    x = Digits().encode(Digits().load("test").raw[:50])
    features, logits = extractor.features_and_logits(x)
    assert features.shape == (50, 64)
    assert logits.shape == (50, 10)
    assert not features.requires_grad
    torch.testing.assert_close(features, extractor.features(x))
    torch.testing.assert_close(logits, extractor.logits(x))
    single = torch.cat([extractor.logits(x[row : row + 1].double()) for row in range(50)])
    torch.testing.assert_close(single, logits, rtol=1e-4, atol=1e-4)


def test_it_is_learnt_once(trained: tuple[FeatureExtractor, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, cache = trained
    monkeypatch.setattr(torch.optim, "AdamW", None)
    again = Classifier().prepare(Digits(), cache)
    assert again.identity == extractor.identity
    assert again.details == extractor.details
    x = Digits().encode(Digits().load("test").raw[:9])
    assert torch.equal(again.features(x), extractor.features(x))


def test_the_same_recipe_gives_the_same_weights_and_leaves_the_random_state(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    first = QUICK.prepare(Blobs(), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert QUICK.prepare(Blobs(), tmp_path / "b").identity == first.identity
    assert first.identity.startswith("classifier:")
    assert Classifier(steps=20, seed=1).prepare(Blobs(), tmp_path / "a").identity != first.identity
    assert QUICK.prepare(Blobs(seed=5), tmp_path / "a").identity != first.identity
    assert len([path for path in (tmp_path / "a").iterdir() if path.is_dir()]) == 3


def test_a_restricted_data_set_is_seen_as_the_whole_is(tmp_path: Path) -> None:
    whole = QUICK.prepare(Blobs(), tmp_path)
    assert QUICK.prepare(Blobs(only_first=True), tmp_path).identity == whole.identity


@pytest.mark.parametrize("damage", ["weights.safetensors", "record.json"])
@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str, content: bytes | None) -> None:
    before = QUICK.prepare(Blobs(), tmp_path)
    (path,) = tmp_path.glob(f"*/{damage}")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    path.write_bytes(bytes(flipped) if content is None else content)
    after = QUICK.prepare(Blobs(), tmp_path)
    assert after.identity == before.identity
    assert (tmp_path / path.relative_to(tmp_path).parent / "record.json").exists()
    QUICK.prepare(Blobs(), tmp_path)
    assert not list(tmp_path.glob("*/unfinished"))


def test_a_single_step_is_a_recipe_too(tmp_path: Path) -> None:
    assert Classifier(steps=1).prepare(Blobs(), tmp_path).features(torch.zeros(2, 1, 12, 12)).isfinite().all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17), (3, 32, 32), (1, 64, 64)])
def test_grey_and_colour_images_of_many_sizes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    extractor = QUICK.prepare(Blobs(shape=shape), tmp_path)
    assert extractor.features(torch.zeros(3, *shape)).shape == (3, 64)
    assert extractor.details["held_out_accuracy"] == 1.0


def test_data_without_classes_or_images_are_refused(tmp_path: Path) -> None:
    @attrs.frozen(kw_only=True)
    class Bare(Dataset):
        shape: tuple[int, ...]
        classes: int | None

        def spec(self) -> DataSpec:
            return DataSpec(shape=self.shape, classes=self.classes)

        def load(self, split: SplitName) -> Examples:
            raise AssertionError("nothing may be read")

    for classes in (None, 1):
        with pytest.raises(DataError, match="no labels"):
            QUICK.prepare(Bare(shape=(1, 8, 8), classes=classes), tmp_path)
    for shape in ((2,), (1, 4, 8), (5, 16, 16)):
        with pytest.raises(DataError, match="8 x 8"):
            QUICK.prepare(Bare(shape=shape, classes=3), tmp_path)
