"""The experiment as written: strict reading, overrides, and writing it out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit import documents
from diffkit.compatibility import check, require
from diffkit.config import ExperimentConfig, SamplingConfig, TrainingConfig, selection_of, to_mapping
from diffkit.errors import ComponentError, ConfigError, IncompatibleError, InputError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.registry import create

MINIMAL = {"name": "small", "dataset": "digits"}
DESIGN = """
name: digits
seed: 0
dataset: digits
network: {name: unet, channels: 32}
sde: vp
schedule: cosine
objective: noise
training: {steps: 2000, batch_size: 128, learning_rate: 1.0e-3, ema: 0.999, labels: true, label_dropout: 0.1}
sampling:
  sampler: dpm-solver++
  steps: 20
  count: 64
  conditioners: [{name: class-guidance, label: 3, scale: 2.0}]
evaluation: {metrics: [fid, inception-score], count: 2000}
"""


@attrs.frozen(kw_only=True)
class Unlabelled(Dataset):
    """Vectors that must never be read."""

    def spec(self) -> DataSpec:
        return DataSpec(shape=(3,))

    def load(self, split: SplitName) -> Examples:
        raise AssertionError("the data were read")


def config(**changes: Any) -> ExperimentConfig:
    return ExperimentConfig.from_mapping({**MINIMAL, **changes})


def from_text(tmp_path: Path, text: str, *overrides: str) -> ExperimentConfig:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return ExperimentConfig.from_file(path, overrides)


class TestReading:
    def test_a_whole_configuration(self, tmp_path: Path) -> None:
        read = from_text(tmp_path, DESIGN)
        assert read.sde == create("sde", "vp", schedule="cosine")
        assert read.schedule is None
        assert read.network == create("network", "unet", channels=32)
        assert read.training == TrainingConfig(steps=2000, labels=True)
        assert read.sampling.conditioners == (create("conditioner", "class-guidance", label=3, scale=2.0),)
        assert [type(metric).__name__ for metric in read.evaluation.metrics] == ["FID", "InceptionScore"]

    def test_the_defaults_are_components_too(self) -> None:
        read = config()
        assert read.sde == create("sde", "vp")
        assert read.sampling.sampler == create("sampler", "adams")
        assert read.evaluation.features == create("features", "classifier")
        assert config(sampling={}) == config(evaluation={}) == read

    def test_objects_are_taken_as_they_are(self) -> None:
        sde, sampling = create("sde", "ve"), SamplingConfig(sampler=create("sampler", "ddim"))
        read = config(sde=sde, sampling=sampling, dataset=Unlabelled())
        assert read.sde is sde
        assert read.sampling is sampling

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"trainin": {}}, r"trainin is no known key\. The keys are name, seed.*Did you mean 'training'"),
            ({"training": {"step": 3}}, r"training\.step is no known key.*Did you mean 'steps'"),
            ({"training": {"steps": "3"}}, r"training\.steps is the text '3'\. It takes int or null"),
            ({"training": {"steps": 0}}, r"training\.steps is 0, but 'steps' must be >= 1"),
            ({"training": {"labels": "yes"}}, r"training\.labels is the text 'yes'\. It takes bool"),
            ({"training": {"ema": 1.0}}, r"training\.ema is 1\.0, but a decay is at least 0 and below 1"),
            (
                {"training": {"precision": "fp8"}},
                r"training\.precision.*'auto' or 'fp32' or 'bf16' or 'fp16'",
            ),
            (
                {"training": {"steps": 3, "epochs": 2}},
                r"training\.epochs is 2, but training\.steps is given too",
            ),
            ({"training": None}, r"training is null\. It takes a mapping"),
            ({"training": [1]}, r"training is \[1\]\. It takes a mapping"),
            ({"seed": -1}, "seed is -1, but 'seed' must be >= 0"),
            ({"seed": True}, "seed is true. It takes int"),
            ({"name": "a/b"}, "name is 'a/b', but it names a folder"),
            ({"name": "../up"}, "names a folder"),
            ({"name": 3}, "name is 3. It takes str"),
            ({"sde": "vq"}, r"sde: There is no sde 'vq'.*Did you mean 'v"),
            (
                {"sampling": {"sampler": {"name": "dpm-solver++", "order": 7}}},
                r"sampling\.sampler\.order is 7, but",
            ),
            ({"sampling": {"sampler": {"order": 3}}}, r"sampling\.sampler is a mapping without a `name`"),
            (
                {"sampling": {"conditioners": [{"name": "class-guidance"}]}},
                r"conditioners\[0\]\.label is missing",
            ),
            ({"sampling": {"conditioners": "class-guidance"}}, r"sampling\.conditioners is the text"),
            (
                {"evaluation": {"metrics": ["fid", "fod"]}},
                r"evaluation\.metrics\[1\]: There is no metric 'fod'",
            ),
            ({"evaluation": {"count": 1}}, r"evaluation\.count is 1"),
            ({1: 2}, "1 is no known key"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_whole_key(self, changes: dict[Any, Any], said: str) -> None:
        with pytest.raises((ConfigError, ComponentError), match=said):
            ExperimentConfig.from_mapping({**MINIMAL, **changes})

    def test_required_keys(self) -> None:
        with pytest.raises(ConfigError, match=r"dataset is missing\. It takes dataset \(what is learnt\)"):
            ExperimentConfig.from_mapping({"name": "x"})

    @pytest.mark.parametrize(
        "text, said",
        [
            ("name: a\nname: b\n", 'line 2: found duplicate key "name"'),
            ("name: a\ntraining:\n  steps: 1\n  steps: 2\n", 'line 4: found duplicate key "steps"'),
            ("name: !!python/object/apply:os.system ['true']\n", "line 1: could not determine a constructor"),
            ("name: !env HOME\n", "line 1: could not determine a constructor"),
            ("a: [1, 2\nb: 3\n", "line "),
            ("a: b: c\n", "line 1"),
            ("- a\n- b\n", "is no mapping"),
            ("just text\n", "is no mapping"),
            ("", "is empty"),
            ("a: 1\n---\nb: 2\n", "line "),
            ("a: \x01\n", "not valid YAML"),
            ("a: &x [*x]\n", "nested without end"),
        ],
    )
    def test_a_file_that_is_no_plain_yaml_is_refused_with_the_line(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        with pytest.raises(InputError) as caught:
            from_text(tmp_path, text)
        assert said in str(caught.value)
        assert isinstance(caught.value, ConfigError)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.yaml' cannot be read: No such file"):
            ExperimentConfig.from_file(tmp_path / "nowhere.yaml")
        with pytest.raises(ConfigError, match="cannot be read"):
            ExperimentConfig.from_file(tmp_path)
        (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="not text in UTF-8"):
            ExperimentConfig.from_file(tmp_path / "binary.yaml")

    def test_yaml_is_version_1_2(self, tmp_path: Path) -> None:
        read = from_text(tmp_path, "{name: no, dataset: digits, training: {learning_rate: 1e-3, steps: 010}}")
        assert (read.name, read.training.learning_rate, read.training.steps) == ("no", 1e-3, 10)


class TestSchedule:
    def test_it_fills_the_process(self) -> None:
        for sde in ("vp", {"name": "vp"}):
            assert config(sde=sde, schedule="cosine").sde == create("sde", "vp", schedule="cosine")
        full = {"name": "linear", "beta_max": 10.0}
        assert config(schedule=full).sde == create("sde", "vp", schedule=full)

    def test_said_twice_alike_is_fine_and_said_twice_otherwise_is_not(self) -> None:
        given = {"name": "vp", "schedule": "cosine"}
        assert config(sde=given, schedule="cosine") == config(sde=given)
        for sde in (given, create("sde", "vp", schedule="cosine")):
            with pytest.raises(ConfigError, match=r"schedule and sde\.schedule are both given, and differ"):
                config(sde=sde, schedule="linear")

    def test_a_process_that_takes_none_refuses_it_with_the_remedy(self) -> None:
        with pytest.raises(
            IncompatibleError, match=r"'cosine' and 'flow'.*takes no schedule.*Leave the schedule out"
        ):
            config(sde="flow", schedule="cosine")


class TestOverrides:
    @pytest.mark.parametrize(
        "overrides, same",
        [
            (["seed=3"], {"seed": 3}),
            (["training.steps=5", "training.labels=true"], {"training": {"steps": 5, "labels": True}}),
            (["network.channels=16"], {"network": {"name": "unet", "channels": 16}}),
            (["sampling.sampler.order=4"], {"sampling": {"sampler": {"name": "adams", "order": 4}}}),
            (
                ["sde.schedule.beta_max=9", "sde.schedule.name=linear"],
                {"sde": {"name": "vp", "schedule": "linear"}},
            ),
            (["sde.schedule=cosine"], {"schedule": "cosine"}),
            (["sampling.grid=log-snr"], {"sampling": {"grid": "log-snr"}}),
            (["training.gradient_clip=null"], {"training": {"gradient_clip": None}}),
            (["training.gradient_clip="], {"training": {"gradient_clip": None}}),
            (
                [
                    "sampling.conditioners=[{name: class-guidance, label: 1}]",
                    "sampling.conditioners.0.scale=3",
                ],
                {"sampling": {"conditioners": [{"name": "class-guidance", "label": 1, "scale": 3}]}},
            ),
            (["evaluation.metrics=[fid]", "evaluation.metrics=[]"], {}),
        ],
    )
    def test_they_come_on_top(self, overrides: list[str], same: dict[str, Any]) -> None:
        assert ExperimentConfig.from_mapping(MINIMAL, overrides) == config(**same)

    def test_another_name_drops_the_old_component_s_fields(self) -> None:
        start = {**MINIMAL, "sampling": {"sampler": {"name": "dpm-solver++", "order": 3}, "steps": 7}}
        for override in ("sampling.sampler=ddim", "sampling.sampler.name=ddim"):
            changed = ExperimentConfig.from_mapping(start, [override])
            assert changed.sampling.sampler == create("sampler", "ddim")
            assert changed.sampling.steps == 7
        same = ExperimentConfig.from_mapping(start, ["sampling.sampler.name=dpm-solver++"])
        assert same.sampling.sampler == create("sampler", "dpm-solver++", order=3)
        assert ExperimentConfig.from_mapping(start, ["name=other"]).sampling.steps == 7

    def test_what_says_the_same_thing_gives_way(self) -> None:
        resolved = to_mapping(config(schedule="cosine", training={"steps": 5}))
        assert ExperimentConfig.from_mapping(resolved, ["schedule=linear"]).sde == create("sde", "vp")
        written = {**MINIMAL, "schedule": "cosine"}
        assert ExperimentConfig.from_mapping(written, ["sde.schedule=linear"]).sde == create("sde", "vp")
        assert ExperimentConfig.from_mapping(resolved, ["training.epochs=2"]).training.steps is None
        with pytest.raises(ConfigError, match="give one of them"):
            ExperimentConfig.from_mapping(MINIMAL, ["training.epochs=2", "training.steps=3"])

    def test_the_mapping_itself_is_left_alone(self) -> None:
        start: dict[str, Any] = {**MINIMAL, "training": {"steps": 3}, "sampling": {"conditioners": []}}
        ExperimentConfig.from_mapping(start, ["training.steps=4", "sampling.conditioners=[]"])
        assert start["training"] == {"steps": 3}

    @pytest.mark.parametrize(
        "override, said",
        [
            ("seed", "'seed' is not of the form a.b=value"),
            ("=3", "not of the form"),
            ("a..b=3", "not of the form"),
            ("training.steps=[1", "The override 'training.steps=.*line 1"),
            ("training.steps=x", r"training\.steps is the text 'x'"),
            ("trainin.steps=3", "trainin is no known key"),
            ("training.stps=3", r"training\.stps is no known key"),
            ("0=3", "0 is no known key"),
            ("seed.x=3", r"seed is \d, and has no keys"),
            ("name.x=3", "name is a mapping"),
            ("evaluation.metrics.4.x=1", r"evaluation\.metrics\.4 does not exist.*a list of 1"),
            (
                "sampling.conditioners.0.scale=1",
                r"no list at sampling\.conditioners.*sampling\.conditioners=\[",
            ),
            ("evaluation.metrics.x=1", r"evaluation\.metrics\.x does not exist"),
        ],
    )
    def test_one_that_makes_no_sense_is_named(self, tmp_path: Path, override: str, said: str) -> None:
        text = "{name: small, dataset: digits, seed: 1, evaluation: {metrics: [fid]}}"
        with pytest.raises(ConfigError, match=said):
            from_text(tmp_path, text, override)


class TestWriting:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"schedule": "cosine"},
            {"sde": "ve", "dataset": "cifar10", "training": {"epochs": 2, "ema": None}},
            {"sampling": {"conditioners": [{"name": "class-guidance", "label": [1, 2]}], "grid": "uniform"}},
            {"evaluation": {"metrics": ["fid", "inception-score"]}},
        ],
    )
    def test_what_is_written_is_read_back_the_same(self, changes: dict[str, Any]) -> None:
        before = config(**changes)
        mapping = to_mapping(before)
        assert ExperimentConfig.from_mapping(mapping) == before
        assert documents.parse(documents.dump(mapping), "text") == mapping
        assert to_mapping(ExperimentConfig.from_mapping(mapping)) == mapping

    def test_two_ways_to_write_one_experiment_are_written_the_same(self) -> None:
        one = config(sde="vp", schedule="cosine", network={"name": "unet"}, training={})
        other = config(
            sde={"name": "vp", "schedule": {"name": "cosine"}}, sampling={"sampler": "diffkit:adams"}
        )
        assert to_mapping(one) == to_mapping(other)
        assert "schedule" not in to_mapping(one)

    def test_every_field_is_written_out(self) -> None:
        mapping = to_mapping(config())
        assert mapping["training"]["learning_rate"] == 1e-3
        assert mapping["sampling"]["sampler"]["order"] == 3
        assert set(mapping["training"]) == set(attrs.fields_dict(TrainingConfig))

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text(st.characters(codec="ascii")),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text("abc_-1.", min_size=1), inner, max_size=3)
            ),
            max_leaves=8,
        )
    )
    def test_yaml_gives_every_plain_value_back(self, value: Any) -> None:
        again = documents.parse(documents.dump({"value": value}), "text")["value"]
        assert (again, repr(again)) == (value, repr(value))


class TestSelection:
    def test_the_model_is_foretold_from_the_training(self) -> None:
        def model(**training: Any) -> set[str]:
            capabilities = selection_of(config(training=training)).model
            assert capabilities is not None
            return set(capabilities)

        assert model() == {"model.denoise", "model.unconditional"}
        assert model(labels=True) == {"model.denoise", "model.unconditional", "model.labels"}
        assert model(labels=True, label_dropout=0.0) == {"model.denoise", "model.labels"}
        assert model(labels=False, label_dropout=0.0) == {"model.denoise", "model.unconditional"}

    def test_what_takes_part(self) -> None:
        selection = selection_of(config(training={"labels": True}, sampling={"steps": 9, "grid": "uniform"}))
        for kind in ("dataset", "network", "sde", "objective", "sampler", "grid", "schedule"):
            assert selection.one(kind) is not None
        assert (selection.steps, selection.classes) == (9, 10)
        assert selection.data == {"dataset.labels", "dataset.classified", "dataset.images"}
        assert selection_of(config()).classes is None

    def test_features_take_part_only_where_a_metric_needs_them(self) -> None:
        assert selection_of(config()).one("features") is None
        assert selection_of(config(evaluation={"metrics": ["fid"]})).one("features") is not None

    def test_guidance_needs_a_model_trained_on_labels(self) -> None:
        guided = {"conditioners": [{"name": "class-guidance", "label": 3, "scale": 2.0}]}
        assert check(selection_of(config(sampling=guided, training={"labels": True}))) == []
        with pytest.raises(
            IncompatibleError, match=r"'class-guidance' and this model.*training\.labels: true"
        ):
            require(selection_of(config(sampling=guided)))
        with pytest.raises(IncompatibleError, match=r"label_dropout"):
            require(selection_of(config(sampling=guided, training={"labels": True, "label_dropout": 0.0})))

    def test_labels_need_a_data_set_that_has_them_and_nothing_is_read(self) -> None:
        assert selection_of(config(dataset=Unlabelled())).data == frozenset()
        with pytest.raises(
            ConfigError, match=r"training\.labels is true, and the data set '.*Unlabelled' has no labels"
        ):
            selection_of(config(dataset=Unlabelled(), training={"labels": True}))
