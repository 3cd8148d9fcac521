"""One experiment from configuration to report: train or reuse, sample, measure, record.

    experiment = diffkit.Experiment.from_file("digits.yaml")
    experiment.run()                                    # everything, as `diffkit run` does
    experiment.train(); experiment.sample_and_plot(count=16, label=3, sampler="ddim")

Folders: `<runs>/models/<name>-<key>` for models, keyed by all that determines training, so that runs which
differ only in sampling share one; `<runs>/<name>-<key>` for runs; `<runs>/cache` for feature extractors.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from matplotlib.figure import Figure

from diffkit import (
    checkpoint,
    compatibility,
    hooks,
    identity,
    measuring,
    plots,
    recording,
    registry,
    report,
    sampling,
    storage,
    tracking,
    training_run,
)
from diffkit.batch import Batch
from diffkit.checkpoint import TrainedModel
from diffkit.conditioning import Prepared, asking, prepared, suits_any_image
from diffkit.config import ExperimentConfig, selection_of
from diffkit.errors import ConfigError, DataError
from diffkit.evaluation import Evaluation, named
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.metric import Measurement, Metric
from diffkit.journal import read_log
from diffkit.plots import film, gallery
from diffkit.progress import Watch, aloud
from diffkit.run_folder import RunFolder
from diffkit.sampling import SampleResult, SampleStep
from diffkit.selection import Finding
from diffkit.sharding import barrier, is_main, join, processes
from diffkit.statistics import settled
from diffkit.structure import plain
from diffkit.targets import Target
from diffkit.training import DEFAULT_STEPS, TrainingJob, TrainStep

__all__ = ["Experiment", "RunResult"]


@attrs.frozen(kw_only=True)
class RunResult:
    """Where a run left things.

    Args:
        run: the run's folder.
        model: the model's folder.
        metrics: figures by name.
        report: the page.
    """

    run: Path
    model: Path
    metrics: Mapping[str, Measurement]
    report: Path

    def as_json(self) -> dict[str, Any]:
        """The four as plain values."""
        return attrs.asdict(self, value_serializer=lambda _, __, v: str(v) if isinstance(v, Path) else v)


class Experiment:
    """A configuration, checked, and what can be done with it.

    Args:
        config: what to do.
        runs: where models, runs and caches are kept.
        saved: a trained model to use in place of the one that the configuration determines.
        recorded: the components that the manifest of the run to be repeated names.
        quiet: no word on progress.

    Raises:
        IncompatibleError: components that cannot work together; before any data are read.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        runs: str | Path = "runs",
        saved: Path | None = None,
        recorded: Sequence[Mapping[str, str]] = (),
        quiet: bool = False,
    ) -> None:
        self.config = config
        self.runs = Path(runs)
        self._saved, self._recorded, self._quiet = saved, recorded, quiet
        self._loaded: tuple[str, TrainedModel] | None = None
        self._timing: dict[str, float] = {}
        join()
        self.selection = selection_of(config)
        _check_shape(config)
        self.findings: list[Finding] = compatibility.require(self.selection)

    @classmethod
    def from_dict(
        cls, mapping: Mapping[str, Any], *, runs: str | Path = "runs", quiet: bool = False
    ) -> Experiment:
        """The experiment of a mapping like a configuration file's; components may be objects."""
        return cls(ExperimentConfig.from_mapping(mapping), runs=runs, quiet=quiet)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        overrides: Iterable[str] = (),
        *,
        runs: str | Path | None = None,
        quiet: bool = False,
    ) -> Experiment:
        """The experiment of a configuration (YAML), a run's folder, its manifest.json, or a saved model.

        Args:
            path: which.
            overrides: `a.b=value`, the value in YAML.
            runs: where runs are kept; by default `runs`, or where the run in hand stands.
        """
        target = Target.at(path, overrides)
        home = target.runs or Path("runs")
        runs = home if runs is None else runs
        return cls(target.config, runs=runs, saved=target.saved, recorded=target.recorded, quiet=quiet)

    @cached_property
    def folder(self) -> Path:
        """The run's folder."""
        return self.runs / identity.run_name(self.config)

    @cached_property
    def model_folder(self) -> Path:
        """The folder of the model that the configuration determines. Reads the training split.

        What it was called when it was trained does not matter: an equal model under another name is the same.
        """
        folder = self.runs / "models" / identity.model_name(self.config)
        equal = sorted(folder.parent.glob(f"*-{folder.name[-identity.KEY :]}"))
        return folder if folder in equal or not equal else equal[0]

    @cached_property
    def dataset(self) -> Dataset:
        """The data set in the model's units: as a saved model has them, or settled by the training split."""
        if self._saved is None:
            return settled(self.config.dataset)[0]
        described = checkpoint.read_description(self._saved)
        if described["spec"] == plain(self.config.dataset.spec(), registry.describe):
            return self.config.dataset
        made: Dataset = registry.create("dataset", described["dataset"])
        return made

    def dry_run(self, *, any_version: bool = False) -> dict[str, Any]:
        """What `run` would do, without reading data."""
        if not any_version:
            identity.require_recorded(self._recorded, self.selection)
        self._require_sampling()
        config, method = self.config, self.config.sampling
        trained = config.training
        length = f"{trained.epochs} epochs" if trained.epochs else f"{trained.steps or DEFAULT_STEPS} steps"
        name, shape = registry.current().name, config.dataset.spec().shape
        return {
            "name": config.name,
            "run": str(self.folder),
            "train": f"{name(config.network)} on {name(config.dataset)} {shape}, {length}, unless found",
            "sample": f"{method.count} by {name(method.sampler)}",
            "measure": list(named(config.evaluation.metrics)),
            "caveats": [f"{each.subject}: {each.reason}" for each in self.findings],
        }

    def train(self, *, fresh: bool = False) -> TrainedModel:
        """Trains the model, goes on with an interrupted training, or finds the finished one.

        Args:
            fresh: train anew even if an equal model is there.

        Raises:
            RunError: another process is training the same model, or training failed.
        """
        config, folder = self.config, self.model_folder
        recording.ensure_writable(folder.parent)
        job = TrainingJob(
            dataset=self.dataset,
            network=config.network,
            sde=config.sde,
            objective=config.objective,
            config=config.training,
            seed=config.seed,
            folder=folder,
        )

        def tell(step: TrainStep) -> None:
            hooks.broadcast("diffkit_train_step", event=step, experiment=self)

        with self._aloud():
            training_run.finish(job, fresh=fresh, tracker=self._tracker(), say=self._say, tell=tell)
        self._saved, self._loaded = folder, None
        return self.model()

    def model(self, checkpoint_name: str | int = "best") -> TrainedModel:
        """The trained model: the saved one that was named, or the one that the configuration determines.

        Raises:
            CheckpointError: it is not there, not whole, or not trained yet.
        """
        folder = self._model_home()
        key = f"{folder} {checkpoint_name}"
        if self._loaded is None or self._loaded[0] != key:
            model = checkpoint.load(folder, checkpoint_name)
            if model.step < model.description["steps"]:
                self._say(f"model: its checkpoint of step {model.step:,} of {model.description['steps']:,}")
            self._loaded = (key, model)
        return self._loaded[1]

    @property
    def checkpoints(self) -> list[int]:
        """The steps that the model has checkpoints of, in their order; `model` takes each."""
        return storage.snapshot_steps(self._model_home())

    @property
    def log(self) -> list[dict[str, Any]]:
        """What training told of each step: `step`, `loss`, `learning_rate`, `gradient_norm`, `seconds`."""
        return list(read_log(self._model_home() / "log.jsonl"))

    def sample(
        self,
        count: int | None = None,
        *,
        label: int | None = None,
        sampler: Any = None,
        steps: int | None = None,
        conditioners: Sequence[Any] | None = None,
        seed: int | None = None,
        first: int = 0,
        trajectory: bool = False,
        model: TrainedModel | None = None,
        on_step: Any = None,
    ) -> SampleResult:
        """Draws samples as the configuration says, but for what is given here.

        Args:
            count: how many.
            label: the class, for a model trained on labels; replaces the one in the configuration.
            sampler: another sampler; it brings its own grid and, unless given, its own number of steps.
            steps: denoiser calls of a one-call sampler.
            conditioners: others than the configuration's.
            seed: another than the configuration's.
            first: global index of the first sample.
            trajectory: keep the state after every move.
            model: another checkpoint of the model.
            on_step: called after every move.

        Raises:
            DataError: samples of NaN or infinite values.
        """
        chosen = self.config.sampling
        made = self._conditioners if conditioners is None else prepared(conditioners, self.dataset)
        made = made if label is None else asking(made, label)
        other = sampler is not None
        trained = self.model() if model is None else model
        number = chosen.count if count is None else count

        def tell(step: SampleStep) -> None:
            watch.at(int(step.index[0]) - first + len(step.index) * step.number // max(1, step.total))
            hooks.broadcast("diffkit_sample_step", event=step, experiment=self)
            if on_step is not None:
                on_step(step)

        method = registry.create("sampler", sampler) if other else chosen.sampler
        moves = chosen.steps if steps is None and not other else steps
        grid = None if other else chosen.grid
        with self._aloud():
            if grid is not None:
                grid = grid.fitted_to(trained, self._model_home(), method, moves, made, self._say)
            with Watch("sampling", number, "samples") as watch:
                result = sampling.sample(
                    trained,
                    sde=self.config.sde,
                    sampler=method,
                    steps=moves,
                    grid=grid,
                    shape=(number, *trained.spec.shape),
                    conditioners=made,
                    seed=self.config.seed if seed is None else seed,
                    first=first,
                    batch_size=chosen.batch_size,
                    trajectory=trajectory,
                    on_step=tell,
                )
        measuring.require_finite(result.x)
        return result

    def sample_and_plot(
        self, count: int | None = None, *, path: str | Path | None = None, **choices: Any
    ) -> Figure:
        """Draws samples and shows them on one sheet, a matplotlib figure, saved to `path` if given.

        Takes what `sample` takes.
        """
        result = self.sample(count, **choices)
        figure = gallery.sheet(self.dataset, result.x.cpu(), result.label)
        if path is not None and is_main():
            plots.save(figure, Path(path))
        return figure

    def impute(
        self,
        images: Any = "held-out",
        mask: Any = "centre",
        *,
        count: int | None = None,
        completions: int = 1,
        method: str | Mapping[str, Any] = "reconstruction",
        path: str | Path | None = None,
        **choices: Any,
    ) -> SampleResult:
        """Completes what a mask hides of images; the observed part comes back exactly.

        Args:
            images, mask: what the conditioner `imputation` takes as `observed` and `mask`.
            count: how many of the images at most, from the first; all by default, of held-out ones eight.
            completions: of each image; number c of image i is sample c N + i.
            method: the conditioner's method, or a mapping of its fields.
            path: where to save a picture: original, incomplete and completed images.
            choices: what else `sample` takes but `first`; `conditioners` come before: by default those of the
                configuration that neither impute nor restore, nor deal out classes to samples.

        Raises:
            DataError: images or a mask of another shape, out of range or not binary.
        """
        for name, number in (("count", count), ("completions", completions)):
            if number is not None and number < 1:
                raise ConfigError(f"{name} is {number}", "at least 1")
        fields = {"method": method} if isinstance(method, str) else dict(method)
        others = choices.pop("conditioners", None)
        wanted = choices.get("label") is not None
        own = [each for each in self._conditioners if suits_any_image(each, wanted)]
        before = own if others is None else prepared(others, self.dataset)
        spec = {"name": "imputation", **fields, "observed": images, "mask": mask}
        imputation: Any = prepared([spec], self.dataset)[0]
        if path is not None:  # after what was given is known to be good, before anything costs time
            recording.ensure_writable(Path(path).parent)
        few = isinstance(images, str) and images == "held-out"
        rows = slice(8 if few and count is None else count)
        imputation = attrs.evolve(imputation, observed=imputation.observed[rows], mask=imputation.mask[rows])
        bends = Prepared((*before, imputation))
        result = self.sample(len(imputation.observed) * completions, conditioners=bends, **choices)
        if path is not None and is_main():
            plots.save(gallery.completions(self.dataset, imputation, result.x), Path(path))
        return result

    def evaluate(self, *, checkpoint_name: str | int = "best") -> dict[str, Measurement]:
        """Measures the model as the configuration says, and writes `metrics.json` into the run's folder.

        Figures of another checkpoint than the run's stand beside it, in `metrics-STEP.json`.

        Every figure that compares samples with real data stands beside its floor (held-out real data) and
        that of pure noise.
        """
        began = time.monotonic()
        model = self.model(checkpoint_name)
        if self._saved is not None and model.description["fingerprint"] != self.dataset.fingerprint():
            self._say(f"caveat: {self._saved} was trained on other data than are there now")
        section = self.config.evaluation
        evaluation = self._evaluation(section.metrics, section.count)
        with self._aloud():
            figures = evaluation.run(model, self._measured(model, section.count)) if section.metrics else {}
        if is_main():
            # The run's own figures are those of the checkpoint that its samples are of.
            own = model.step == self._manifest.get("checkpoint", self.model().step)
            own = own or checkpoint_name == "best"
            file = "metrics.json" if own else f"metrics-{model.step:08d}.json"
            recording.write_figures(self.folder, figures, file)
            for name, figure in figures.items():
                if "terms" in figure.details:
                    plots.save(plots.terms(**figure.details["terms"]), self.folder / f"{name}-terms.png")
        self._timing["evaluation"] = time.monotonic() - began
        return figures

    def run(self, *, fresh: bool = False, any_version: bool = False) -> RunResult:
        """The main job: train or reuse, sample, measure, record, report.

        Args:
            fresh: train anew even if an equal model is there.
            any_version: repeat a run even with other versions of its components, or other data, than its
                manifest records.

        Raises:
            ComponentError: other versions, and not `any_version`.
            DataError: other data, and not `any_version`.
        """
        if not any_version:
            identity.require_recorded(self._recorded, self.selection)
        self._require_sampling()
        self._look_at_the_data(any_version)
        recording.ensure_writable(self.runs)
        self.tell_caveats()
        with self._aloud():
            self._evaluation(self.config.evaluation.metrics, 0).prepare()
        _ = self._conditioners  # what they take from files is looked at before training
        self.train(fresh=fresh)
        self.draw()
        figures = self.evaluate()
        self.record()
        page = self.report()
        result = RunResult(run=self.folder, model=self.model_folder, metrics=figures, report=page)
        barrier()
        if is_main():
            hooks.broadcast("diffkit_run_end", run=result, experiment=self)
        return result

    def draw(self) -> SampleResult:
        """Draws the run's samples and pictures into its folder."""
        began = time.monotonic()
        recording.ensure_writable(self.folder)
        kept: list[SampleStep] = []

        def keep(step: SampleStep) -> None:
            kept.extend(film.kept(step, self.config.dataset.spec().image))

        result = self.sample(on_step=keep)
        self._timing["sampling"] = time.monotonic() - began
        if not is_main():
            return result
        self.write_samples(result, self.folder)
        dataset, sde, seed = self.dataset, self.config.sde, self.config.seed
        pictures = gallery.of_run(dataset, sde, seed, self._conditioners, result, kept)
        for name, picture in pictures.items():
            plots.save(picture, self.folder / name)
        film.write(dataset, sde, kept, self.folder / "frames.png")
        return result

    def write_samples(self, result: SampleResult, folder: Path) -> None:
        """Writes `samples.npz` (x, label, index) and `samples.png` into a folder."""
        if is_main():
            recording.write_samples(folder, self.dataset, result)

    def tell_caveats(self) -> None:
        """Says what is valid but unwise."""
        for finding in self.findings:
            self._say(f"caveat: {finding.subject}: {finding.reason}")

    def record(self) -> Path:
        """Writes what the run was made of and how to have it again: config, log, manifest."""
        if not is_main():
            return self.folder / "manifest.json"
        return recording.write_record(
            self.folder,
            self.config,
            self.selection,
            self.findings,
            model=self._model_home(),
            step=self.model().step,
            timing=self._timing,
        )

    def report(self) -> Path:
        """Builds the run's page from what is in its folder."""
        return report.build(self.folder) if is_main() else self.folder / "report.html"

    def save(self, path: str | Path) -> Path:
        """Copies the trained model, whole, to any path; `diffkit.load(path)` has it back."""
        if is_main():
            checkpoint.copy(self._model_home(), path)
        barrier()
        return Path(path)

    @property
    def _manifest(self) -> dict[str, Any]:
        return RunFolder(self.folder).mapping("manifest.json")

    def _look_at_the_data(self, any_version: bool) -> None:
        """Tells of data that have changed since the run was made; refuses to repeat a run with them."""
        then, now = self._manifest.get("data"), self.config.dataset.fingerprint()
        if then in (None, now):
            return
        if self._recorded and not any_version:
            raise DataError(
                f"The data are not those that {self.folder} was made of (fingerprint {now}, then {then})",
                "the same examples to train on",
                "Restore them, give the run another --set name=, or make it anew with these (--any-version)",
            )
        self._say(f"run: the data have changed since {self.folder} was made; it is made anew")

    def _require_sampling(self) -> None:
        """Refuses, before anything is trained, to run what can only be trained: a classifier."""
        compatibility.require(
            compatibility.Selection.of(self.config.sampling.sampler, model=self.selection.model)
        )

    @cached_property
    def _conditioners(self) -> Prepared:
        return prepared(self.config.sampling.conditioners, self.dataset)

    def _model_home(self) -> Path:
        return self._saved or self.model_folder

    def _evaluation(self, metrics: Iterable[Metric], count: int) -> Evaluation:
        return Evaluation(
            dataset=self.dataset,
            metrics=named(metrics),
            features=self.config.evaluation.features,
            count=count,
            seed=self.config.seed,
            cache=self.runs / "cache",
            say=self._say,
        )

    def _tracker(self) -> tracking.Tracker | None:
        """What looks at the training now and then, if anything shall."""
        wanted, method = self.config.evaluation.track, self.config.sampling
        if wanted is None:
            return None
        self._require_sampling()
        # A grid is fitted to a finished model: till then the sampler's own serves.
        waits = method.grid is not None and method.grid.to_fit
        own = {"sampler": method.sampler, "steps": method.steps} if waits else {}
        return tracking.Tracker(
            every=wanted.every,
            evaluation=self._evaluation(wanted.metrics, wanted.count),
            samples=lambda model: self._measured(model, wanted.count, **own),
            words={"sampler": registry.describe(method.sampler), "steps": method.steps},
        )

    def _measured(self, model: TrainedModel, total: int, **choices: Any) -> Iterator[Batch]:
        """The samples that figures rest on, chunk by chunk, so that memory stays flat."""
        world, _ = processes()
        size = self.config.sampling.batch_size * world
        with Watch("sampling", total, "samples") as watch:
            for first in range(0, total, size):
                result = self.sample(min(size, total - first), first=first, model=model, **choices)
                yield from measuring.sample_batches(
                    self.dataset, result.x.cpu(), label=result.label, first=first
                )
                watch.at(min(first + size, total))

    def _aloud(self) -> contextlib.AbstractContextManager[None]:
        return aloud(not self._quiet and is_main())

    def _say(self, text: str) -> None:
        if not self._quiet and is_main():
            print(text, file=sys.stderr, flush=True)


def _check_shape(config: ExperimentConfig) -> None:
    """Has the network say, before any data are read, if it cannot take examples of their shape."""
    spec = config.dataset.spec()
    # A network that cannot be built without storage speaks when it is built for training.
    unbuildable = contextlib.suppress(RuntimeError, TypeError)
    with unbuildable, torch.random.fork_rng(), torch.device("meta"):
        config.network.build(spec.shape, spec.classes if config.training.labels else None)
