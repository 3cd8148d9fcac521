"""A training in its folder: found finished, gone on with or begun; told of, recorded, looked at, stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from diffkit import checkpoint, storage, tracking
from diffkit.errors import RunError
from diffkit.interruption import Interruption
from diffkit.journal import Journal
from diffkit.progress import Watch
from diffkit.sharding import is_main, largest
from diffkit.tracking import Tracker
from diffkit.training import Trainer, TrainingJob, TrainStep

__all__ = ["finish"]


def finish(
    job: TrainingJob,
    *,
    fresh: bool,
    tracker: Tracker | None,
    say: Callable[[str], None],
    tell: Callable[[TrainStep], None],
) -> None:
    """Has the job's folder hold a finished training, alone among processes that do not train together.

    Args:
        fresh: train anew even if it is finished.
        tracker: looks at it now and then.
        say: takes a word for the person who waits.
        tell: takes every step, in the first process only.

    Raises:
        RunError: another process is training there, or training failed.
    """
    with _only_trainer(job.folder):
        folder = job.folder
        done, total = _progress_of(folder)
        seen = tracker is None or not tracking.is_due(folder, done, done, tracker.every)
        if done and done == total and seen and not fresh:
            say(f"model: found {folder}, trained for {total:,} steps; reusing it (--fresh trains anew)")
            return
        going_on = done and not fresh
        found = f"going on with {folder} from step {done:,}" if going_on else f"training {folder}"
        trainer = Trainer(job, resume=not fresh)
        if tracker is not None:
            tracker.look(trainer)
        say(f"model: {found}")
        _advance(trainer, tracker, say, tell)


def _advance(
    trainer: Trainer,
    tracker: Tracker | None,
    say: Callable[[str], None],
    tell: Callable[[TrainStep], None],
) -> None:
    with (
        Watch("training", trainer.total, "steps", before=trainer.step) as watch,
        Journal(trainer.job.folder, enabled=is_main()) as log,
        Interruption() as interruption,
    ):
        untold: list[dict[str, Any]] = []

        def record() -> None:
            if not trainer.afresh:  # till then the log is that of the model which is there
                for line in untold:
                    log.write(**line)
                untold.clear()

        for step in trainer.steps():
            untold.append(
                {
                    "step": step.step,
                    "loss": step.loss,
                    "learning_rate": step.learning_rate,
                    "gradient_norm": step.gradient_norm,
                    "seconds": round(watch.seconds, 3),
                    **step.logs,
                }
            )
            record()
            watch.at(step.step, f"loss {step.loss:.4f}")
            if is_main():
                tell(step)
            if tracker is not None:
                tracker.look(trainer)
            stopping = interruption.asked()
            if stopping:
                trainer.save()
            record()  # of a training begun afresh, should one of the two have saved it
            if stopping:
                say(f"model: stopped and saved at step {step.step:,} of {step.total:,}; run it again")
                interruption.leave()


@contextlib.contextmanager
def _only_trainer(folder: Path) -> Iterator[None]:
    """A lock that one process of several that train together holds; all of them learn if it is taken."""
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    taken = False
    if is_main():
        try:
            lock.acquire()
        except Timeout:
            taken = True
    try:
        if largest(int(taken)):
            raise RunError(
                f"Another process is training {folder}",
                "one training of a model at a time",
                "Wait for it and run again: the model will be found and reused",
            )
        yield
    finally:
        lock.release()


def _progress_of(folder: Path) -> tuple[int, int | None]:
    """Steps done and steps in all, of the training in a folder; (0, None) where there is none."""
    steps = storage.snapshot_steps(folder)
    if not steps or not (folder / checkpoint.DESCRIPTION).is_file():
        return 0, None
    return steps[-1], checkpoint.read_description(folder)["steps"]
