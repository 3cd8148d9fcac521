"""Folders of pictures: what is read, in which order, by which rules, and what is refused."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffkit.errors import DataError
from diffkit_standard.datasets.image_folder import ImageFolder


def save(path: Path, pixels: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=options.pop("dtype", np.uint8))).save(path, **options)
    return path


def grey(value: int, shape: tuple[int, ...] = (8, 8)) -> Any:
    return np.full(shape, value)


def everything(path: Path, **fields: Any) -> torch.Tensor:
    return ImageFolder(path=str(path), test_share=0.0, **fields).load("train").raw


def test_order_shape_and_levels(tmp_path: Path) -> None:
    for value, name in enumerate(("b/1.png", "a.png", "b.png", "a/2.bmp")):
        save(tmp_path / name, grey(value))
    raw = everything(tmp_path)
    assert raw.shape == (4, 1, 8, 8)
    assert raw.dtype == torch.uint8
    assert raw[:, 0, 0, 0].tolist() == [1, 3, 2, 0]
    spec = ImageFolder(path=str(tmp_path)).spec()
    assert (spec.shape, spec.levels, spec.classes) == ((1, 8, 8), 256, None)


def test_adding_images_moves_none_to_the_other_side(tmp_path: Path) -> None:
    dataset = ImageFolder(path=str(tmp_path), test_share=0.3)

    def sides() -> dict[int, str]:
        return {
            int(image[0, 0, 0]): split for split in ("train", "test") for image in dataset.load(split).raw
        }

    for value in range(40):
        save(tmp_path / f"{value}.png", grey(value))
    before = sides()
    for value in range(40, 120):
        save(tmp_path / f"{value}.png", grey(value))
    after = sides()
    assert sorted(after) == list(range(120))
    assert {value: after[value] for value in before} == before
    assert 20 < sum(split == "test" for split in after.values()) < 52


def test_two_images_make_two_splits_and_one_makes_one(tmp_path: Path) -> None:
    save(tmp_path / "one.png", grey(1))
    dataset = ImageFolder(path=str(tmp_path))
    assert len(dataset.load("train")) == 1
    with pytest.raises(DataError, match="test split"):
        dataset.load("test")
    save(tmp_path / "two.png", grey(2))
    assert len(dataset.load("train")) == len(dataset.load("test")) == 1


def test_folders_train_and_test_are_the_splits(tmp_path: Path) -> None:
    for value, split in enumerate(("train", "test")):
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "1.png", grey(value))
    dataset = ImageFolder(path=str(tmp_path))
    for value, examples in enumerate((dataset.load("train"), dataset.load("test"))):
        assert examples.raw[:, 0, 0, 0].tolist() == [value, value]
        assert examples.label is not None
        assert examples.label.tolist() == [0, 1]
    save(tmp_path / "test" / "yak" / "1.png", grey(1))
    with pytest.raises(DataError, match="yak"):
        dataset.load("test")


def test_sub_folders_are_classes_where_they_can_be(tmp_path: Path) -> None:
    for value, name in enumerate(("ant/x.png", "bee/x.png", "bee/deep/y.png")):
        save(tmp_path / name, grey(value))
    dataset = ImageFolder(path=str(tmp_path), test_share=0.0)
    assert (dataset.spec().classes, dataset.spec().names) == (2, ("ant", "bee"))
    label = dataset.load("train").label
    assert label is not None
    assert label.tolist() == [0, 1, 1]
    assert ImageFolder(path=str(tmp_path), labels=False).spec().classes is None
    save(tmp_path / "loose.png", grey(3))
    assert ImageFolder(path=str(tmp_path)).spec().classes is None
    with pytest.raises(DataError, match="sub-folder"):
        ImageFolder(path=str(tmp_path), labels=True).spec()


def test_sixteen_bits_are_divided_by_257(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257], [514, 32768, 65406, 65535]])
    save(tmp_path / "deep.png", values, dtype=np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(everything(tmp_path)[0, 0].numpy(), expected)


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4))
    pixels[0, 0], pixels[0, 1], pixels[1, 0] = (200, 0, 0, 255), (10, 20, 30, 0), (0, 0, 0, 51)
    save(tmp_path / "clear.png", pixels)
    raw = everything(tmp_path)[0]
    assert raw[:, 0, 0].tolist() == [200, 0, 0]
    assert raw[:, 0, 1].tolist() == [255, 255, 255]
    assert raw[:, 1, 0].tolist() == [204, 204, 204]


def test_palettes_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8)).convert("P")
    image.putpalette([250, 10, 20, 5, 6, 7])
    image.save(tmp_path / "few.png")
    raw = everything(tmp_path)
    assert raw.shape == (1, 3, 2, 2)
    assert raw[0, :, 0, 0].tolist() == [250, 10, 20]


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "turned.png", np.arange(6).reshape(2, 3), exif=exif)
    assert ImageFolder(path=str(tmp_path)).spec().shape == (1, 3, 2)
    assert everything(tmp_path)[0, 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_modes_are_converted_only_when_asked(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey(100))
    save(tmp_path / "b.png", np.full((8, 8, 3), (255, 0, 0)))
    with pytest.raises(DataError, match=r"a\.png is grey.*b\.png is rgb.*mode: grey"):
        everything(tmp_path)
    assert everything(tmp_path, mode="rgb")[0, :, 0, 0].tolist() == [100, 100, 100]
    assert everything(tmp_path, mode="grey")[:, 0, 0, 0].tolist() == [100, round(0.299 * 255)]


def test_sizes_are_changed_only_when_asked(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey(100))
    save(tmp_path / "b.png", grey(50, (8, 12)))
    with pytest.raises(DataError, match=r"8 x 8.*b\.png has 8 x 12.*size:"):
        everything(tmp_path)
    raw = everything(tmp_path, size=4)
    assert raw.shape == (2, 1, 4, 4)
    assert raw[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [100, 50]


@pytest.mark.parametrize("size", [0, -3, 2.5, (4,), (4, 0), "8", True])
def test_impossible_sizes_are_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        ImageFolder(path="x", size=size)


def test_cropping_keeps_proportions_and_stretching_keeps_everything(tmp_path: Path) -> None:
    wide = np.zeros((8, 24))
    wide[:, 8:16] = 200
    save(tmp_path / "wide.png", wide)
    assert (everything(tmp_path, size=8, crop="center") == 200).all()
    assert everything(tmp_path, size=(8, 6), crop="none")[0, 0, 0, 0] < 10


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64))
    stripes[:, 1::4] = 255
    save(tmp_path / "stripes.png", stripes)
    raw = everything(tmp_path, size=16)[..., 2:-2, 2:-2].float()
    assert (raw - 255 / 4).abs().max() < 3


def test_with_size_mode_and_labels_given_nothing_is_read() -> None:
    dataset = ImageFolder(path="/nowhere/at/all", size=(4, 6), mode="rgb", labels=False)
    assert dataset.spec().shape == (3, 4, 6)
    with pytest.raises(DataError, match="/nowhere/at/all"):
        ImageFolder(path="/nowhere/at/all").spec()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    for name in ("good.jpg", "torn.jpg", "torn.png"):
        save(tmp_path / name, noise)
    for name in ("torn.jpg", "torn.png"):
        broken = tmp_path / name
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"{name}.*cannot be read.*Replace"):
            everything(tmp_path)
        broken.unlink()
    assert len(everything(tmp_path)) == 1


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "fake.png").write_text("no picture")
    with pytest.raises(DataError, match=r"fake\.png"):
        ImageFolder(path=str(tmp_path)).spec()


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "deep.tif", grey(1), dtype=np.float32)
    with pytest.raises(DataError, match=r"deep\.tif has 32-bit"):
        everything(tmp_path)


def test_other_files_are_passed_over_and_unknown_ones_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "a.png", grey(1))
    save(tmp_path / ".hidden" / "b.png", grey(2))
    save(tmp_path / "seen" / ".thumbs" / "c.png", grey(3))
    for name in (".DS_Store", "notes.txt", "movie.mp4"):
        (tmp_path / name).write_text("x")
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        assert len(everything(tmp_path)) == 1
    assert "movie.mp4" in caplog.text
    assert "notes.txt" not in caplog.text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        everything(tmp_path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (9_000, 60_000):
        head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with pytest.raises(DataError, match=r"bomb\.png is too large"):
            everything(tmp_path)


def test_a_folder_with_too_many_files_is_refused_before_any_is_read(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_text("no picture at all")
    with pytest.raises(DataError, match=r"more than 3 files.*max_files"):
        ImageFolder(path=str(tmp_path), max_files=3).load("train")
    with pytest.raises(DataError, match="cannot be read"):
        ImageFolder(path=str(tmp_path), max_files=4).load("train")


def test_the_memory_limit_holds_before_anything_is_allocated(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey(1))
    with pytest.raises(DataError, match=r"GiB.*memory_limit_gib"):
        everything(tmp_path, size=200_000)


def test_a_changed_pixel_is_seen_at_once(tmp_path: Path) -> None:
    for value in range(4):
        save(tmp_path / f"{value}.png", grey(value))
    dataset = ImageFolder(path=str(tmp_path), test_share=0.0)
    before = dataset.fingerprint()
    assert ImageFolder(path=str(tmp_path), test_share=0.0).fingerprint() == before
    save(tmp_path / "2.png", grey(99))
    assert dataset.fingerprint() != before
