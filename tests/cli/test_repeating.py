"""A run's manifest says what it was made of, and the run is repeated with that or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from diffkit.config import ExperimentConfig, selection_of
from diffkit.discovery import KINDS
from diffkit.experiment import Experiment
from diffkit.identity import components_used
from diffkit.registry import using
from diffkit.storage import file_checksum

OWN = """
from __future__ import annotations
import attrs
import torch
from diffkit.component import parameter
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sampler import Sampler

@attrs.frozen(kw_only=True)
class OwnStep(Sampler):
    strength: float = parameter("how hard", 1.0)

    @property
    def default_grid(self):
        return "acme-grid"

    def step(self, problem, x, t, s, carry, noise):
        return x, carry

@attrs.frozen(kw_only=True)
class AcmeGrid(Grid):
    def times(self, sde, steps, start, stop):
        return torch.linspace(start, stop, steps + 1, dtype=torch.float64)
"""

CONFIG = {
    "name": "small",
    "dataset": "digits",
    "network": {"name": "unet", "channels": 8},
    "training": {"steps": 1, "batch_size": 4},
    "sampling": {"sampler": "own-step", "steps": 2, "count": 1},
}


class Made:
    """A run of a local sampler that stands on the grid of an installed distribution."""

    def __init__(self, site: Any, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.file = folder / "own.py"
        self.file.write_text(OWN)
        site.install("acme", {"diffkit.grids": {"acme-grid": "acme_grid:AcmeGrid"}}, {"acme_grid": OWN})
        with using(site.registry().with_file(self.plugin)):
            self.run = Experiment.from_dict(CONFIG, runs=folder / "runs", quiet=True).run().run

    @property
    def plugin(self) -> str:
        return f"{self.file}:OwnStep"

    @property
    def manifest(self) -> Any:
        return json.loads((self.run / "manifest.json").read_text())

    def upgrade(self) -> None:
        """Acme's next release."""
        path = next(self.site.path.glob("acme-*"))
        (path / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.1\n")


@pytest.fixture
def made(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.chdir(tmp_path)
    return Made(site, tmp_path)


def repeat(made: Made, diffkit_: Any, *arguments: str, plugin: bool = True) -> tuple[int, str, str]:
    """`diffkit run MANIFEST --dry-run`, with the site as it is now."""
    own = ("--plugin", made.plugin) if plugin else ()
    with using(made.site.registry()):
        outcome: tuple[int, str, str] = diffkit_(
            *own, "run", str(made.run / "manifest.json"), "--dry-run", *arguments
        )
    return outcome


class TestWhatIsRecorded:
    def test_every_component_with_distribution_and_version(self, made: Made) -> None:
        recorded = {each["name"]: each for each in made.manifest["components"]}
        assert {each["kind"] for each in recorded.values()} >= {
            "dataset", "network", "sde", "schedule", "objective", "sampler", "grid",
        }  # fmt: skip
        assert recorded["acme-grid"] == {
            "kind": "grid", "name": "acme-grid", "distribution": "acme", "version": "1.0",
        }  # fmt: skip
        own = recorded["own-step"]
        assert own["version"] == f"sha256:{file_checksum(made.file)}"
        assert own["plugin"] == made.plugin
        assert made.manifest["command"] == f"diffkit --plugin {made.plugin} run {made.run}"

    def test_no_kind_that_a_run_may_use_is_left_out(self) -> None:
        training = {"steps": 2, "labels": True}
        restoration = {"name": "restoration", "operator": "blur"}
        guidance = {"name": "class-guidance", "label": 1}
        sampling = {"conditioners": [guidance, restoration], "grid": "log-snr"}
        evaluation = {"metrics": ["fid"], "features": "classifier"}
        config = ExperimentConfig.from_mapping(
            {"name": "all", "dataset": "digits", "training": training, "sampling": sampling}
            | {"evaluation": evaluation}
        )
        kinds = {each["kind"] for each in components_used(selection_of(config))}
        assert kinds == set(KINDS)


class TestRepeating:
    def test_the_same_versions_pass(self, made: Made, diffkit_: Any) -> None:
        status, out, err = repeat(made, diffkit_)
        assert (status, err) == (0, "next: the same without --dry-run\n")
        assert f"run: {made.run}" in out

    def test_another_version_is_refused_unless_told_otherwise(self, made: Made, diffkit_: Any) -> None:
        made.upgrade()
        status, out, err = repeat(made, diffkit_)
        assert (status, out) == (2, "")
        assert "the grid 'acme-grid' was of acme 1.0, and is of acme 1.1" in err
        assert "own-step" not in err
        assert "--any-version" in err
        assert repeat(made, diffkit_, "--any-version")[0] == 0

    def test_a_run_itself_is_refused_before_it_writes(self, made: Made, diffkit_: Any) -> None:
        made.upgrade()
        before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}
        with using(made.site.registry()):
            status, _, err = diffkit_("--plugin", made.plugin, "run", str(made.run))
        assert (status, "acme 1.1" in err) == (2, True)
        assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == before

    def test_what_is_not_used_any_more_may_differ(self, made: Made, diffkit_: Any) -> None:
        made.upgrade()
        assert repeat(made, diffkit_, "--set", "sampling.grid=uniform")[0] == 0

    def test_a_name_that_another_distribution_supplies_is_refused(self, made: Made, diffkit_: Any) -> None:
        shutil.rmtree(next(made.site.path.glob("acme-*")))
        made.site.install("rival", {"diffkit.grids": {"acme-grid": "acme_grid:AcmeGrid"}})
        status, _, err = repeat(made, diffkit_)
        assert (status, "was of acme 1.0, and is of rival 1.0" in err) == (2, True)

    def test_a_local_file_that_is_not_named_is_asked_for_word_by_word(
        self, made: Made, diffkit_: Any
    ) -> None:
        status, _, err = repeat(made, diffkit_, plugin=False)
        manifest = made.run / "manifest.json"
        assert status == 2
        assert f"Type: diffkit --plugin {made.plugin} run {manifest}" in err

    def test_a_local_file_that_changed_is_refused_by_its_checksum(self, made: Made, diffkit_: Any) -> None:
        then = file_checksum(made.file)
        made.file.write_text(OWN + "# another word\n")
        status, _, err = repeat(made, diffkit_)
        now = file_checksum(made.file)
        assert status == 2
        assert f"was of own.py sha256:{then[:12]}, and is of own.py sha256:{now[:12]}" in err
        assert repeat(made, diffkit_, "--any-version")[0] == 0

    def test_the_same_file_elsewhere_is_the_same(self, made: Made, diffkit_: Any, tmp_path: Path) -> None:
        (tmp_path / "moved").mkdir()
        made.file = made.file.rename(tmp_path / "moved" / "own.py")
        assert repeat(made, diffkit_)[0] == 0

    @pytest.mark.parametrize("text", ["{", "[]", '{"name": "small"}', ""])
    def test_a_manifest_that_tells_nothing_is_refused(self, made: Made, diffkit_: Any, text: str) -> None:
        (made.run / "manifest.json").write_text(text)
        status, _, err = repeat(made, diffkit_)
        assert (status, f"Name {made.run / 'config.yaml'} instead" in err) == (2, True)

    def test_other_mistakes_keep_their_own_words(self, made: Made, diffkit_: Any) -> None:
        _, _, err = repeat(made, diffkit_, "--set", "sde=vq")
        assert "There is no sde 'vq'" in err
        assert "Type:" not in err


def test_a_repeated_run_gives_the_same_samples(made: Made, diffkit_: Any) -> None:
    before = made.manifest["checksums"]["samples.npz"]
    with using(made.site.registry()):
        status, _, err = diffkit_("--plugin", made.plugin, "run", str(made.run / "manifest.json"))
    assert status == 0, err
    assert made.manifest["checksums"]["samples.npz"] == before
