"""The only training loop, as a generator of steps.

Step n is a pure function of the seed, n, and the state before it: its examples and their noise (see
`batches`), and dropout (torch's generator, seeded by step and process, and left as found). So a
training that stops and goes on from a checkpoint ends bit for bit where an undisturbed one does,
and several processes share one global batch.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import math
from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor, nn

from diffkit import checkpoint, storage
from diffkit.batch import Batch
from diffkit.batches import Batches, hashed, take
from diffkit.config import TrainingConfig, require_labels
from diffkit.description import TrainingJob, claim, describe, owner, read_description
from diffkit.device import Arithmetic, autocast, best_device, choose_arithmetic
from diffkit.errors import ConfigError, RunError
from diffkit.interfaces.model import Model
from diffkit.interfaces.objective import State
from diffkit.noise import Noise
from diffkit.optimizer import average, averaging_decay, learning_rate, moments, restore_moments
from diffkit.sharding import join

__all__ = ["TrainStep", "Trainer", "TrainingJob", "total_steps", "train_steps"]

DEFAULT_STEPS = 2000


@attrs.frozen(kw_only=True)
class TrainStep:
    """What one optimiser step tells.

    Args:
        step: how many steps are done, 1 .. total.
        total: how many there will be.
        loss: mean over the global batch.
        learning_rate: of this step.
        gradient_norm: before clipping.
        examples: how many were seen so far, repeats counted.
        logs: the objective's further figures, of the main process.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    gradient_norm: float
    examples: int
    logs: Mapping[str, float]


def train_steps(job: TrainingJob, *, resume: bool = True) -> Iterator[TrainStep]:
    """Trains, one step at a time, saving as it goes; see `Trainer`."""
    yield from Trainer(job, resume=resume).steps()


def total_steps(config: TrainingConfig, examples: int) -> int:
    """How many optimiser steps a training on that many examples takes."""
    if config.epochs is not None:
        return math.ceil(config.epochs * examples / config.batch_size)
    return DEFAULT_STEPS if config.steps is None else config.steps


class Trainer:
    """A training under way: made (or continued from its folder), advanced, saved.

    Args:
        job: what to train.
        resume: go on from the newest whole checkpoint in the job's folder; False starts afresh and
            replaces what is there with the first new checkpoint.

    Raises:
        CheckpointError: the folder holds another training, or nothing whole.
        ConfigError: settings that cannot be trained with.
    """

    def __init__(self, job: TrainingJob, *, resume: bool = True) -> None:
        from accelerate import Accelerator

        join()
        self._accelerator = Accelerator(mixed_precision="no", cpu=best_device().type == "cpu")
        self.device = self._accelerator.device
        self.job = job = job.resolved()
        self._config = config = job.config
        self._refuse_impossible()
        self._batches = Batches(
            job.dataset,
            config,
            seed=job.seed,
            device=self.device,
            rank=self._accelerator.process_index,
            processes=self._accelerator.num_processes,
        )
        self.total = total_steps(config, len(self._batches))
        self._chosen = _chosen_steps(config, len(self._batches))
        self._owner = self._claim(resume)

        spec = job.dataset.spec()
        with _seeded(job.seed, "network"):
            network = job.network.build(spec.shape, spec.classes if config.labels else None)
        self._network = checkpoint.arrange(network, spec.shape).to(self.device).train()
        self._average = None if config.ema is None else copy.deepcopy(self._network).requires_grad_(False)
        self._module: nn.Module = self._accelerator.prepare_model(self._network)
        if config.compile:
            self._module.compile()
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.step = 0
        self._state: State = None
        self._saved: int | None = None
        self.afresh = not resume
        """Whether the folder still holds what this training will replace."""
        snapshot = storage.newest_snapshot(job.folder, owner=self._owner) if resume else None
        self.arithmetic = self._arithmetic(snapshot)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.arithmetic == "fp16")
        if snapshot is not None:
            self._restore(snapshot)

    def steps(self) -> Iterator[TrainStep]:
        """Advances to the end; a checkpoint is whole before its step is told."""
        while self.step < self.total:
            event = self._advance()
            regular = self.step % self._config.save_every == 0 or self.step == self.total
            if regular or self.step in self._chosen:
                self.save()
            yield event

    def save(self) -> None:
        """Writes a checkpoint of the present state, unless there is one."""
        if self._accelerator.is_main_process and self._saved != self.step:
            storage.write_snapshot(
                self.job.folder, self._snapshot(), owner=self._owner, keep=self._kept_steps()
            )
            if self.afresh:
                checkpoint.forget_best(self.job.folder)
        self._saved, self.afresh = self.step, False
        self._accelerator.wait_for_everyone()

    def model(self) -> Model:
        """The model at this step, averaged weights where there are any, for a look between steps."""
        network = copy.deepcopy(self._network if self._average is None else self._average)
        return self.job.objective.model(network.eval().requires_grad_(False), self.job.sde)

    def _refuse_impossible(self) -> None:
        config = self._config
        require_labels(config, self.job.dataset)
        if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "The key training.tensorboard is true, and TensorBoard is not installed",
                "the package tensorboard",
                "Install it (pip install 'diffkit[tensorboard]'), or set training.tensorboard to false",
            )
        parts = config.gradient_accumulation * self._accelerator.num_processes
        if self.job.objective.stateful and parts > 1:
            raise ConfigError(
                "The objective keeps state between steps",
                "one process and training.gradient_accumulation of 1",
                "Run one process, set training.gradient_accumulation to 1, or choose another objective",
            )
        if parts > config.batch_size:
            raise ConfigError(
                f"The key training.batch_size is {config.batch_size}, to be split into {parts} parts",
                "at least one example a part",
                "Raise training.batch_size or lower training.gradient_accumulation",
            )

    def _claim(self, resume: bool) -> str:
        """Makes the folder this training's own; returns what its checkpoints shall name."""
        job, write = self.job, self._accelerator.is_main_process
        claim(job.folder, describe(job, self.total), resume=resume, write=write)
        self._accelerator.wait_for_everyone()
        return owner(read_description(job.folder))

    def _arithmetic(self, snapshot: storage.Snapshot | None) -> Arithmetic:
        """As the checkpoint says, as the configuration says, or as a short trial finds."""
        from accelerate.utils import broadcast_object_list

        if snapshot is not None:
            recorded: Arithmetic = snapshot.scalars["precision"]
            return recorded
        if self._config.precision != "auto":
            return self._config.precision
        batch, noise = self._batches.at(0)
        trial = copy.deepcopy(self._network)  # what it learns of batches is not to stay

        def work(arithmetic: Arithmetic) -> None:
            with autocast(arithmetic, self.device):
                loss, _, _ = self.job.objective.loss(trial, self.job.sde, batch, noise, None)
            torch.autograd.backward(loss.mean())

        with _seeded(self.job.seed, "trial"):
            decision = [choose_arithmetic(self.device, work)]
        chosen: Arithmetic = broadcast_object_list(decision)[0]
        return chosen

    def _advance(self) -> TrainStep:
        rate = learning_rate(self._config, self.step, self.total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with _seeded(self.job.seed, self.step, self._accelerator.process_index):
            loss, logs = self._gradients(*self._batches.at(self.step))
        self._scaler.unscale_(self._optimizer)
        limit = math.inf if self._config.gradient_clip is None else self._config.gradient_clip
        norm = float(nn.utils.clip_grad_norm_(self._network.parameters(), limit))
        self._refuse_non_finite(loss, norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            average(self._average, self._network, averaging_decay(self._config, self.step))
        self.step += 1
        return TrainStep(
            step=self.step,
            total=self.total,
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            examples=self.step * self._config.batch_size,
            logs=logs,
        )

    def _gradients(self, batch: Batch, noise: Noise) -> tuple[float, dict[str, float]]:
        """Adds up the gradients of this process's share, part by part; the global mean loss."""
        objective, sde = self.job.objective, self.job.sde
        # Gradients are averaged over processes, whose shares may differ by one example.
        weight = self._accelerator.num_processes / self._config.batch_size
        parts = torch.arange(len(batch.x), device=self.device).tensor_split(
            self._config.gradient_accumulation
        )
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        logs: dict[str, float] = {}
        for number, rows in enumerate(parts, start=1):
            alone = self._accelerator.no_sync(self._module) if number < len(parts) else None
            with alone or contextlib.nullcontext():
                with autocast(self.arithmetic, self.device):
                    loss, self._state, logs = objective.loss(
                        self._module, sde, take(batch, rows), noise.take(rows), self._state
                    )
                torch.autograd.backward(self._scaler.scale(weight * loss.sum()))
            total += loss.detach().sum()
        return float(self._accelerator.reduce(total, reduction="sum")) / self._config.batch_size, logs

    def _refuse_non_finite(self, loss: float, norm: float) -> None:
        # In fp16 the scaler skips a step whose gradient overflows and lowers its scale.
        if math.isfinite(loss) and (math.isfinite(norm) or self._scaler.is_enabled()):
            return
        raise RunError(
            f"Step {self.step + 1} has the loss {loss} and the gradient norm {norm}; the step was not made",
            "finite numbers",
            "Lower training.learning_rate, set training.gradient_clip, or use training.precision: fp32",
        )

    def _snapshot(self) -> storage.Snapshot:
        parts: dict[str, Mapping[str, Tensor]] = {"weights": self._network.state_dict()}
        if self._average is not None:
            parts["ema"] = self._average.state_dict()
        parts["optimizer"] = moments(self._optimizer)
        if self._state is not None:
            parts["objective"] = self._state
        scalars = {"precision": self.arithmetic, "scaler": self._scaler.state_dict()}
        return storage.Snapshot(step=self.step, parts=parts, scalars=scalars)

    def _restore(self, snapshot: storage.Snapshot) -> None:
        self._network.load_state_dict(dict(snapshot.parts["weights"]))
        if self._average is not None:
            self._average.load_state_dict(dict(snapshot.parts["ema"]))
        restore_moments(self._optimizer, snapshot.parts["optimizer"])
        self._state = snapshot.parts.get("objective")
        self._scaler.load_state_dict(snapshot.scalars["scaler"])
        self.step = self._saved = snapshot.step

    def _kept_steps(self) -> set[int]:
        """The checkpoints that stay beside the one being written."""
        if self.afresh:
            return set()
        # Steps ahead of this one are damaged ones that were stepped back over.
        earlier = [step for step in storage.snapshot_steps(self.job.folder) if step < self.step]
        kept = set(earlier[max(0, len(earlier) - self._config.keep_last + 1) :])
        kept |= self._chosen.intersection(earlier)
        best = checkpoint.best_step(self.job.folder)
        return kept if best is None else kept | {best}


def _chosen_steps(config: TrainingConfig, examples: int) -> set[int]:
    """The steps that `keep` names, by themselves or as the ends of epochs."""
    if config.epochs is None:
        return set(config.keep)
    return {total_steps(attrs.evolve(config, epochs=epoch), examples) for epoch in config.keep}


@contextlib.contextmanager
def _seeded(*parts: int | str) -> Iterator[None]:
    """Seeds torch's global generators for a while, and leaves them as they were found."""
    with torch.random.fork_rng():
        torch.manual_seed(hashed(*parts))
        yield
