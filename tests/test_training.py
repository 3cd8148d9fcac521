"""The training loop: the same bits after an interruption, every example in its place, every guard."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import math
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from small_training import NETWORK, Bars, Values, small_job
from torch import Tensor, nn

from diffkit import storage, training
from diffkit.batch import Batch
from diffkit.batches import Batches
from diffkit.config import TrainingConfig
from diffkit.description import owner
from diffkit.device import best_device, choose_arithmetic
from diffkit.errors import CheckpointError, ConfigError, RunError
from diffkit.interfaces.model import Model
from diffkit.interfaces.objective import Objective, State
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise
from diffkit.optimizer import average, averaging_decay, learning_rate
from diffkit.training import Trainer, TrainingJob, total_steps, train_steps
from diffkit_standard.networks.residual_unet import ResidualUNet
from diffkit_standard.objectives.noise import NoisePrediction

CPU = torch.device("cpu")


def finished(job: TrainingJob) -> dict[str, str]:
    """Trains to the end; the checksums of everything in the last checkpoint."""
    total = list(train_steps(job))[-1].step
    return checksums(job, total)


def checksums(job: TrainingJob, step: int) -> dict[str, str]:
    state = storage.read_json(job.folder / "checkpoints" / f"{step:08d}" / "state.json")
    files: dict[str, str] = state["files"]
    return files


def interrupted(job: TrainingJob, stop: int) -> dict[str, str]:
    """The same with a stop after `stop` steps, and a second start from the last checkpoint before it."""
    steps = train_steps(job)
    for _ in range(stop):
        next(steps)
    steps.close()
    return finished(job)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bf16"},
        {"gradient_accumulation": 4, "ema": None},
        {"flip": True, "label_dropout": 0.5, "decay": "constant", "gradient_clip": None},
    ],
    ids=["plain", "bf16", "accumulated", "augmented"],
)
def test_stopping_and_going_on_changes_no_bit(tmp_path: Path, settings: dict[str, object]) -> None:
    length = {"steps": 8, "save_every": 4} if settings else {}
    whole = finished(small_job(tmp_path / "whole", **length, **settings))
    # Stopped half-way and a step further, which is then done again.
    assert interrupted(small_job(tmp_path / "parts", **length, **settings), 5 if settings else 10) == whole
    assert set(whole) == {"weights", "optimizer"} | ({"ema"} if settings.get("ema", 1) else set())


def test_dropout_too_goes_on_as_it_would_have(tmp_path: Path) -> None:
    jobs = [
        attrs.evolve(
            small_job(tmp_path / name, steps=8, save_every=4), network=attrs.evolve(NETWORK, dropout=0.3)
        )
        for name in "ab"
    ]
    assert interrupted(jobs[0], 5) == finished(jobs[1])


def test_with_its_random_state_dropped_it_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see, had a training that goes on lost the state of torch's generator."""
    monkeypatch.setattr(training, "_seeded", lambda *parts: contextlib.nullcontext())
    jobs = [
        attrs.evolve(
            small_job(tmp_path / name, steps=8, save_every=4), network=attrs.evolve(NETWORK, dropout=0.3)
        )
        for name in "abc"
    ]
    ends = []
    for job, end in zip(jobs, (finished, finished, lambda job: interrupted(job, 5)), strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ends.append(end(job))
    assert ends[0] == ends[1]
    assert ends[2]["weights"] != ends[0]["weights"]


def test_another_process_ends_with_the_same_bits(tmp_path: Path) -> None:
    here = finished(small_job(tmp_path / "here"))
    job = small_job(tmp_path / "there")
    for _ in itertools.islice(train_steps(job), 10):
        pass
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pathlib, torch\n"
        "torch.set_num_threads(int(sys.argv[3])); torch.manual_seed(99)\n"
        "from small_training import small_job; from diffkit.training import train_steps\n"
        "assert len(list(train_steps(small_job(pathlib.Path(sys.argv[2]))))) == 10"
    )
    arguments = [str(Path(__file__).parent), str(job.folder), str(torch.get_num_threads())]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=300)
    assert checksums(job, 20) == here


def test_the_seed_and_nothing_global_decides(tmp_path: Path) -> None:
    first = finished(small_job(tmp_path / "a", steps=4))
    with torch.random.fork_rng():
        torch.manual_seed(1234)
        assert finished(small_job(tmp_path / "b", steps=4)) == first
    assert finished(small_job(tmp_path / "c", steps=4, seed=1)) != first


def test_global_random_states_are_left_as_found(tmp_path: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore # noqa: NPY002
    finished(small_job(tmp_path, precision="auto", steps=3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore # noqa: NPY002
    assert random.getstate() == before[2]


def test_the_loss_falls(tmp_path: Path) -> None:
    # A network that learns nothing stays at 1, the variance of the noise.
    job = small_job(tmp_path, steps=60, batch_size=16, learning_rate=1e-2, save_every=500)
    losses = [step.loss for step in train_steps(job)]
    assert losses[0] == pytest.approx(1.0, abs=0.15)
    assert np.mean(losses[-10:]) < 0.5


def test_what_a_step_tells(tmp_path: Path) -> None:
    job = small_job(tmp_path, steps=4, learning_rate=0.5, warmup=1)
    steps = list(train_steps(job))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert {step.total for step in steps} == {4}
    assert [step.examples for step in steps] == [6, 12, 18, 24]
    assert [step.learning_rate for step in steps] == [learning_rate(job.config, n, 4) for n in range(4)]
    assert all(step.gradient_norm > 0.0 for step in steps)
    assert list(train_steps(job)) == []


def test_steps_or_epochs() -> None:
    assert total_steps(TrainingConfig(steps=7, batch_size=6), 40) == 7
    assert total_steps(TrainingConfig(epochs=3, batch_size=6), 40) == 20
    assert total_steps(TrainingConfig(epochs=1, batch_size=100), 40) == 1
    assert total_steps(TrainingConfig(), 40) == 2000


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainingConfig(learning_rate=2.0, warmup=4)
    rates = [learning_rate(config, step, 104) for step in range(104)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[54] == pytest.approx(1.0)
    assert rates[103] == pytest.approx(1.0 + math.cos(math.pi * 0.99))
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    flat = TrainingConfig(learning_rate=2.0, warmup=0, decay="constant")
    assert {learning_rate(flat, step, 10) for step in range(10)} == {2.0}


def batches(
    config: TrainingConfig, *, dataset: Bars | None = None, rank: int = 0, processes: int = 1
) -> Batches:
    return Batches(dataset or Bars(), config, seed=5, device=CPU, rank=rank, processes=processes)


def test_every_epoch_sees_every_example_once() -> None:
    data = batches(TrainingConfig(batch_size=6))
    rows = torch.cat([data.at(step)[0].index for step in range(20)])
    epochs = rows.reshape(3, 40)
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(40))
    assert not torch.equal(epochs[0], epochs[1])
    encoded = Bars().encode(Bars().load("train").raw)
    assert torch.equal(data.at(11)[0].x, encoded[rows[66:72]])


def test_a_batch_may_be_larger_than_the_data() -> None:
    rows = batches(TrainingConfig(batch_size=100)).at(0)[0].index
    assert torch.equal(rows.bincount().sort().values, torch.tensor([2] * 20 + [3] * 20))


def test_a_batch_depends_on_its_number_alone() -> None:
    config = TrainingConfig(batch_size=6, labels=True, flip=True, label_dropout=0.5)
    data = batches(config)
    in_order = [data.at(step)[0] for step in range(9)]
    for step in (8, 2, 5, 0):
        again, noise = batches(config).at(step)
        assert torch.equal(again.x, in_order[step].x)
        assert torch.equal(again.label, in_order[step].label)  # type: ignore[arg-type]
        assert torch.equal(noise.index, torch.arange(6))


def test_processes_share_one_batch() -> None:
    config = TrainingConfig(batch_size=7, labels=True, flip=True, label_dropout=0.5)
    whole, noise = batches(config).at(4)
    shares = [batches(config, rank=rank, processes=3).at(4) for rank in range(3)]
    assert [len(share.x) for share, _ in shares] == [2, 2, 3]
    assert torch.equal(torch.cat([share.x for share, _ in shares]), whole.x)
    assert torch.equal(torch.cat([share.label for share, _ in shares]), whole.label)  # type: ignore
    drawn = torch.cat([part.uniform((len(part.index), 2)) for _, part in shares])
    assert torch.equal(drawn, noise.uniform((7, 2)))


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.75])
def test_the_share_of_hidden_labels(rate: float) -> None:
    data = batches(TrainingConfig(batch_size=40, labels=True, label_dropout=rate))
    true = Bars().load("train").label
    assert true is not None
    seen = [data.at(step)[0] for step in range(50)]
    labels, rows = (torch.cat(parts) for parts in zip(*((b.label, b.index) for b in seen), strict=True))  # type: ignore
    hidden = labels == -1
    assert float(hidden.double().mean()) == pytest.approx(rate, abs=0.04)
    assert torch.equal(labels[~hidden], true[rows[~hidden]])


def test_half_the_pictures_are_mirrored() -> None:
    plain = batches(TrainingConfig(batch_size=40))
    turned = batches(TrainingConfig(batch_size=40, flip=True))
    count = 0
    for step in range(25):
        before, after = plain.at(step)[0], turned.at(step)[0]
        assert torch.equal(before.index, after.index)
        for x, y, row in zip(before.x, after.x, before.index, strict=True):
            assert torch.equal(y, x) or torch.equal(y, x.flip(-1))
            count += int(int(row) % 2 == 0 and not torch.equal(y, x))  # a column moves when mirrored
    assert count / 500 == pytest.approx(0.5, abs=0.08)


def test_without_labels_none_are_seen() -> None:
    assert batches(TrainingConfig(labels=False)).at(0)[0].label is None


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
def test_a_batch_in_parts_gives_the_same_steps(tmp_path: Path) -> None:
    whole, parts = (
        [
            (step.loss, step.gradient_norm)
            for step in train_steps(
                small_job(tmp_path / str(n), steps=5, batch_size=7, gradient_accumulation=n)
            )
        ]
        for n in (1, 3)
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def trained_by_two(folder: Path, dtype: str, steps: int) -> list[list[list[float]]]:
    """Losses and gradient norms of each step, as told by each of two processes."""
    script = folder / "script.py"
    script.write_text(
        "import json, pathlib, sys; sys.path.insert(0, sys.argv[1]); import torch\n"
        "torch.set_default_dtype(getattr(torch, sys.argv[3]))\n"
        "from small_training import small_job; from diffkit.training import train_steps\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "steps = list(train_steps(small_job(folder / 'model', steps=int(sys.argv[4]), batch_size=7)))\n"
        "rank = torch.distributed.get_rank()\n"
        "(folder / f'{rank}.json').write_text(json.dumps([(s.loss, s.gradient_norm) for s in steps]))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*launch, str(script), str(Path(__file__).parent), str(folder), dtype, str(steps)],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_have_the_gradient_of_one_in_single_precision(tmp_path: Path) -> None:
    (alone,) = train_steps(small_job(tmp_path / "one", steps=1, batch_size=7))
    for told in trained_by_two(tmp_path, "float32", 1):
        np.testing.assert_allclose(told, [(alone.loss, alone.gradient_norm)], rtol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("steps", [4, pytest.param(20, marks=pytest.mark.prove)])
def test_two_processes_train_as_one(tmp_path: Path, steps: int) -> None:
    job = small_job(tmp_path / "one", steps=steps, batch_size=7)
    alone = [(step.loss, step.gradient_norm) for step in train_steps(job)]
    for told in trained_by_two(tmp_path, "float64", steps):
        np.testing.assert_allclose(told, alone, rtol=1e-9)
    pair, single = (
        storage.newest_snapshot(folder, owner=owner(storage.read_json(folder / "model.json")))
        for folder in (tmp_path / "model", tmp_path / "one")
    )
    assert pair is not None
    assert single is not None
    for key, value in single.parts["ema"].items():
        torch.testing.assert_close(pair.parts["ema"][key], value, rtol=0.0, atol=1e-9)


def test_the_moving_average_is_one() -> None:
    mean, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    expected, running = 1.0, 0.0
    for step in range(6):
        assert network.num_batches_tracked is not None
        network.num_batches_tracked.fill_(step)
        network.weight.data.fill_(float(step * step))
        assert network.running_mean is not None
        network.running_mean.fill_(float(step))
        decay = 0.1 * (step + 1)
        average(mean, network, decay)
        expected = decay * expected + (1.0 - decay) * step * step
        assert float(mean.weight.detach()) == pytest.approx(expected)
        running = decay * running + (1.0 - decay) * step
        assert float(mean.running_mean) == pytest.approx(running)  # type: ignore[arg-type]
        assert mean.num_batches_tracked == network.num_batches_tracked == step


def test_a_mask_that_never_changes_is_not_spoilt_by_averaging() -> None:
    mean, network = nn.Linear(1, 1), nn.Linear(1, 1)
    for module in (mean, network):
        module.register_buffer("mask", torch.tensor([0.0, -math.inf, math.inf]))
    average(mean, network, 0.9)
    assert torch.equal(mean.get_buffer("mask"), network.get_buffer("mask"))


def test_the_average_follows_closely_at_first(tmp_path: Path) -> None:
    job = small_job(tmp_path, steps=1, ema=0.9999)
    start = {name: weight.clone() for name, weight in Trainer(job)._network.state_dict().items()}
    list(train_steps(job))
    snapshot = storage.newest_snapshot(job.folder, owner=owner_of(job))
    assert snapshot is not None
    for name, before in start.items():
        after = snapshot.parts["weights"][name]
        torch.testing.assert_close(snapshot.parts["ema"][name], 0.1 * before + 0.9 * after)


def owner_of(job: TrainingJob) -> str:
    return owner(storage.read_json(job.folder / "model.json"))


def test_numbers_that_are_not_finite_stop_before_the_step(tmp_path: Path) -> None:
    raw = torch.zeros(8, 1, 8, 8)
    raw[3, 0, 2, 2] = float("nan")
    job = attrs.evolve(
        small_job(tmp_path, labels=False, batch_size=8, dataset=Values(raw=raw)),
        objective=NoisePrediction(sigma_data=1.0),
    )
    trainer = Trainer(job)
    before = [weight.clone() for weight in trainer._network.parameters()]
    with pytest.raises(RunError, match=r"Step 1 .* nan .*learning_rate"):
        next(trainer.steps())
    assert all(torch.equal(old, new) for old, new in zip(before, trainer._network.parameters(), strict=True))
    assert storage.snapshot_steps(job.folder) == []


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    finished(small_job(tmp_path, steps=2))
    for change in ({"learning_rate": 0.1}, {"batch_size": 5}, {"seed": 3}, {"dataset": Bars(count=38)}):
        with pytest.raises(CheckpointError, match=r"another training") as caught:
            Trainer(small_job(tmp_path, **{"steps": 2, **change}))  # type: ignore[arg-type]
        assert next(iter(change)).replace("dataset", "fingerprint") in str(caught.value)
    assert list(train_steps(small_job(tmp_path, steps=2, save_every=1, keep_last=5))) == []


def test_afresh_replaces_what_is_there(tmp_path: Path) -> None:
    first = finished(small_job(tmp_path, save_every=5, keep_last=9))
    assert storage.snapshot_steps(tmp_path) == [5, 10, 15, 20]
    steps = train_steps(small_job(tmp_path, keep_last=9), resume=False)
    assert next(steps).step == 1
    assert storage.snapshot_steps(tmp_path) == [5, 10, 15, 20]
    for _ in range(9):
        next(steps)
    assert storage.snapshot_steps(tmp_path) == [10]
    assert [step.step for step in steps] == list(range(11, 21))
    assert checksums(small_job(tmp_path), 20) == first
    assert list(train_steps(small_job(tmp_path, steps=8, learning_rate=0.1), resume=False))[-1].step == 8
    assert storage.snapshot_steps(tmp_path) == [8]


@pytest.mark.parametrize(
    "keep, expected",
    [(1, [20]), (2, [18, 20]), (3, [15, 18, 20]), (5, [9, 12, 15, 18, 20]), (99, [3, 6, 9, 12, 15, 18, 20])],
)
def test_the_newest_checkpoints_stay(tmp_path: Path, keep: int, expected: list[int]) -> None:
    finished(small_job(tmp_path, save_every=3, keep_last=keep))
    assert storage.snapshot_steps(tmp_path) == expected


def test_a_damaged_future_is_dropped(tmp_path: Path) -> None:
    for _ in itertools.islice(train_steps(small_job(tmp_path, steps=6, save_every=2, keep_last=2)), 4):
        pass
    (tmp_path / "checkpoints" / "00000004" / "state.json").write_text("{")
    assert next(train_steps(small_job(tmp_path, steps=6, save_every=3, keep_last=2))).step == 3
    assert storage.snapshot_steps(tmp_path) == [2, 3]


def test_a_look_between_steps_changes_nothing(tmp_path: Path) -> None:
    plain = finished(small_job(tmp_path / "a", steps=5))
    trainer = Trainer(small_job(tmp_path / "b", steps=5))
    for _ in trainer.steps():
        model = trainer.model()
        model.denoise(torch.zeros(2, 1, 8, 8), torch.tensor(0.5), torch.tensor([0, -1]))
    assert checksums(trainer.job, 5) == plain


def test_the_trial_takes_what_is_faster() -> None:
    slow = {"bf16": 0.02, "fp32": 0.0}
    done: list[str] = []

    def work(arithmetic: str) -> None:
        done.append(arithmetic)
        time.sleep(slow[arithmetic])

    assert choose_arithmetic(CPU, work) == "fp32"
    slow.update(bf16=0.0, fp32=0.02)
    assert choose_arithmetic(CPU, work) == "bf16"
    assert set(done) == {"bf16", "fp32"}


def test_the_decision_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = small_job(tmp_path, precision="auto", save_every=2)
    monkeypatch.setattr("diffkit.training.choose_arithmetic", lambda device, work: "bf16")
    for _ in itertools.islice(train_steps(job), 2):
        pass
    monkeypatch.setattr("diffkit.training.choose_arithmetic", lambda device, work: "fp32")
    assert Trainer(job).arithmetic == "bf16"


def test_the_trial_leaves_no_trace(tmp_path: Path) -> None:
    """Neither in the weights' gradients nor in the running statistics, which a forward pass moves."""
    network = ResidualUNet(widths=(8, 8), depth=1)
    trainer = Trainer(attrs.evolve(small_job(tmp_path, precision="auto"), network=network))
    assert all(weight.grad is None for weight in trainer._network.parameters())
    for name, value in trainer._network.named_buffers():
        if name.endswith(("running_mean", "num_batches_tracked")):
            assert not value.any(), name


def test_the_device_is_found() -> None:
    assert best_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@attrs.frozen(kw_only=True)
class Counting(Objective):
    """Counts its steps in its state, and adds the count to the loss of a network's mean output."""

    @property
    def stateful(self) -> bool:
        return True

    def loss(
        self, module: nn.Module, sde: SDE, batch: Batch, noise: Noise, state: State
    ) -> tuple[Tensor, State, dict[str, float]]:
        count = torch.zeros(()) if state is None else state["count"]
        inner = NoisePrediction(sigma_data=1.0)
        loss, _, _ = inner.loss(module, sde, batch, noise, None)
        return loss * (1.0 + 0.1 * count), {"count": count + 1.0}, {"count": float(count)}

    def model(self, module: nn.Module, sde: SDE) -> Model:
        return NoisePrediction(sigma_data=1.0).model(module, sde)


def test_an_objective_keeps_its_state(tmp_path: Path) -> None:
    whole, parts = (attrs.evolve(small_job(tmp_path / name), objective=Counting()) for name in "ab")
    logs = [step.logs["count"] for step in train_steps(whole)]
    assert logs == [float(n) for n in range(20)]
    assert interrupted(parts, 10) == checksums(whole, 20)
    assert "objective" in checksums(whole, 20)
    with pytest.raises(ConfigError, match=r"keeps state"):
        Trainer(attrs.evolve(small_job(tmp_path / "c", gradient_accumulation=2), objective=Counting()))


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.labels"):
        Trainer(small_job(tmp_path, dataset=Bars(labels=False)))
    with pytest.raises(ValueError, match=r"training\.batch_size is 6"):
        Trainer(small_job(tmp_path, gradient_accumulation=7))
    assert not (tmp_path / "model.json").exists()


def test_chosen_checkpoints_stay(tmp_path: Path) -> None:
    by_steps = small_job(tmp_path / "steps", keep=(3, 7), keep_last=1)
    for _ in train_steps(by_steps):
        pass
    assert storage.snapshot_steps(by_steps.folder) == [3, 7, 20]
    # 40 examples in batches of 6: epoch 1 ends within step 7, epoch 2 within step 14.
    by_epochs = small_job(tmp_path / "epochs", steps=None, epochs=3, keep=(1, 2))
    for _ in train_steps(by_epochs):
        pass
    assert storage.snapshot_steps(by_epochs.folder) == [7, 14, 20]


def test_a_chosen_checkpoint_is_kept_by_a_training_that_goes_on(tmp_path: Path) -> None:
    job = small_job(tmp_path, keep=(4,), save_every=5)
    trainer = Trainer(job)
    for step in trainer.steps():
        if step.step == 6:
            break
    for _ in train_steps(job):
        pass
    assert storage.snapshot_steps(tmp_path) == [4, 20]


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_the_power_average_has_the_width_it_is_given(width: float) -> None:
    """The weight of each step in the average, by composing the decays: its deviation over the last step."""
    config = TrainingConfig(ema="power", ema_width=width)
    count = 4000
    weights = torch.zeros(count, dtype=torch.float64)
    for step in range(count):
        decay = averaging_decay(config, step)
        weights *= decay
        weights[step] = 1.0 - decay
    place = (torch.arange(count, dtype=torch.float64) + 1.0) / count
    mean = (weights * place).sum()
    assert float(weights.sum()) == pytest.approx(1.0)
    assert float((weights * (place - mean) ** 2).sum().sqrt()) == pytest.approx(width, rel=0.01)


@pytest.mark.parametrize(
    "decay,expected", [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5), ("inverse-sqrt", 5.0**-0.5)]
)
def test_ways_for_the_learning_rate_to_end(decay: str, expected: float) -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=0, decay=decay)
    assert learning_rate(config, 0, 1000) == pytest.approx(1.0)
    assert learning_rate(config, 500, 1000) == pytest.approx(expected, abs=2e-3)
    assert learning_rate(config, 999, 1000) <= learning_rate(config, 500, 1000)


@pytest.mark.prove
def test_compiled_training_is_the_same_training(tmp_path: Path) -> None:
    plain = [step.loss for step in train_steps(small_job(tmp_path / "plain", steps=3))]
    made = small_job(tmp_path / "compiled", steps=3, compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # inside the compiler
        compiled = [step.loss for step in train_steps(made)]
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_tensorboard_is_asked_for_by_name_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'diffkit\[tensorboard\]'"):
        Trainer(small_job(tmp_path, tensorboard=True))
