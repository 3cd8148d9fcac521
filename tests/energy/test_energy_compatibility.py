"""Energies and Gaussian diffusion are kept apart, by capabilities alone, each refusal with a way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import diffkit
from diffkit.compatibility import Selection, check, matrix
from diffkit.config import ExperimentConfig, selection_of
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.registry import components, create
from diffkit_energy.sdes.langevin import Langevin

SETTINGS: dict[str, Any] = {
    "name": "x",
    "dataset": "digits",
    "network": "energy-cnn",
    "sde": "langevin",
    "objective": "contrastive-divergence",
    "sampling": {"sampler": "overdamped-langevin"},
}


def refusals(**changes: Any) -> list[str]:
    found = check(selection_of(ExperimentConfig.from_mapping({**SETTINGS, **changes})))
    assert all(finding.remedy for finding in found if finding.status == "refused")
    return [f"{each.subject} {each.object}" for each in found if each.status == "refused"]


def test_what_belongs_together_is_allowed() -> None:
    assert refusals() == []
    assert refusals(dataset="points", network="energy-mlp") == []


@pytest.mark.parametrize(
    "changes,refused",
    [
        ({"sampling": {"sampler": "ddim"}}, ["ddim langevin"]),
        ({"sde": "vp"}, ["contrastive-divergence vp", "overdamped-langevin vp"]),
        ({"network": "unet"}, ["contrastive-divergence unet"]),
        ({"objective": "noise"}, ["noise energy-cnn", "noise langevin", "overdamped-langevin "]),
        ({"training": {"labels": True}}, ["energy-cnn labels"]),
        ({"sampling": {"sampler": "overdamped-langevin", "grid": "log-snr"}}, ["log-snr langevin"]),
    ],
)
def test_what_does_not_is_refused_with_a_remedy(changes: dict[str, Any], refused: list[str]) -> None:
    assert sorted(refusals(**changes)) == refused


def test_the_matrix_shows_it() -> None:
    cells = {(row["sde"], row["sampler"]): row for row in matrix()}
    samplers = [info.name for info in components("sampler") if info.distribution == "diffkit"]
    apart = [("langevin", name) for name in samplers]
    apart += [(name, "overdamped-langevin") for name in ("vp", "sub-vp", "ve", "flow")]
    assert cells["langevin", "overdamped-langevin"]["status"] == "allowed"
    for pair in apart:
        assert cells[pair]["status"] == "refused"
        assert cells[pair]["reason"]
        assert cells[pair]["remedy"]


def test_a_denoiser_has_no_energy_to_run_down() -> None:
    with pytest.raises(IncompatibleError, match=r"neither energy nor score.*Give a score"):
        diffkit.sample(lambda x, t: x, sde="langevin", sampler="overdamped-langevin", shape=(1, 2))


def test_a_given_potential_is_not_passed_over_in_silence() -> None:
    sde = Langevin(potential=lambda x: x.square().sum(1))
    with pytest.raises(IncompatibleError, match="potential of its own"):
        diffkit.sample(score=lambda x, t: -x, sde=sde, sampler="overdamped-langevin", steps=1, shape=(1, 2))
    assert diffkit.sample(sde.model(), sampler="overdamped-langevin", steps=2, shape=(1, 2)).nfe == 2


def test_the_temperature_of_step_and_noise_is_told() -> None:
    fields = {"step_size": 10.0, "noise": 0.005}
    sampler = create("sampler", "overdamped-langevin", **fields)
    (finding,) = check(Selection.of(create("sde", "langevin"), sampler))
    assert finding.status == "caveat"
    assert "b^2/(2a) = 1.25e-06" in finding.reason
    slow = create("sde", "langevin", temperature=0.5, friction=2.0)
    (finding,) = check(Selection.of(slow, sampler))
    assert "a = 2.5" in finding.reason
    assert "= 5e-06" in finding.reason


@pytest.mark.parametrize(
    "fields", [{"noise": 0.1, "temperature": 1.0}, {"step_size": 0.0}, {"clip": (1.0, -1.0)}]
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        create("sampler", "overdamped-langevin", **fields)


def test_a_process_without_a_potential_says_whose_the_drift_is() -> None:
    with pytest.raises(TypeError, match="no potential of its own"):
        Langevin().drift(torch.zeros(1, 2), torch.tensor(0.5))
