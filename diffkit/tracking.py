"""Figures taken along training: every few steps the averaged weights are sampled and scored.

Sampling draws from noise streams of its own, so no weight depends on whether it is done. The same noise
serves every step, so that figures differ by the weights alone. They go to `tracked.jsonl` beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from diffkit import checkpoint
from diffkit.batch import Batch
from diffkit.checkpoint import TrainedModel
from diffkit.evaluation import Evaluation
from diffkit.journal import Journal, read_log
from diffkit.sharding import is_main
from diffkit.training import Trainer

__all__ = ["FILE", "Tracker", "is_due"]

FILE = checkpoint.TRACKED


@attrs.frozen(kw_only=True)
class Tracker:
    """Looks at a training now and then, and marks the best checkpoint by the first of its metrics.

    Args:
        every: steps between looks; the last step is looked at too.
        evaluation: what is measured.
        samples: draws what it is measured on.
        words: what else a line of the record says, such as how samples were drawn.
    """

    every: int
    evaluation: Evaluation
    samples: Callable[[TrainedModel], Iterable[Batch]]
    words: dict[str, Any]

    def look(self, trainer: Trainer) -> None:
        """Measures the present step, if its turn has come and it was not measured before."""
        folder, step = trainer.job.folder, trainer.step
        if not _is_turn(step, trainer.total, self.every):
            return
        trainer.save()  # first, for with it a training begun afresh forgets the looks at the former one
        if not is_due(folder, step, trainer.total, self.every):
            return
        model = checkpoint.load(folder, step)
        figures = self.evaluation.score(model, self.samples(model))
        if not is_main():
            return
        first, metric = next(iter(self.evaluation.metrics.items()))
        sign = 1.0 if metric.higher_is_better else -1.0
        past = [
            record["figures"][first]["value"] for record in read_log(folder / FILE) if record["step"] < step
        ]
        if all(sign * figures[first].value > sign * value for value in past):
            checkpoint.mark_best(folder, step)
        plain = {name: attrs.asdict(figure) for name, figure in figures.items()}
        with Journal(folder, FILE) as record:
            record.write(step, figures=plain, **self.words)


def is_due(folder: Path, step: int, total: int, every: int) -> bool:
    """Whether a step is one to look at, and its figures are not there."""
    recorded = (record["step"] for record in read_log(folder / FILE))
    return _is_turn(step, total, every) and step not in recorded


def _is_turn(step: int, total: int, every: int) -> bool:
    return step > 0 and (step % every == 0 or step == total)
