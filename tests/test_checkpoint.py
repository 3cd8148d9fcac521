"""Models on disk: the same bits back, every damage found, nothing lost on the way."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_training import NETWORK, small_job
from torch import Tensor

import diffkit
from diffkit import checkpoint, storage
from diffkit.description import owner
from diffkit.errors import CheckpointError, RunError
from diffkit.training import Trainer, train_steps

T = torch.tensor(0.4)
X = torch.linspace(-1.0, 1.0, 128).reshape(2, 1, 8, 8)
LABEL = torch.tensor([1, -1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three steps with a checkpoint of each; tests copy it before they harm it."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    list(train_steps(small_job(folder, steps=3, save_every=1, keep_last=3)))
    return folder


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def snapshot(model: Path, step: int = 3) -> Path:
    return model / "checkpoints" / f"{step:08d}"


def test_what_is_loaded_is_what_was_trained(tmp_path: Path) -> None:
    trainer = Trainer(small_job(tmp_path, steps=4))
    list(trainer.steps())
    loaded = diffkit.load(tmp_path)
    assert torch.equal(loaded.denoise(X, T, LABEL), trainer.model().denoise(X, T, LABEL))
    assert loaded.sde == trainer.job.sde
    assert loaded.spec == trainer.job.dataset.spec()
    assert loaded.step == 4
    assert loaded.classes == 2
    assert loaded.provides == {"model.denoise", "model.labels", "model.unconditional"}
    assert loaded.description["network"]["channels"] == NETWORK.channels
    assert loaded.description["training"]["batch_size"] == 6
    assert float(loaded.description["objective"]["sigma_data"]) > 0.0
    assert loaded.device == next(trainer._network.parameters()).device


def test_a_loaded_model_is_for_sampling(model: Path) -> None:
    before = torch.get_rng_state()
    loaded = checkpoint.load(model)
    assert torch.equal(torch.get_rng_state(), before)
    x = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loaded.denoise(x, T).sum(), x)
    assert torch.isfinite(gradient).all()
    assert not loaded.denoise(X, T).requires_grad


def test_the_averaged_weights_are_used(model: Path) -> None:
    averaged = checkpoint.load(model).denoise(X, T)
    plain = storage.read_snapshot(model, 3, owner=owner(storage.read_json(model / "model.json")))
    module = NETWORK.build((1, 8, 8), 2).eval()
    for part, same in (("ema", True), ("weights", False)):
        module.load_state_dict(dict(plain.parts[part]))
        objective = diffkit.create("objective", checkpoint.read_description(model)["objective"])
        denoised = objective.model(module, checkpoint.load(model).sde).denoise(X, T)
        assert torch.allclose(denoised, averaged, rtol=0.0, atol=1e-6) == same


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"labels": True, "label_dropout": 0.1}, ["model.denoise", "model.labels", "model.unconditional"]),
        ({"labels": True, "label_dropout": 0.0}, ["model.denoise", "model.labels"]),
        ({"labels": False, "label_dropout": 0.0}, ["model.denoise", "model.unconditional"]),
    ],
)
def test_capabilities_are_read_without_weights(
    tmp_path: Path, settings: dict[str, object], expected: list[str]
) -> None:
    Trainer(small_job(tmp_path, **settings))
    description = checkpoint.read_description(tmp_path)
    assert description["capabilities"] == expected
    assert description["classes"] == (2 if settings["labels"] else None)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        checkpoint.load(tmp_path)


def test_best_last_or_a_step(model: Path) -> None:
    assert [checkpoint.load(model, which).step for which in ("best", "last", 2, "1")] == [3, 3, 2, 1]
    checkpoint.mark_best(model, 2)
    assert [checkpoint.load(model, which).step for which in ("best", "last")] == [2, 3]
    assert not torch.equal(checkpoint.load(model, 1).denoise(X, T), checkpoint.load(model).denoise(X, T))
    for which in ("newest", "", 7, -1):
        with pytest.raises(CheckpointError, match=r"best, last, or one of the steps 1, 2, 3"):
            checkpoint.load(model, which)


def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path) -> None:
    steps = train_steps(small_job(tmp_path, steps=6, save_every=1, keep_last=2))
    for step in steps:
        if step.step == 2:
            checkpoint.mark_best(tmp_path, 2)
    assert storage.snapshot_steps(tmp_path) == [2, 5, 6]
    assert checkpoint.load(tmp_path).step == 2


def test_starting_afresh_forgets_the_best(tmp_path: Path) -> None:
    list(train_steps(small_job(tmp_path, steps=2, save_every=1)))
    checkpoint.mark_best(tmp_path, 2)
    list(train_steps(small_job(tmp_path, steps=2, save_every=1), resume=False))
    assert checkpoint.best_step(tmp_path) is None


def test_a_run_names_its_model(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"model": "../../model"}))
    assert torch.equal(checkpoint.load(run).denoise(X, T), checkpoint.load(model).denoise(X, T))
    (run / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="names no model"):
        checkpoint.load(run)
    (run / "manifest.json").write_text(json.dumps({"model": "gone"}))
    with pytest.raises(CheckpointError, match=r"There is no .*gone"):
        checkpoint.load(run)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def replace_by_foreign(file: Path) -> None:
    file.write_text('{"step": 3}')


DAMAGES = [truncate, empty, flip_bit, remove, replace_by_foreign]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_refused(model: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(snapshot(model) / name)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(model)
    assert name in str(caught.value)
    assert "--checkpoint" in str(caught.value)
    assert checkpoint.load(model, 2).step == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_description_is_refused(model: Path, damage: Callable[[Path], None]) -> None:
    damage(model / "model.json")
    with pytest.raises(CheckpointError, match=r"model\.json"):
        checkpoint.load(model)


@pytest.mark.parametrize("name", ["weights", "ema", "optimizer", "state"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_training_goes_on_from_the_newest_whole_checkpoint(
    model: Path, trained: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    suffix = "json" if name == "state" else "safetensors"
    damage(snapshot(model) / f"{name}.{suffix}")
    with caplog.at_level(logging.WARNING, "diffkit"):
        steps = list(train_steps(small_job(model, steps=3, save_every=1, keep_last=3)))
    assert [step.step for step in steps] == [3]
    assert f"{name}.{suffix}" in caplog.text
    for file in snapshot(trained).iterdir():
        assert (snapshot(model) / file.name).read_bytes() == file.read_bytes()


def test_nothing_whole_is_an_error(model: Path) -> None:
    for step in (1, 2, 3):
        flip_bit(snapshot(model, step) / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"No checkpoint .* is whole.*--fresh"):
        Trainer(small_job(model, steps=3, save_every=1, keep_last=3))


def test_swapped_files_and_folders_are_refused(model: Path, tmp_path: Path) -> None:
    shutil.copy(snapshot(model, 2) / "ema.safetensors", snapshot(model) / "ema.safetensors")
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(model)
    shutil.rmtree(snapshot(model))
    shutil.copytree(snapshot(model, 2), snapshot(model))
    with pytest.raises(CheckpointError, match="another model or step"):
        checkpoint.load(model)
    other = tmp_path / "other"
    list(train_steps(small_job(other, steps=3, seed=1)))
    shutil.rmtree(snapshot(model))
    shutil.copytree(snapshot(other), snapshot(model))
    with pytest.raises(CheckpointError, match="another model or step"):
        checkpoint.load(model)


@pytest.mark.parametrize("place", [n / 20 for n in range(20)])
@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_no_flipped_bit_goes_unseen(model: Path, name: str, place: float) -> None:
    file = snapshot(model) / name
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        storage.read_snapshot(model, 3, owner=owner(storage.read_json(model / "model.json")), parts=("ema",))


def test_what_is_no_model_is_refused_in_words(model: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK")
    for path in ("nowhere", "weights.pt", "."):
        with pytest.raises(CheckpointError, match=r"runs/models"):
            checkpoint.load(tmp_path / path)
    description = storage.read_json(model / "model.json")
    del description["checksum"]
    storage.write_json(model / "model.json", {**description, "format": 99})
    with pytest.raises(CheckpointError, match=r"format 99.*Use the version"):
        checkpoint.load(model)
    storage.write_json(model / "model.json", {"step": 3})
    with pytest.raises(CheckpointError, match=r"format None"):
        checkpoint.load(model)


def test_weights_of_another_network_are_refused(model: Path) -> None:
    described = storage.read_json(model / "model.json")
    del described["checksum"]
    described["network"]["channels"] = 16
    storage.write_json(model / "model.json", described)
    state = storage.read_json(snapshot(model) / "state.json")
    del state["checksum"]
    storage.write_json(snapshot(model) / "state.json", {**state, "model": owner(described)})
    with pytest.raises(CheckpointError, match="do not fit the network"):
        checkpoint.load(model)


def test_a_copy_is_the_model(model: Path, tmp_path: Path) -> None:
    goal = checkpoint.copy(model, tmp_path / "some" / "where")
    assert torch.equal(checkpoint.load(goal).denoise(X, T), checkpoint.load(model).denoise(X, T))
    assert [step.step for step in train_steps(small_job(goal, steps=3))] == []
    (tmp_path / "empty").mkdir()
    assert checkpoint.load(checkpoint.copy(model, tmp_path / "empty")).step == 3
    for used in (goal, model / "model.json"):
        with pytest.raises(CheckpointError, match="is there already"):
            checkpoint.copy(model, used)
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoint.copy(tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_the_old(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = owner(storage.read_json(model / "model.json"))
    new = storage.Snapshot(step=4, parts={"weights": {"a": torch.ones(3)}}, scalars={})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("_sync", "save_file"):
        with monkeypatch.context() as patched:
            patched.setattr(storage, broken, full)
            with pytest.raises(RunError, match="No space left on device"):
                storage.write_snapshot(model, new, owner=training)
        assert storage.snapshot_steps(model) == [1, 2, 3]
        assert sorted(entry.name for entry in (model / "checkpoints").iterdir()) == [
            f"{step:08d}" for step in (1, 2, 3)
        ]
    assert checkpoint.load(model).step == 3


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from diffkit import storage
from small_training import small_job
from diffkit.training import train_steps

calls = 0
def deadly(function):
    def wrapped(*arguments, **keywords):
        global calls
        calls += 1
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return wrapped

for name in ("save_file", "_sync", "remove"):
    setattr(storage, name, deadly(getattr(storage, name)))
storage.Path.rename, storage.Path.replace = deadly(storage.Path.rename), deadly(storage.Path.replace)
list(train_steps(small_job(Path(sys.argv[2]), steps=3, save_every=1, keep_last=1)))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("moment", [2, 9, 14])
def test_killed_while_writing(trained: Path, tmp_path: Path, moment: int) -> None:
    script = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "m"), str(moment)]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    assert subprocess.run(script, check=False, timeout=300, env=threads).returncode == -9
    list(train_steps(small_job(tmp_path / "m", steps=3, save_every=1, keep_last=1)))
    assert [entry.name for entry in (tmp_path / "m" / "checkpoints").iterdir()] == ["00000003"]
    for name in ("weights", "ema", "optimizer"):
        file = f"{name}.safetensors"
        assert (snapshot(tmp_path / "m") / file).read_bytes() == (snapshot(trained) / file).read_bytes()


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    parts: dict[str, dict[str, Tensor]] = {
        "weights": {
            "plain": tied,
            "tied": tied,
            "transposed": tied.t(),
            "last": torch.arange(16.0).reshape(1, 2, 4, 2).contiguous(memory_format=torch.channels_last),
            "count": torch.tensor(3),
            "half": torch.ones(2, dtype=torch.bfloat16),
            "double": torch.full((1,), 1.0 / 3.0, dtype=torch.float64),
        },
        "empty": {},
    }
    scalars = {"a": 0.1, "b": [1, None], "c": {"d": "e"}}
    storage.write_snapshot(tmp_path, storage.Snapshot(step=12, parts=parts, scalars=scalars), owner="me")
    back = storage.read_snapshot(tmp_path, 12, owner="me")
    assert back.scalars == scalars
    assert set(back.parts) == {"weights", "empty"}
    for name, tensor in parts["weights"].items():
        assert back.parts["weights"][name].dtype == tensor.dtype
        assert torch.equal(back.parts["weights"][name], tensor)


def test_only_safetensors_and_json_are_written(trained: Path) -> None:
    assert {file.suffix for file in trained.rglob("*") if file.is_file()} == {".safetensors", ".json"}
