"""The command line: what it prints where, and how it leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import synthetic_run

import diffkit
from diffkit import progress
from diffkit.cli import main as cli
from diffkit.cli.table import table
from diffkit.errors import RunError
from diffkit.loading import blamed
from diffkit.registry import components, using

Outcome = tuple[int, str, str]

CONFIG = """
name: small
dataset: digits
training: {steps: 2, batch_size: 8, labels: true}
sampling: {steps: 3, count: 2}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


class TestGroup:
    def test_help_names_every_command(self, diffkit_: Any) -> None:
        status, out, _ = diffkit_("--help")
        assert status == 0
        for name in ("run", "train", "sample", "evaluate", "report", "list", "show", "matrix"):
            assert f"\n  {name} " in out

    def test_version(self, diffkit_: Any) -> None:
        assert diffkit_("--version") == (0, f"diffkit {diffkit.__version__}\n", "")

    @pytest.mark.parametrize(
        "name", ["run", "train", "sample", "evaluate", "report", "list", "show", "matrix"]
    )
    def test_every_command_has_help_of_its_own(self, diffkit_: Any, name: str) -> None:
        status, out, _ = diffkit_(name, "--help")
        assert status == 0
        assert out.startswith(f"Usage: diffkit {name}")

    @pytest.mark.parametrize(
        "name", ["run", "train", "sample", "evaluate", "impute", "report", "check", "compare", "list"]
    )
    def test_every_command_that_runs_something_can_be_quiet(self, diffkit_: Any, name: str) -> None:
        assert "--quiet" in diffkit_(name, "--help")[1]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("lst",),
            ("--nonsense",),
            ("show", "sampler"),
            ("matrix", "sde"),
            ("run",),
            ("sample", "x", "--count", "0"),
        ],
    )
    def test_wrong_usage_exits_2(self, diffkit_: Any, arguments: tuple[str, ...]) -> None:
        status, out, err = diffkit_(*arguments)
        assert (status, out) == (2, "")
        assert "Error: " in err
        assert "Traceback" not in err

    def test_the_user_s_mistake_is_one_paragraph_and_exits_2(self, diffkit_: Any) -> None:
        status, out, err = diffkit_("show", "sampler", "dpm-solver")
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert "Did you mean 'dpm-solver++'?" in err

    @pytest.mark.parametrize(
        "error, status, said",
        [
            (RunError("It stopped", remedy="Start again"), 1, "Error: It stopped. Start again.\n"),
            (
                ZeroDivisionError("by\nzero"),
                1,
                "Unexpected ZeroDivisionError: by zero. Run again with --debug",
            ),
            (KeyboardInterrupt(), 130, "Interrupted.\n"),
        ],
    )
    def test_how_a_command_that_fails_leaves(
        self, diffkit_: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, said: str
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("diffkit.cli.list.components", fail)
        got, out, err = diffkit_("list")
        assert (got, out) == (status, "")
        assert said in err
        assert "Traceback" not in err
        if not isinstance(error, KeyboardInterrupt):
            _, _, err = diffkit_("--debug", "list")
            assert "Traceback" in err
            assert said in err

    def test_warnings_are_one_line_on_stderr(self, diffkit_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def warn(kind: str | None) -> list[Any]:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = cli._show_warning
                warnings.warn("mind\n  this", RuntimeWarning, stacklevel=2)
            return []

        monkeypatch.setattr("diffkit.cli.list.components", warn)
        _, _, err = diffkit_("list")
        assert err == "Warning: mind this\n"

    def test_a_reader_that_leaves_early_is_no_error(self) -> None:
        code = "import sys; from diffkit.cli.main import main; main(['list', '--json'])"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.wait(timeout=60)
        assert child.stderr.read() == b""
        child.stderr.close()

    @pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_signal_unwinds_and_is_told_by_the_exit_status(
        self, tmp_path: Path, number: signal.Signals, status: int
    ) -> None:
        mark = tmp_path / "mark"
        code = f"""
import pathlib, signal, time
import diffkit.cli.list as command
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
from diffkit.cli.main import main

mark = pathlib.Path({str(mark)!r})

def wait(kind):
    try:
        mark.write_text("started")
        time.sleep(60)
    finally:
        mark.write_text("unwound")

command.components = wait
main(["list"])
"""
        child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(number)
        assert child.wait(timeout=60) == status
        assert mark.read_text() == "unwound"


class TestList:
    def test_json_is_a_list_of_objects_with_these_keys(self, diffkit_: Any) -> None:
        status, out, err = diffkit_("list", "--json")
        rows = json.loads(out)
        assert (status, err) == (0, "")
        assert rows == [info.as_json() for info in components()]
        assert {tuple(row) for row in rows} == {("kind", "name", "distribution", "version", "status")}

    def test_one_kind_as_a_table(self, diffkit_: Any) -> None:
        _, out, _ = diffkit_("list", "sde")
        lines = out.splitlines()
        assert lines[0].split() == ["kind", "name", "distribution", "version", "status"]
        assert {line.split()[0] for line in lines[1:]} == {"sde"}
        assert any(line.split()[1:] == ["vp", "diffkit", diffkit.__version__, "registered"] for line in lines)

    def test_bad_rows_show_their_reason(self, diffkit_: Any, site: Any) -> None:
        site.install("odd", {"diffkit.sdes": {"My_SDE": "m:C"}})
        with using(site.registry()):
            _, out, _ = diffkit_("list", "sde")
            _, text, _ = diffkit_("list", "sde", "--json")
        assert "bad-metadata" in out
        assert "kebab-case" in out
        assert [row["reason"] for row in json.loads(text) if row["name"] == "My_SDE"]

    def test_verify_tells_ok_from_broken_and_hurts_nothing_else(
        self, diffkit_: Any, site: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "_PATIENCE", 0.0)
        monkeypatch.setattr(progress, "_INTERVAL", 0.0)
        site.install(
            "wreck",
            {"diffkit.schedules": {"mine": "wreck_verify:Mine"}},
            {"wreck_verify": "raise SystemExit(7)"},
        )
        with using(site.registry()):
            status, out, err = diffkit_("list", "schedule", "--verify", "--json")
        assert f"importing: 1 of {len(json.loads(out))} components" in err
        rows = {row["name"]: row for row in json.loads(out)}
        assert status == 0
        assert rows["mine"]["status"] == "broken"
        assert "SystemExit: 7" in rows["mine"]["reason"]
        assert rows["linear"]["status"] == rows["cosine"]["status"] == "ok"
        assert "wreck_verify" not in sys.modules

    def test_columns_are_as_wide_as_their_widest_cell(self) -> None:
        assert table(["a", "long"], [["wide", "b"], ["", "c"]]) == "a     long\nwide  b\n      c"


class TestShow:
    def test_a_component_says_everything_of_itself(self, diffkit_: Any) -> None:
        status, out, _ = diffkit_("show", "sampler", "dpm-solver++", "--json")
        page = json.loads(out)
        assert status == 0
        assert (page["kind"], page["name"], page["distribution"]) == ("sampler", "dpm-solver++", "diffkit")
        order = next(row for row in page["parameters"] if row["name"] == "order")
        assert (order["type"], order["default"], order["required"]) == ("int", 2, False)
        assert order["help"]
        assert "2211.01095" in page["source"]
        assert "sampler.deterministic" in page["provides"]
        assert page["class"] == "diffkit_standard.samplers.dpm_solver_pp:DPMSolverPP"
        assert page["doc"]

    def test_requirements_carry_reason_and_remedy(self, diffkit_: Any) -> None:
        _, out, _ = diffkit_("show", "sampler", "exponential-integrator", "--json")
        need = next(r for r in json.loads(out)["requires"] if r["capability"] == "sde.linear-drift")
        assert "drift" in need["reason"]
        assert "ddim" in need["remedy"]

    def test_nested_defaults_are_written_out(self, diffkit_: Any) -> None:
        _, out, _ = diffkit_("show", "sde", "vp", "--json")
        (row,) = [row for row in json.loads(out)["parameters"] if row["name"] == "schedule"]
        assert row["type"] == "schedule"
        assert row["default"]["name"] == "linear"

    def test_a_component_without_a_default_instance_is_shown_too(self, diffkit_: Any) -> None:
        status, out, _ = diffkit_("show", "conditioner", "class-guidance")
        assert status == 0
        assert "required" in out
        assert "label is missing" in out

    @pytest.mark.parametrize(
        "kind", ["schedule", "sde", "sampler", "grid", "metric", "network", "objective", "dataset"]
    )
    def test_every_built_in_can_be_shown(self, diffkit_: Any, kind: str) -> None:
        for info in components(kind):
            status, out, _ = diffkit_("show", kind, info.name)
            assert status == 0
            assert info.value in out
            assert "broken" not in out

    def test_a_broken_one_is_shown_with_its_reason(self, diffkit_: Any, site: Any) -> None:
        site.install(
            "wreck", {"diffkit.sdes": {"mine": "wreck_show:Mine"}}, {"wreck_show": "raise SystemExit(7)"}
        )
        with using(site.registry()):
            status, out, _ = diffkit_("show", "sde", "mine", "--json")
            _, text, _ = diffkit_("show", "sde", "mine")
        page = json.loads(out)
        assert (status, page["status"], page["distribution"]) == (2, "broken", "wreck")
        assert "SystemExit: 7" in page["reason"]
        assert "broken: " in text


class TestMatrix:
    def test_json_has_exactly_the_five_keys(self, diffkit_: Any) -> None:
        _, out, err = diffkit_("matrix", "--json")
        rows = json.loads(out)
        assert err == ""
        assert {tuple(row) for row in rows} == {("sde", "sampler", "status", "reason", "remedy")}
        (cell,) = [r for r in rows if (r["sde"], r["sampler"]) == ("ve", "exponential-integrator")]
        assert cell["status"] == "refused"
        assert cell["reason"]
        assert cell["remedy"]

    def test_text_is_a_grid_and_the_reasons(self, diffkit_: Any) -> None:
        _, out, _ = diffkit_("matrix", "sde", "schedule")
        grid = out.split("\n\n")[0].splitlines()
        header = grid[0].split()
        geometric = next(line for line in grid if line.startswith("geometric")).split()
        assert geometric[header.index("vp") - 2] == "no"
        assert geometric[header.index("ve") - 2] == "yes"
        assert "\nvp x geometric: refused. " in out


class TestRun:
    def test_what_to_try_next_is_told_on_stderr(self, diffkit_: Any, written: Path) -> None:
        _, out, err = diffkit_("run", str(written), "--dry-run")
        assert err == "next: the same without --dry-run\n"
        assert "next" not in out
        for silencer in ("--quiet", "--json"):
            assert diffkit_("run", str(written), "--dry-run", silencer)[2] == ""

    def test_dry_run_says_what_would_be_done_and_reads_nothing(
        self, diffkit_: Any, written: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(*_: Any) -> None:
            raise AssertionError("the data were read")

        monkeypatch.setattr("diffkit_standard.datasets.digits.Digits.load", read)
        status, out, _ = diffkit_("run", str(written), "--dry-run", "--json")
        assert status == 0
        assert json.loads(out)["name"] == "small"
        assert [path.name for path in written.parent.iterdir()] == ["small.yaml"]

    @pytest.mark.parametrize(
        "arguments, said",
        [
            (
                ["--set", "sde=ve", "--set", "sampling.sampler=exponential-integrator"],
                "'ve' cannot be combined",
            ),
            (["--set", "sde=vq"], "There is no sde 'vq'"),
            (["--set", "trainin.steps=3"], "Did you mean 'training'"),
            (["--set", "training.label_dropout=1.0"], "label_dropout"),
            (["--set", "training.learning_rate=.inf"], "learning_rate"),
            (["--set", "training.flip=true", "--set", "dataset=points", "--set", "network=mlp"], "no images"),
            (["--set", "training.steps=three"], "training.steps is the text 'three'"),
            (["--set", "sde=flow", "--set", "schedule=linear"], "takes no schedule"),
            (
                [
                    "--set",
                    "training.labels=false",
                    "--set",
                    "sampling.conditioners=[{name: class-guidance, label: 1}]",
                ],
                "training.labels",
            ),
        ],
    )
    def test_a_mistake_exits_2_before_any_data_are_read(
        self, diffkit_: Any, written: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
    ) -> None:
        def read(*_: Any) -> None:
            raise AssertionError("the data were read")

        monkeypatch.setattr("diffkit_standard.datasets.digits.Digits.load", read)
        status, out, err = diffkit_("run", str(written), *arguments)
        assert (status, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1
        assert [path.name for path in written.parent.iterdir()] == ["small.yaml"]

    @pytest.mark.parametrize(
        "text, said",
        [
            ("name: a\nname: b\n", "line 2"),
            ("name: !!python/name:os.system\n", "line 1"),
            ("- 1\n", "no mapping"),
        ],
    )
    def test_a_bad_file_exits_2(self, diffkit_: Any, written: Path, text: str, said: str) -> None:
        written.write_text(text)
        status, out, err = diffkit_("run", str(written))
        assert (status, out) == (2, "")
        assert said in err

    def test_a_target_that_is_not_there_exits_2(self, diffkit_: Any, written: Path) -> None:
        for command in ("run", "train", "sample", "evaluate", "report"):
            status, out, err = diffkit_(command, "nowhere")
            assert (status, out) == (2, ""), err
            assert "nowhere" in err

    def test_a_report_of_what_is_left_of_a_run(self, diffkit_: Any, tmp_path: Path) -> None:
        folder = synthetic_run.make_run(tmp_path / "broken")
        for name in ("config.yaml", "manifest.json", "metrics.json"):
            (folder / name).unlink()
        status, out, _ = diffkit_("report", str(folder))
        assert (status, out) == (0, f"report: {folder / 'report.html'}\n")
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert "Incomplete: config.yaml, manifest.json, metrics.json." in page

    def test_the_stages_one_by_one(self, diffkit_: Any, written: Path) -> None:
        status, out, _ = diffkit_("train", str(written), "--out", "kept", "--json")
        assert (status, json.loads(out)) == (0, {"model": "kept"})
        status, out, _ = diffkit_(
            "sample", "kept", "--count", "2", "--label", "3", "--out", "drawn", "--json"
        )
        record = json.loads(out)
        assert (status, record["count"]) == (0, 2)
        assert Path(record["samples"]).is_file()
        status, out, err = diffkit_("run", str(written), "--json")
        record = json.loads(out)
        assert (status, set(record)) == (0, {"run", "model", "metrics", "report"})
        assert "found" in err
        assert Path(record["report"]).is_file()
        assert "next:" not in err
        status, out, err = diffkit_("report", record["run"])
        assert (status, out) == (0, f"report: {record['report']}\n")
        assert err == f"next: diffkit compare {record['run']} ANOTHER-RUN\n"
        for named in (str(written), f"{record['run']}/manifest.json"):
            assert diffkit_("report", named, "--quiet")[:2] == (0, f"report: {record['report']}\n")
        status, _, err = diffkit_("report", record["model"])
        assert status == 2
        assert "is a model" in err
        status, out, err = diffkit_("run", str(written), "--quiet")
        assert (status, err) == (0, "")
        assert out.splitlines()[-1] == f"report: {record['report']}"
        status, out, _ = diffkit_("run", f"{record['run']}/manifest.json", "--json")
        again = json.loads(out)
        for key in ("run", "model", "report"):
            assert Path(again[key]).resolve() == Path(record[key]).resolve()


class TestOtherCommands:
    SOURCE = """
import click

@click.command()
@click.option("--loud", is_flag=True)
def command(loud):
    '''Say hello.'''
    click.echo("HELLO" if loud else "hello")
"""

    def test_one_is_shown_from_metadata_and_loaded_when_invoked(self, diffkit_: Any, site: Any) -> None:
        site.install(
            "greeter",
            {"diffkit.commands": {"greet": "greeter_module:command"}},
            {"greeter_module": self.SOURCE},
        )
        _, out, _ = diffkit_("--help")
        assert re.search(r"^  greet +from greeter$", out, flags=re.MULTILINE)
        assert "greeter_module" not in sys.modules
        assert diffkit_("greet", "--loud") == (0, "HELLO\n", "")

    def test_those_that_diffkit_brings_are_shown_as_its_own_and_keep_their_names(
        self, diffkit_: Any, site: Any
    ) -> None:
        entries = {"compare": "shadow_module:command"}
        site.install("shadow", {"diffkit.commands": entries}, {"shadow_module": self.SOURCE})
        site.install("gloom", {"diffkit.commands": entries}, {"shadow_module": self.SOURCE})
        _, out, _ = diffkit_("--help")
        own, _, others = out.partition("Commands of other distributions")
        assert "compare" in own
        assert not re.search("from diffkit$", out, flags=re.MULTILINE)
        assert re.search(r"^  shadow:compare +from shadow$", others, flags=re.MULTILINE)
        assert diffkit_("shadow:compare") == (0, "hello\n", "")
        assert "Set the figures of several runs side by side." in diffkit_("compare", "--help")[1]

    def test_a_broken_one_is_a_clear_error_when_it_is_named(self, diffkit_: Any, site: Any) -> None:
        modules = {"bad_command": "raise SystemExit(5)", "no_command": "command = 3"}
        entries = {"bad": "bad_command:command", "odd": "no_command:command"}
        site.install("wreck", {"diffkit.commands": entries}, modules)
        status, out, err = diffkit_("bad")
        assert (status, out) == (2, "")
        assert "The command 'bad' of wreck (bad_command:command) is broken" in err
        assert "SystemExit: 5" in err
        assert "not a click command" in diffkit_("odd")[2]
        assert diffkit_("--help")[0] == 0

    def test_own_commands_are_not_shadowed_and_shared_names_are_told_apart(
        self, diffkit_: Any, site: Any
    ) -> None:
        for name in ("greeter", "host"):
            modules = {f"{name}_both": self.SOURCE.replace('"hello"', f'"{name}"')}
            entries = {"greet": f"{name}_both:command", "list": f"{name}_both:command"}
            site.install(name, {"diffkit.commands": entries}, modules)
        assert diffkit_("list", "sde")[1].startswith("kind")
        assert diffkit_("host:greet") == (0, "host\n", "")
        assert diffkit_("host:list") == (0, "host\n", "")
        status, _, err = diffkit_("greet")
        assert status == 2
        assert "greeter:greet" in err
        assert "host:greet" in err


class TestLocalPlugin:
    def test_a_class_of_a_file_takes_part(self, diffkit_: Any, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(
            "import attrs\nfrom diffkit.interfaces.sampler import Sampler\n\n"
            "@attrs.frozen(kw_only=True)\nclass MyWay(Sampler):\n"
            "    def step(self, problem, x, t, s, carry, noise):\n        return x, carry\n"
        )
        _, out, _ = diffkit_("--plugin", f"{file}:MyWay", "list", "sampler", "--json")
        (row,) = [row for row in json.loads(out) if row["name"] == "my-way"]
        assert row["distribution"] == "own.py"
        assert row["version"].startswith("sha256:")
        _, out, _ = diffkit_("--plugin", f"{file}:MyWay", "matrix", "--json")
        assert {row["status"] for row in json.loads(out) if row["sampler"] == "my-way"} == {"allowed"}
        assert not [info for info in components() if info.name == "my-way"]

    def test_what_goes_wrong_in_it_bears_its_name(self, diffkit_: Any, written: Path) -> None:
        file = written.with_name("own.py")
        file.write_text(
            "import attrs\nfrom diffkit.interfaces.sampler import Sampler\n\n"
            "@attrs.frozen(kw_only=True)\nclass MyWay(Sampler):\n"
            "    def step(self, problem, x, t, s, carry, noise):\n        return x / (1 // 0), carry\n"
        )
        given = ("--set", "sampling.sampler=my-way", "--set", "evaluation.metrics=[]")
        status, _, err = diffkit_("--plugin", f"{file}:MyWay", "run", str(written), *given)
        assert status == 1
        assert "Unexpected ZeroDivisionError: " in err
        assert f", raised in the local file {file}. Run again" in err

    def test_what_goes_wrong_in_an_installed_one_bears_its_name(self) -> None:
        with pytest.raises(AttributeError) as caught:
            diffkit.create("sampler", "ddim").step(None, None, None, None, None, None)
        said = f"the sampler 'ddim' of diffkit {diffkit.__version__}"
        assert blamed(caught.value, components()) == said
        with pytest.raises(ZeroDivisionError) as ours:
            _ = 1 / 0
        assert blamed(ours.value, components()) == ""


def test_the_group_is_a_click_group() -> None:
    assert isinstance(cli.commands, click.Group)
