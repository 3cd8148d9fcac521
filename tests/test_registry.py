"""Discovery, names, loading, making and describing components."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

import diffkit
from diffkit.component import parameter
from diffkit.errors import ComponentError, ConfigError
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.registry import KINDS, components, create, current, describe, load, origin, using, verify
from diffkit.structure import fill, plain

SAMPLER = """
from __future__ import annotations
import attrs
from diffkit.component import parameter
from diffkit.interfaces.sampler import Sampler

@attrs.frozen(kw_only=True)
class Mine(Sampler):
    strength: float = parameter("how hard", 0.5)

    def step(self, problem, x, t, s, carry, noise):
        return x, carry
"""


def one_sampler(site: Any, distribution: str, name: str, module: str, source: str = SAMPLER) -> None:
    site.install(distribution, {"diffkit.samplers": {name: f"{module}:Mine"}}, {module: source})


class TestListing:
    def test_the_built_ins_are_registered_like_anyones(self) -> None:
        own = [info for info in components() if info.distribution == "diffkit"]
        assert {"vp", "dpm-solver++", "linear"} <= {info.name for info in own}
        assert {(info.status, info.version) for info in own} == {("registered", diffkit.__version__)}
        assert {info.kind for info in own} <= set(KINDS)
        assert {info.kind for info in components("sde")} == {"sde"}

    def test_there_are_eleven_kinds_and_each_has_an_interface(self) -> None:
        assert len(KINDS) == 11
        for kind in KINDS.values():
            module, _, name = kind.interface.partition(":")
            assert isinstance(getattr(__import__(module, fromlist=[name]), name), type)
        assert KINDS["features"].group == "diffkit.features"
        assert KINDS["schedule"].group == "diffkit.schedules"

    def test_three_hundred_components_are_listed_fast_and_nothing_is_imported(self, site: Any) -> None:
        for number in range(100):
            names = {f"s-{number}-{i}": f"crowd_{number}:Mine" for i in range(3)}
            site.install(
                f"crowd-{number}", {"diffkit.samplers": names}, {f"crowd_{number}": "raise SystemExit"}
            )
        before = set(sys.modules)
        start = time.process_time()
        infos = site.registry().components("sampler")
        elapsed = time.process_time() - start
        assert sum(info.distribution.startswith("crowd-") for info in infos) == 300
        assert not {name for name in set(sys.modules) - before if name.startswith("crowd")}
        assert elapsed < 2.0

    def test_of_one_distribution_found_twice_the_first_on_the_path_counts(
        self, site: Any, tmp_path: Path
    ) -> None:
        later = type(site)(tmp_path / "later")
        one_sampler(site, "Twice_Found", "mine", "first_copy")
        later.install("twice-found", {"diffkit.samplers": {"mine": "x:Y", "old": "x:Y"}}, version="0.1")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(later.path))
            patch.syspath_prepend(str(site.path))
            found = [i for i in site.registry().components("sampler") if "wice" in i.distribution]
        assert [(i.name, i.version, i.status) for i in found] == [("mine", "1.0", "registered")]

    def test_a_newer_copy_without_components_hides_an_older_one_with_some(
        self, site: Any, tmp_path: Path
    ) -> None:
        later = type(site)(tmp_path / "later")
        site.install("moved-on", {"console_scripts": {"x": "y:z"}}, version="2.0")
        later.install("moved-on", {"diffkit.samplers": {"mine": "x:Y"}}, version="1.0")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path, str(later.path)])
            assert not [i for i in site.registry().components() if i.distribution == "moved-on"]

    def test_damaged_installations_do_not_spoil_the_list(self, site: Any) -> None:
        site.install("headless", {"diffkit.samplers": {"mine": "m:C"}})
        (site.path / "headless-1.0.dist-info" / "METADATA").unlink()
        site.install("garbled", {"diffkit.samplers": {"mine": "m:C"}})
        (site.path / "garbled-1.0.dist-info" / "entry_points.txt").write_bytes(
            b"[diffkit.samplers]\n\xff\xfe = m:C"
        )
        names = {info.identity for info in site.registry().components("sampler")}
        assert "diffkit:ddim" in names
        assert "unnamed:mine" in names

    @pytest.mark.parametrize(
        "group, name, value, said",
        [
            ("diffkit.samplers", "My_Sampler", "m:C", "kebab-case"),
            ("diffkit.samplers", "Upper", "m:C", "kebab-case"),
            ("diffkit.samplers", "-edge", "m:C", "kebab-case"),
            ("diffkit.samplers", "no-class", "m", "module:Class"),
            ("diffkit.samplers", "no-value", "", "module:Class"),
            ("diffkit.sampler", "wrong-group", "m:C", "Did you mean 'diffkit.samplers'?"),
        ],
    )
    def test_bad_metadata_are_a_row_with_the_reason(
        self, site: Any, group: str, name: str, value: str, said: str
    ) -> None:
        site.install("odd", {group: {name: value}})
        (row,) = [info for info in site.registry().components() if info.distribution == "odd"]
        assert (row.name, row.status) == (name, "bad-metadata")
        assert said in row.reason

    def test_a_name_registered_twice_by_one_distribution_is_bad_metadata(self, site: Any) -> None:
        site.install("odd", {"diffkit.samplers": {"twin": "m:C", "twin ": "m:D"}})
        (row,) = [info for info in site.registry().components() if info.distribution == "odd"]
        assert row.status == "bad-metadata"
        assert "2 times" in row.reason

    @pytest.mark.parametrize("name", ["dpm-solver++", "sub-vp", "v1.5", "k4"])
    def test_names_in_kebab_case_are_legal(self, site: Any, name: str) -> None:
        site.install("tidy", {"diffkit.networks": {name: "pack.module:Outer.Inner [extra]"}})
        (row,) = [info for info in site.registry().components() if info.distribution == "tidy"]
        assert (row.status, row.value) == ("registered", "pack.module:Outer.Inner")

    def test_another_version_of_the_interface_is_refused(self, site: Any) -> None:
        groups = {"diffkit.api": {"sampler": "v2", "grid": "v1"}, "diffkit.grids": {"even": "m:C"}}
        site.install(
            "ahead", groups | {"diffkit.samplers": {"mine": "ahead_module:Mine"}}, {"ahead_module": SAMPLER}
        )
        registry = site.registry()
        rows = {i.name: i.status for i in registry.components() if i.distribution == "ahead"}
        assert rows == {"mine": "api-mismatch", "even": "registered"}
        with pytest.raises(ComponentError, match=r"ahead:mine.*v2.*v1"):
            registry.load("sampler", "mine")


class TestNames:
    def test_unknown_names_are_met_with_the_nearest_and_with_all(self) -> None:
        with pytest.raises(
            ComponentError, match=r"There is no sampler 'dpm-solver'.*ddim.*Did you mean 'dpm-solver\+\+'"
        ):
            load("sampler", "dpm-solver")
        with pytest.raises(ComponentError, match="Did you mean 'sampler'"):
            components("samplers")
        with pytest.raises(ComponentError, match="There is no sde 'diffkitt:vp'"):
            load("sde", "diffkitt:vp")

    def test_a_shared_name_is_an_error_that_names_both_and_what_to_write(self, site: Any) -> None:
        one_sampler(site, "plug-one", "mine", "plug_one")
        one_sampler(site, "plug-two", "mine", "plug_two")
        registry = site.registry()
        assert [i.status for i in registry.components("sampler") if i.name == "mine"] == ["duplicate"] * 2
        with pytest.raises(
            ComponentError, match=r"plug-one 1.0 and plug-two 1.0.*'plug-one:mine' or 'plug-two:mine'"
        ):
            registry.load("sampler", "mine")
        two = registry.create("sampler", "Plug_Two:mine")
        assert type(two).__module__ == "plug_two"
        assert registry.describe(two) == {"name": "plug-two:mine", "strength": 0.5}
        assert registry.create("sampler", registry.describe(two)) == two

    def test_a_built_in_is_not_shadowed_silently(self, site: Any) -> None:
        one_sampler(site, "pirate", "ddim", "pirate")
        registry = site.registry()
        with pytest.raises(ComponentError, match=r"diffkit:ddim.*pirate:ddim"):
            registry.load("sampler", "ddim")
        assert registry.load("sampler", "diffkit:ddim").__module__.startswith("diffkit_standard")

    def test_the_same_name_in_two_kinds_is_no_clash(self, site: Any) -> None:
        one_sampler(site, "polyglot", "vp", "polyglot")
        registry = site.registry()
        assert registry.find("sde", "vp").status == "registered"
        assert registry.find("sampler", "vp").status == "registered"


BROKEN = {
    "import-error": (
        "import no_such_module_anywhere",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "no-attribute": ("Other = 1", "has no attribute 'Mine'"),
    "function": ("def Mine(): pass", "it is a function, not a class"),
    "stranger": ("class Mine: pass", "not a subclass of diffkit.interfaces.sampler.Sampler"),
    "abstract": (SAMPLER.replace("def step", "def stride"), "leaves abstract: step"),
    "plain": (SAMPLER.replace("@attrs.frozen(kw_only=True)", ""), "not an attrs class"),
    "unresolved": (
        SAMPLER.replace("strength: float", "strength: Flaot"),
        "types of its fields cannot be resolved",
    ),
    "reserved": (SAMPLER.replace("strength: float", "name: float"), "field called `name`"),
}


class TestBrokenPlugins:
    @pytest.mark.parametrize("case", BROKEN)
    def test_it_fails_whoever_names_it_with_the_plugin_and_the_reason(self, site: Any, case: str) -> None:
        source, reason = BROKEN[case]
        module = f"broken_{case.replace('-', '_')}"
        one_sampler(site, "wreck", "mine", module, source)
        registry = site.registry()
        assert registry.create("sampler", "ddim")
        with pytest.raises(ComponentError) as caught:
            registry.create("sampler", "mine")
        assert reason in str(caught.value)
        assert f"'mine' of wreck 1.0 ({module}:Mine)" in str(caught.value)

    def test_the_user_s_interrupt_is_not_swallowed(self, site: Any) -> None:
        one_sampler(site, "wreck", "mine", "interrupted", "raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            site.registry().load("sampler", "mine")

    def test_an_error_of_its_own_while_it_is_made_names_it_too(self, site: Any) -> None:
        source = SAMPLER + "    def __attrs_post_init__(self):\n        raise ZeroDivisionError('oops')\n"
        one_sampler(site, "wreck", "mine", "dividing", source)
        with pytest.raises(ComponentError, match=r"wreck 1\.0 .*ZeroDivisionError: oops"):
            site.registry().create("sampler", "mine")

    def test_what_it_prints_on_import_stays_off_stdout(self, site: Any, capsys: Any) -> None:
        one_sampler(site, "chatty", "mine", "chatty", SAMPLER + "print('hello')\n")
        site.registry().load("sampler", "mine")
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        "source, reason",
        [
            (SAMPLER, ""),
            ("import os; os._exit(0)", "ended the process with status 0"),
            ("raise SystemExit('bye')", "SystemExit: bye"),
            ("import time; time.sleep(60)", "took longer than 2 s"),
        ],
    )
    def test_verify_survives_whatever_an_import_does(self, site: Any, source: str, reason: str) -> None:
        verify(components("sampler")[0])  # the children's ancestor is started, and outside the time limit
        one_sampler(site, "trial", "mine", "trial_module", source)
        status, said = verify(site.registry().find("sampler", "mine"), timeout=2.0)
        assert status == ("broken" if reason else "ok")
        assert reason in said


class TestMaking:
    def test_a_name_a_mapping_and_an_object_do(self) -> None:
        plain = create("sde", "vp")
        assert create("sde", {"name": "vp"}) == plain
        assert create("sde", "diffkit:vp") == plain
        assert create("sde", plain) is plain
        assert create("sde", {"name": "vp", "schedule": "cosine"}) == create("sde", "vp", schedule="cosine")
        assert create("sde", "vp", schedule=create("schedule", "cosine")) == create(
            "sde", "vp", schedule="cosine"
        )

    def test_nested_components_are_made_from_mappings(self) -> None:
        sde = create("sde", "vp", schedule={"name": "linear", "beta_max": 10})
        assert sde.schedule == create("schedule", "linear", beta_max=10.0)
        assert isinstance(sde.schedule.beta_max, float)

    def test_keywords_win_over_the_mapping(self) -> None:
        assert create("sde", {"name": "vp", "schedule": "linear"}, schedule="cosine").schedule == create(
            "schedule", "cosine"
        )

    def test_fields_cannot_be_set_on_an_object(self) -> None:
        with pytest.raises(
            ConfigError, match=r"sde is an object already, and schedule cannot be set.*attrs\.evolve"
        ):
            create("sde", create("sde", "vp"), schedule="linear")

    @pytest.mark.parametrize(
        "spec, said",
        [
            (3, "sde is 3. It takes a sde"),
            (None, "sde is None"),
            ({"schedule": "linear"}, "without a `name`"),
            ({"name": 3}, "the name 3"),
            ({"name": "vp", "shedule": "linear"}, r"sde\.shedule is no known key.*Did you mean 'schedule'"),
            ({"name": "vp", "schedule": "lineer"}, r"sde\.schedule: There is no schedule 'lineer'.*'linear'"),
            (
                {"name": "vp", "schedule": {"name": "linear", "beta_max": "x"}},
                r"sde\.schedule\.beta_max is the text 'x'",
            ),
            ({"name": "vp", "schedule": None}, r"sde\.schedule"),
        ],
    )
    def test_what_is_wrong_is_said_with_the_whole_path(self, spec: Any, said: str) -> None:
        with pytest.raises((ConfigError, ComponentError), match=said):
            create("sde", spec)

    def test_a_component_of_another_kind_is_no_answer(self) -> None:
        with pytest.raises(ConfigError, match=r"sde is .*It takes a sde"):
            create("sde", create("schedule", "linear"))

    def test_a_field_may_ask_for_more_than_the_interface(self) -> None:
        record = attrs.make_class("Record", {"sde": attrs.field(type=GaussianSDE)}, frozen=True, kw_only=True)
        assert fill(record, {"sde": "vp"}, "", current().make).sde == create("sde", "vp")  # type: ignore[attr-defined]
        narrow = attrs.make_class("Narrow", {"sde": attrs.field(type=load("sde", "vp"))}, frozen=True)
        with pytest.raises(ConfigError, match=r"sde is 've', a VE. It takes a VP"):
            fill(narrow, {"sde": "ve"}, "", current().make)


def at_least_low(record: Any, attribute: Any, value: float) -> None:
    if value < record.low:
        raise ValueError("the upper end lies below the lower one")


@attrs.frozen(kw_only=True)
class Typed:
    """One field for each type a component may use."""

    whole: int = parameter("a number", 3, validator=attrs.validators.ge(1))
    real: float = parameter("a number", 1)
    either: float | Literal["auto"] = parameter("a number", "auto")
    label: int | tuple[int, ...] | Literal["each"] = parameter("which", 0)
    flag: bool = parameter("yes or no", False)
    path: Path | None = parameter("where", None)
    pair: tuple[float, float] = parameter("two ends", (0, 1))
    mode: Literal["grey", "rgb"] = parameter("which", "grey")
    order: Literal[1, 2] = parameter("which", 1)
    schedules: tuple[Schedule, ...] = parameter("several", ())
    process: SDE | None = parameter("one or none", None)
    low: float = parameter("lower end", 0.0)
    high: float = parameter("upper end", 1.0, validator=at_least_low)


def typed(**values: Any) -> Typed:
    return fill(Typed, values, "", current().make)


class TestTypes:
    def test_defaults_are_taken_like_values(self) -> None:
        record = typed()
        assert record.pair == (0.0, 1.0)
        assert isinstance(record.real, float)
        assert all(isinstance(end, float) for end in record.pair)

    @pytest.mark.parametrize(
        "key, value, taken",
        [
            ("whole", 7, 7),
            ("real", 2, 2.0),
            ("real", float("inf"), float("inf")),
            ("either", 2, 2.0),
            ("either", "auto", "auto"),
            ("label", [1, 2], (1, 2)),
            ("label", "each", "each"),
            ("label", 4, 4),
            ("path", "a/b", Path("a/b")),
            ("path", None, None),
            ("pair", [1, 2], (1.0, 2.0)),
            ("mode", "rgb", "rgb"),
            ("flag", True, True),
            ("process", None, None),
        ],
    )
    def test_a_value_of_the_right_type_is_taken(self, key: str, value: Any, taken: Any) -> None:
        got = getattr(typed(**{key: value}), key)
        assert (got, type(got)) == (taken, type(taken))

    def test_components_in_lists_and_unions(self) -> None:
        record = typed(schedules=["linear", {"name": "cosine"}], process="vp")
        assert record.schedules == (create("schedule", "linear"), create("schedule", "cosine"))
        assert record.process == create("sde", "vp")

    @pytest.mark.parametrize(
        "key, value, said",
        [
            ("whole", "3", r"whole is the text '3'\. It takes int, by default 3 \(a number\)"),
            ("whole", True, "whole is true. It takes int"),
            ("whole", 3.0, r"whole is 3\.0"),
            ("whole", None, "whole is null"),
            ("whole", 0, "whole is 0, but 'whole' must be >= 1"),
            ("real", "3", "real is the text '3'"),
            ("real", False, "real is false"),
            ("real", float("nan"), "real is nan"),
            ("either", "aut", "either is the text 'aut'. It takes float or 'auto'"),
            ("either", True, "either is true"),
            ("label", [1, "x"], r"label\[1\] is the text 'x'"),
            ("label", 1.5, "label is 1.5. It takes int or list of int or 'each'"),
            ("flag", 1, "flag is 1. It takes bool"),
            ("flag", "yes", "flag is the text 'yes'"),
            ("path", 3, "path is 3. It takes path or null"),
            ("pair", [1], r"pair is \[1\]. It takes list of \(float, float\)"),
            ("pair", [1, 2, 3], r"pair is \[1, 2, 3\]"),
            ("pair", "ab", "pair is the text 'ab'"),
            ("order", True, "order is true. It takes 1 or 2"),
            ("order", 2.0, r"order is 2\.0"),
            ("mode", "grid", "mode is the text 'grid'. It takes 'grey' or 'rgb'. Did you mean 'grey'"),
            ("mode", 1, "mode is 1"),
            ("schedules", "linear", "schedules is the text 'linear'. It takes list of schedule"),
            ("schedules", ["linear", "x"], r"schedules\[1\]: There is no schedule 'x'"),
            ("process", "vq", r"process: There is no sde 'vq'"),
            ("high", -1, "high is -1.0, but the upper end lies below the lower one"),
            ("whol", 3, "whol is no known key.*Did you mean 'whole'"),
        ],
    )
    def test_anything_else_is_refused_by_name(self, key: str, value: Any, said: str) -> None:
        with pytest.raises((ConfigError, ComponentError), match=said):
            typed(**{key: value})

    def test_a_whole_number_stays_whole_under_a_union(self) -> None:
        record = attrs.make_class("R", {"value": attrs.field(type=float | int)}, frozen=True)
        assert type(fill(record, {"value": 3}, "", current().make).value) is int  # type: ignore[attr-defined]


def default_instances() -> list[tuple[str, str]]:
    made = []
    for info in components():
        try:
            create(info.kind, info.name)
        except ConfigError:
            continue
        made.append((info.kind, info.name))
    return made


class TestDescribing:
    def test_describe_is_the_inverse_of_create_for_every_built_in(self) -> None:
        instances = default_instances()
        assert ("sampler", "ddim") in instances
        for kind, name in instances:
            component = create(kind, name)
            described = describe(component)
            assert (described if isinstance(described, str) else described["name"]) == name
            assert create(kind, described) == component

    def test_every_field_is_written_out(self) -> None:
        described = describe(create("sde", "vp", schedule={"name": "linear", "beta_max": 10.0}))
        assert isinstance(described, dict)
        assert described["schedule"]["name"] == "linear"
        assert described["schedule"]["beta_max"] == 10.0
        assert set(described["schedule"]) == {"name", *attrs.fields_dict(load("schedule", "linear"))}

    def test_where_a_component_came_from(self, site: Any) -> None:
        assert origin(create("sde", "vp")).identity == "diffkit:vp"
        one_sampler(site, "plug-one", "mine", "origin_module")
        registry = site.registry()
        info = registry.origin(registry.create("sampler", "mine"))
        assert (info.distribution, info.version, info.name) == ("plug-one", "1.0", "mine")

    def test_a_class_that_an_entry_point_finds_by_another_way_is_known(self, site: Any) -> None:
        site.install(
            "re-export",
            {"diffkit.samplers": {"mine": "reexported:Mine"}},
            {"reexported": "from reexported_impl import Mine", "reexported_impl": SAMPLER},
        )
        registry = site.registry()
        assert registry.describe(registry.create("sampler", "mine")) == {"name": "mine", "strength": 0.5}

    def test_an_object_of_no_entry_point_is_described_by_its_class(self, site: Any) -> None:
        (site.path / "loose.py").write_text(SAMPLER)
        import loose  # type: ignore[import-not-found]

        assert describe(loose.Mine()) == {"name": "loose:Mine", "strength": 0.5}
        assert origin(loose.Mine()).status == "unregistered"


class TestLocalFiles:
    def test_a_class_of_a_file_is_named_after_itself_and_carries_the_checksum(self, tmp_path: Path) -> None:
        import hashlib

        file = tmp_path / "own.py"
        file.write_text(SAMPLER.replace("class Mine", "class MyODESampler"))
        with using(current().with_file(f"{file}:MyODESampler")):
            component = create("sampler", "my-ode-sampler", strength=1)
            info = origin(component)
            assert component.strength == 1.0
            assert (info.kind, info.distribution) == ("sampler", "own.py")
            assert info.version == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
            assert describe(component) == {"name": "my-ode-sampler", "strength": 1.0}
        with pytest.raises(ComponentError, match="There is no sampler 'my-ode-sampler'"):
            create("sampler", "my-ode-sampler")

    def test_it_does_not_shadow_either(self, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(SAMPLER.replace("class Mine", "class Ddim"))
        with (
            using(current().with_file(f"{file}:Ddim")),
            pytest.raises(ComponentError, match=r"diffkit:ddim.*own\.py:ddim"),
        ):
            create("sampler", "ddim")

    @pytest.mark.parametrize(
        "source, plugin, said",
        [
            ("", "missing.py:Mine", "no class of a local file"),
            ("", "own.py", "no class of a local file"),
            ("raise SystemExit(1)", "own.py:Mine", "SystemExit"),
            ("", "own.py:Mine", "has no attribute 'Mine'"),
            ("class Mine: pass", "own.py:Mine", "implements none of diffkit's interfaces"),
        ],
    )
    def test_what_is_no_component_is_refused(
        self, tmp_path: Path, monkeypatch: Any, source: str, plugin: str, said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("own.py").write_text(source)
        with pytest.raises(ComponentError, match=said):
            current().with_file(plugin)


def test_a_set_is_written_in_one_order_in_every_process() -> None:
    words = [f"word {number}" for number in range(100)]
    assert plain(frozenset(reversed(words)), str) == sorted(words)
