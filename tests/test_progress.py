"""What is said of something that takes its time: when, where, how fast, and to whom."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import diffkit
from diffkit import progress
from diffkit.progress import Watch, aloud, watched
from diffkit.testing import check


class Clock:
    """Seconds, as the test says."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.fixture
def heard() -> Iterator[None]:
    with aloud():
        yield


def test_silence_is_the_rule(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with Watch("digging", 10, "holes") as watch:
            clock.now += 100.0
            watch.at(5)

    work()
    with aloud(), aloud(False):
        work()
    assert capsys.readouterr() == ("", "")
    with aloud():
        work()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("digging") == 2


@pytest.mark.usefixtures("heard")
def test_rate_and_time_left_count_from_where_it_began(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watch("training", 600, "steps", before=500) as watch:
        watch.at(501)
        clock.now = 9.0
        watch.at(508)
        clock.now = 10.0
        watch.at(520, "loss 0.25")
        clock.now = 15.0
        watch.at(530)
        clock.now = 25.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 520 of 600 steps, loss 0.25, 2 a second, 40 s left",
        "training: 600 steps in 25 s",
    ]


@pytest.mark.usefixtures("heard")
def test_a_first_word_on_many_units_at_once_counts_them_all(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watch("sampling", 200, "samples") as watch:
        clock.now = 32.0
        watch.at(64)
    assert "64 of 200 samples, 2 a second, 68 s left\n" in capsys.readouterr().err


@pytest.mark.usefixtures("heard")
def test_what_is_short_or_fails_is_not_spoken_of(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Watch("blinking", 3, "eyes") as watch:
        clock.now += 1.9
        watch.at(2)
    with contextlib.suppress(ZeroDivisionError), Watch("dividing", 3, "numbers") as watch:
        clock.now += 5.0
        watch.at(0)
        _ = 1 / 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("heard")
def test_one_inside_another_tells_how_far_it_is_and_no_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watch("training", 10, "steps"):
        for title in ("sampling", "training"):
            with Watch(title, 4, "samples") as inner:
                clock.now += 20.0
                inner.at(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "sampling: 2 of 4 samples, 0.1 a second, 20 s left",
        "training: 10 steps in 40 s",
    ]


def test_a_failure_in_a_loop_does_not_silence_what_comes_after(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = watched(range(9), "sampling", 9, "samples")  # as a traceback keeps the frames of a failure
    with contextlib.suppress(ZeroDivisionError), aloud():
        for item in kept:
            1 / item
    with aloud(), Watch("sampling", 4, "samples") as watch:
        clock.now += 20.0
        watch.at(2)
        kept.close()
        with Watch("sampling", 4, "samples") as inner:
            clock.now += 20.0
            inner.at(1)
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 2 of 4 samples, 0.1 a second, 20 s left",
        "sampling: 4 samples in 40 s",
    ]


@pytest.mark.usefixtures("heard")
def test_watched_items_are_the_items_and_count_when_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = []
    for item in watched("abc", "reading", 3, "letters"):
        taken.append(item)
        clock.now += 11.0
    assert taken == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" letters")[0] for line in lines] == [
        "reading: 1 of 3",
        "reading: 2 of 3",
        "reading: 3",
    ]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is said at once."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)


def test_an_experiment_is_heard_unless_it_is_quiet(
    eager: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: dict[str, Any] = {
        "name": "small",
        "dataset": "digits",
        "network": {"name": "unet", "channels": 8, "multipliers": [1, 1], "heads": 2},
        "training": {"steps": 2, "batch_size": 8, "precision": "fp32", "label_dropout": 0.5},
        "sampling": {"sampler": "ddim", "steps": 3, "count": 4},
        "evaluation": {"metrics": ["fid"], "count": 8, "features": "pixels"},
    }
    experiment = diffkit.Experiment.from_dict(config, runs=tmp_path, quiet=True)
    experiment.train()
    experiment.sample()
    assert capsys.readouterr() == ("", "")
    experiment = diffkit.Experiment.from_dict(config, runs=tmp_path)
    experiment.train(fresh=True)
    experiment.evaluate()
    experiment.impute(count=1, method="replacement")
    out, err = capsys.readouterr()
    told = {line.partition(":")[0] for line in err.splitlines()}
    assert out == ""
    assert told >= {"training", "sampling", "real examples"}


def test_fitting_a_grid_tells_its_passes(eager: None, capsys: pytest.CaptureFixture[str]) -> None:
    with aloud():
        diffkit.fit_grid(lambda x, t: 0.5 * x, sde="vp", steps=3, shape=(1,), count=2, trials=4)
    total = 2 * (200 + 4 * 3)
    assert f"fitting the grid: 400 of {total} passes" in capsys.readouterr().err


def test_features_and_likelihoods_tell_how_far_they_are(
    eager: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = diffkit.create("dataset", "digits")
    metric = diffkit.create("metric", "bits-per-dim", tolerance=0.1)
    with aloud():
        diffkit.create("features", {"name": "classifier", "steps": 3}).prepare(digits, tmp_path)
        metric.log_prob(lambda x, t: 0.5 * x, sde="vp", x=torch.zeros(2, 1))
    err = capsys.readouterr().err
    assert "training the classifier: 1 of 3 steps" in err
    shares = [int(share) for share in re.findall(r"likelihood: (\d+) of 100 percent", err)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 100


def test_checking_tells_how_far_it_is(eager: None, capsys: pytest.CaptureFixture[str]) -> None:
    check("schedule", "linear")
    assert capsys.readouterr().err == ""
    with aloud():
        rows = check("schedule", "linear")
    assert f"checking: 1 of {len(rows)} laws" in capsys.readouterr().err


PROGRAM = """
from diffkit import progress
progress._PATIENCE = progress._INTERVAL = 0.0
with progress.aloud(), progress.Watch("outer", 5, "steps") as outer:
    outer.at(1, "loss 0.5")
    with progress.Watch("inner", 5, "steps") as inner:
        inner.at(2)
    outer.at(3)
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|38;[0-9;]*|9[0-7])[0-9;]*m")


def on_a_terminal(**environment: str) -> str:
    """What the program writes to a terminal that is its stderr."""
    inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=its, env=inherited | environment
    ) as child:
        os.close(its)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # how Linux says that nobody holds the other end any more
            pass
        os.close(ours)
        assert child.communicate()[0] == b""
    assert child.returncode == 0
    return seen.decode()


def test_a_terminal_shows_bars_in_colour_unless_it_is_asked_not_to() -> None:
    seen = on_a_terminal(TERM="xterm-256color")
    assert COLOUR.search(seen)
    for words in ("outer", "inner", "loss 0.5, ", "a second"):
        assert words in seen
    plain = on_a_terminal(TERM="xterm-256color", NO_COLOR="1")
    assert "outer" in plain
    assert not COLOUR.search(plain)


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(term: str) -> None:
    seen = on_a_terminal(TERM=term)
    assert "\x1b" not in seen
    assert "outer: 1 of 5 steps, loss 0.5, " in seen


def test_what_is_no_terminal_gets_none_even_where_colour_is_forced() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"FORCE_COLOR": "1", "TERM": "xterm-256color"},
    )
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert done.stderr.count("outer: ") == 3
