"""Who may be used is the user's word: in a file, on the command line, and nowhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffkit import hooks
from diffkit.config import ExperimentConfig
from diffkit.discovery import entry_points
from diffkit.errors import ComponentError, ConfigError
from diffkit.policy import Policy, denials, using
from diffkit.registry import Registry

TRAP = "raise AssertionError('a denied plugin was imported')"
CONFIG = {"name": "small", "dataset": "digits", "training": {"steps": 2}}


@pytest.fixture
def acme(site: Any) -> Any:
    """Two distributions that must not be imported, with components, hooks and a command."""
    for name in ("acme", "Rival_Co"):
        module = f"{name.lower()}_trap"
        groups = {
            "diffkit.samplers": {f"{name[0].lower()}-one": f"{module}:One", "twin": f"{module}:Twin"},
            "diffkit.hooks": {"watch": module},
            "diffkit.commands": {f"{name[0].lower()}-greet": f"{module}:command"},
        }
        site.install(name, groups, {module: TRAP})
    return site


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        monkeypatch.setenv("DIFFKIT_CONFIG", str(path))
        return path

    return write


def statuses(registry: Registry) -> dict[str, str]:
    return {i.identity: i.status for i in registry.components("sampler") if i.distribution != "diffkit"}


class TestWhoDecides:
    @pytest.mark.parametrize(
        "allow, deny, denied",
        [
            ((), (), set()),
            ((), ("acme",), {"acme:a-one", "acme:twin"}),
            ((), ("rival-co:twin",), {"Rival_Co:twin"}),
            (("acme",), (), {"Rival_Co:r-one", "Rival_Co:twin"}),
            (("Rival.Co:twin",), (), {"acme:a-one", "acme:twin", "Rival_Co:r-one"}),
            (("acme",), ("acme:twin",), {"acme:twin", "Rival_Co:r-one", "Rival_Co:twin"}),
            (("acme:twin",), ("acme",), {"acme:a-one", "acme:twin", "Rival_Co:r-one", "Rival_Co:twin"}),
        ],
    )
    def test_deny_weighs_more_and_allow_leaves_nobody_else_but_diffkit(
        self, acme: Any, allow: tuple[str, ...], deny: tuple[str, ...], denied: set[str]
    ) -> None:
        with using(Policy(allow, deny)):
            registry = acme.registry()
        found = {name for name, status in statuses(registry).items() if status == "denied"}
        others = {name for name in found if name.startswith("diffkit-energy:")}  # where it is installed too
        assert found - others == denied
        assert bool(allow) or not others
        own = [i for i in registry.components() if i.distribution == "diffkit"]
        assert {i.status for i in own} == {"registered"}

    def test_a_built_in_may_be_denied_too(self, acme: Any) -> None:
        with using(Policy(deny=("diffkit:ddim",))):
            registry = acme.registry()
        with pytest.raises(ComponentError, match=r"'diffkit:ddim' cannot be used: the command line denies"):
            registry.create("sampler", "ddim")
        assert registry.create("sampler", "adams")

    def test_the_command_line_weighs_more_than_the_file(
        self, acme: Any, user_file: Callable[[str], Path]
    ) -> None:
        user_file('deny = ["acme", "rival-co"]')
        with using(Policy(deny=("acme:twin",), allow=("acme",))):
            found = statuses(acme.registry())
        assert found["acme:a-one"] == "registered"
        assert found["acme:twin"] == "denied"
        with using(Policy(deny=("acme:twin",))):  # of the rest it says nothing
            found = statuses(acme.registry())
        assert found["acme:a-one"] == found["Rival_Co:twin"] == "denied"

    def test_a_denied_rival_shares_no_name(self, acme: Any) -> None:
        assert statuses(acme.registry())["acme:twin"] == "duplicate"
        with using(Policy(deny=("rival-co",))):
            registry = acme.registry()
        assert registry.find("sampler", "twin").identity == "acme:twin"

    def test_hooks_and_commands_of_the_denied_are_not_there(self, acme: Any) -> None:
        for group, key in (("diffkit.hooks", "watch"), ("diffkit.commands", "a-greet")):
            assert ("acme", key) in [(d, n) for d, n, _ in entry_points(group)]
            with using(Policy(deny=("acme",))):
                assert "acme" not in {d for d, _, _ in entry_points(group)}
        with using(Policy(allow=("nobody",))):
            hooks.installed.__wrapped__()  # would warn, which is an error, if it met the trap


class TestTheFile:
    def test_it_is_found_and_named_in_the_reason(self, acme: Any, user_file: Callable[[str], Path]) -> None:
        path = user_file('deny = ["acme"]')
        with pytest.raises(ComponentError) as caught:
            acme.registry().create("sampler", "a-one")
        assert f"The sampler 'acme:a-one' cannot be used: {path} denies 'acme'" in str(caught.value)
        assert "acme_trap" not in sys.modules

    def test_it_stands_in_the_user_s_folder(
        self, acme: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DIFFKIT_CONFIG")
        monkeypatch.setattr("click.get_app_dir", lambda name: str(tmp_path / name))
        assert denials()("acme", "a-one") == ""
        (tmp_path / "diffkit").mkdir()
        (tmp_path / "diffkit" / "config.toml").write_text('allow = ["rival-co"]')
        assert denials()("acme", "a-one").endswith("config.toml allows only rival-co")

    @pytest.mark.parametrize(
        "text", ["deny = 3", "deny = [1]", "denied = ['acme']", "deny = ['acme'", "[deny]\nacme = true"]
    )
    def test_a_file_that_is_not_understood_lets_nothing_through(
        self, acme: Any, user_file: Callable[[str], Path], text: str
    ) -> None:
        path = user_file(text)
        with pytest.raises(ConfigError, match=str(path)):
            acme.registry()

    def test_a_home_that_may_not_be_looked_into_holds_no_word(
        self, acme: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.delenv("DIFFKIT_CONFIG")
        monkeypatch.setattr("click.get_app_dir", lambda name: str(tmp_path / "closed"))
        monkeypatch.setattr(Path, "stat", forbidden)
        assert denials()("acme", "a-one") == ""

    def test_a_file_that_is_named_must_be_there(self, acme: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIFFKIT_CONFIG", "nowhere.toml")
        with pytest.raises(ConfigError, match=r"nowhere\.toml"):
            acme.registry()


class TestTheCommandLine:
    def test_the_denied_are_listed_with_the_reason_and_never_imported(self, diffkit_: Any, acme: Any) -> None:
        for more in ((), ("--verify",)):
            status, out, _ = diffkit_(
                "--deny", "acme", "--deny", "rival-co:twin", "list", "sampler", "--json", *more
            )
            rows = {f"{row['distribution']}:{row['name']}": row for row in json.loads(out)}
            assert status == 0
            assert rows["acme:a-one"]["status"] == rows["Rival_Co:twin"]["status"] == "denied"
            assert rows["acme:a-one"]["reason"] == "the command line denies 'acme'"
            assert rows["Rival_Co:r-one"]["status"] == ("broken" if more else "registered")
            if not more:
                continue
            assert {row["status"] for row in rows.values() if row["distribution"] == "diffkit"} == {"ok"}

    def test_they_are_refused_with_the_reason(self, diffkit_: Any, acme: Any, tmp_path: Path) -> None:
        for command in (("show", "sampler", "a-one"), ("check", "sampler", "a-one")):
            status, out, err = diffkit_("--allow", "rival-co", *command)
            assert (status, out) == (2, "")
            assert "'acme:a-one' cannot be used: the command line allows only rival-co" in err
        (tmp_path / "c.yaml").write_text(json.dumps(CONFIG | {"sampling": {"sampler": "a-one"}}))
        status, _, err = diffkit_("--deny", "acme", "run", str(tmp_path / "c.yaml"), "--dry-run")
        assert status == 2
        assert "sampling.sampler: The sampler 'acme:a-one' cannot be used" in err

    def test_commands_of_the_denied_are_unknown(self, diffkit_: Any, acme: Any) -> None:
        status, _, err = diffkit_("--deny", "acme", "a-greet")
        assert status == 2
        assert "No such command 'a-greet'" in err
        assert "a denied plugin was imported" in diffkit_("a-greet")[2]

    def test_a_policy_ends_with_its_command(self, diffkit_: Any, acme: Any) -> None:
        diffkit_("--deny", "diffkit", "list")
        assert denials()("diffkit", "ddim") == ""


@pytest.mark.parametrize("key", ["allow", "deny", "policy", "plugins"])
def test_a_run_s_configuration_has_no_say(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is no known key"):
        ExperimentConfig.from_mapping({**CONFIG, key: ["acme"]})
