"""What components provide and require of each other, and what follows."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import pytest
import torch

from diffkit import hooks
from diffkit.compatibility import CAPABILITIES, Finding, Selection, check, matrix, require, with_schedule
from diffkit.component import Requirement, parameter
from diffkit.config import ExperimentConfig, selection_of
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.network import Network
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import GaussianSDE
from diffkit.registry import components, create, using
from diffkit.selection import nested


@attrs.frozen(kw_only=True)
class Wanting(Conditioner):
    """Asks for whatever it is told to."""

    wants: tuple[str, ...] = parameter("capabilities", ())
    warns: str = parameter("a caveat", "")

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return tuple(Requirement(word, f"it wants {word}", f"take one with {word}") for word in self.wants)

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        return (self.warns,) if self.warns else ()


@attrs.frozen(kw_only=True)
class Wrapper(Conditioner):
    """Holds another component."""

    inner: Conditioner = parameter("what it holds", factory=Wanting)


@attrs.frozen(kw_only=True)
class Mute(Network):
    """Takes no labels."""

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> Any:
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class Flat(Schedule):
    """B(t) = level t, for processes whose prior is wrong by a known amount."""

    level: float = parameter("B at the end", 1.0)

    def rate(self, t: Any) -> Any:
        return torch.full_like(t, self.level)

    def integral(self, t: Any) -> Any:
        return self.level * t

    def time(self, integral: Any) -> Any:
        return integral / self.level


def words(*names: str) -> frozenset[str]:
    return frozenset(names)


class TestRequirements:
    def test_ve_is_refused_with_the_exponential_integrator_and_told_why(self) -> None:
        findings = check(Selection.of(create("sde", "ve"), create("sampler", "exponential-integrator")))
        refused = [finding for finding in findings if finding.status == "refused"]
        assert [(f.subject, f.object) for f in refused] == [("exponential-integrator", "ve")]
        assert "drift" in refused[0].reason
        assert "ddim" in refused[0].remedy

    def test_the_error_says_both_names_reason_and_remedy_in_one_paragraph(self) -> None:
        selection = Selection.of(create("sde", "ve"), create("sampler", "exponential-integrator"))
        with pytest.raises(
            IncompatibleError, match=r"'exponential-integrator' and 've' cannot be combined.*drift.*ddim"
        ):
            require(selection)

    def test_every_refusal_is_in_the_error(self) -> None:
        wanting = Wanting(wants=("model.labels", "model.energy"))
        with pytest.raises(
            IncompatibleError, match=r"it wants|It wants model\.labels.*It wants model\.energy"
        ):
            require(Selection.of(wanting, model=words("model.denoise")))

    def test_a_requirement_holds_only_against_suppliers_that_are_there(self) -> None:
        wanting = Wanting(wants=("sde.linear-drift", "model.labels", "dataset.labels"))
        assert check(Selection.of(wanting)) == []
        assert len(check(Selection.of(wanting, create("sde", "ve")))) == 1
        assert len(check(Selection.of(wanting, model=words()))) == 1
        assert len(check(Selection.of(wanting, data=words()))) == 1
        assert check(Selection.of(wanting, create("sde", "vp"), model=words("model.labels"))) == []

    def test_capabilities_belong_to_the_configured_instance(self) -> None:
        wanting = Wanting(wants=("sampler.deterministic",))
        assert check(Selection.of(wanting, create("sampler", "ddim", eta=0.0))) == []
        assert check(Selection.of(wanting, create("sampler", "ddim", eta=1.0))) != []

    def test_third_party_capabilities_need_no_permission(self) -> None:
        (finding,) = check(Selection.of(Wanting(wants=("sde.acme:twist",)), create("sde", "vp")))
        assert (finding.status, finding.reason) == ("refused", "it wants sde.acme:twist")

    def test_a_requirement_without_words_is_explained_from_the_table(self) -> None:
        @attrs.frozen(kw_only=True)
        class Terse(Conditioner):
            @property
            def requires(self) -> tuple[Requirement, ...]:
                return (Requirement("model.labels"),)

        (finding,) = check(Selection.of(Terse(), model=words()))
        assert CAPABILITIES["model.labels"] in finding.reason

    def test_the_schedule_inside_a_process_supplies_and_requires(self) -> None:
        sde = create("sde", "vp")
        assert check(Selection.of(sde)) == []
        assert check(Selection.of(Wanting(wants=("schedule.preserving",)), sde)) == []
        assert [f.status for f in check(Selection.of(create("sde", "vp", schedule="geometric")))] == [
            "refused"
        ]

    def test_what_a_nested_component_requires_counts(self) -> None:
        deep = Wrapper(inner=Wrapper(inner=Wanting(wants=("model.labels",), warns="mind it")))
        assert [kind for kind, _ in nested(deep)] == ["conditioner", "conditioner"]
        assert [f.status for f in check(Selection.of(deep, model=words()))] == ["refused", "caveat"]

    def test_labels_need_a_network_that_takes_them(self) -> None:
        labelled = words("model.denoise", "model.labels")
        assert [f.status for f in check(Selection.of(Mute(), model=labelled))] == ["refused"]
        assert check(Selection.of(Mute(), model=words("model.denoise"))) == []
        assert check(Selection.of(create("network", "unet"), model=labelled)) == []

    def test_statistics_of_the_batch_are_said_where_it_is_computed_in_parts(self) -> None:
        network = create("network", "residual-unet")
        assert check(Selection.of(network)) == []
        (finding,) = check(Selection.of(network, parts=3))
        assert (finding.status, finding.subject) == ("caveat", "residual-unet")
        assert "3 parts" in finding.reason
        assert check(Selection.of(create("network", "unet"), parts=3)) == []

    def test_gradient_accumulation_is_in_parts(self) -> None:
        given = {"name": "parts", "dataset": "digits", "network": {"name": "residual-unet", "widths": [8]}}
        for parts, said in ((1, []), (4, ["residual-unet"])):
            config = ExperimentConfig.from_mapping(given, [f"training.gradient_accumulation={parts}"])
            assert [finding.subject for finding in check(selection_of(config))] == said

    def test_every_capability_of_the_built_ins_is_in_the_table(self) -> None:
        known = set(CAPABILITIES)
        for info in components():
            try:
                component = create(info.kind, info.name)
            except ConfigError:
                continue
            used = component.provides | {requirement.capability for requirement in component.requires}
            assert {word for word in used if ":" not in word} <= known, info.identity
            assert all(requirement.reason for requirement in component.requires), info.identity


class TestCaveats:
    def test_a_component_s_own_are_collected_after_refusals(self) -> None:
        selection = Selection.of(Wanting(wants=("model.labels",), warns="slow"), model=words())
        findings = check(selection)
        assert [(f.status, f.reason) for f in findings] == [
            ("refused", "it wants model.labels"),
            ("caveat", "slow"),
        ]

    def test_a_model_of_classes_that_is_asked_for_none_is_told_of(self) -> None:
        def said(model: frozenset[str], *bends: Any) -> list[str]:
            chosen = Selection.of(create("sampler", "ddim"), *bends, model=model)
            return [finding.remedy for finding in check(chosen)]

        draws = words("model.denoise", "model.labels")
        assert "class-guidance" in said(draws)[0]
        assert said(draws, create("conditioner", "class-guidance", label=1, scale=1.0)) == []
        assert said(words("model.denoise")) == []
        assert check(Selection.of(create("schedule", "linear"), model=draws)) == []

    def test_caveats_do_not_stop_anything(self) -> None:
        assert [f.reason for f in require(Selection.of(Wanting(warns="slow")))] == ["slow"]

    @pytest.mark.parametrize("sigma_squared, said", [(49.0, True), (51.0, False)])
    def test_a_prior_that_misses_the_truth_is_said_with_the_number(
        self, sigma_squared: float, said: bool
    ) -> None:
        # For VE alpha = 1 and sigma^2 = B: the bound is 1 / (2 B), to be held against 0.01.
        findings = check(Selection.of(create("sde", "ve", schedule=Flat(level=sigma_squared))))
        assert bool(findings) == said
        if said:
            (number,) = re.findall(r"up to ([\d.]+) nats", findings[0].reason)
            assert float(number) == pytest.approx(1.0 / (2.0 * sigma_squared), rel=0.05)

    def test_the_signal_that_is_left_is_part_of_the_number(self) -> None:
        # For VP alpha^2 = exp(-B) and sigma^2 = 1 - exp(-B).
        @attrs.frozen(kw_only=True)
        class Preserving(Flat):
            provides = frozenset({"schedule.preserving"})

        (finding,) = check(Selection.of(create("sde", "vp", schedule=Preserving(level=1.0))))
        (number,) = re.findall(r"up to ([\d.]+) nats", finding.reason)
        assert float(number) == pytest.approx(0.5 / math.expm1(1.0), rel=0.05)

    def test_the_usual_processes_are_clean_and_ve_with_a_slow_schedule_is_not(self) -> None:
        for name in ("vp", "sub-vp"):
            for schedule in ("linear", "cosine"):
                assert check(Selection.of(create("sde", name, schedule=schedule))) == []
        assert check(Selection.of(create("sde", "ve"))) == []
        for schedule in ("linear", "cosine"):
            (finding,) = check(Selection.of(create("sde", "ve", schedule=schedule)))
            assert (finding.status, finding.subject, finding.object) == ("caveat", "ve", schedule)

    def test_a_prior_of_its_own_is_not_judged(self) -> None:
        @attrs.frozen(kw_only=True)
        class Exact(GaussianSDE):
            def alpha(self, t: Any) -> Any:
                return torch.ones_like(t)

            def sigma(self, t: Any) -> Any:
                return t

            def prior(self, shape: Any, noise: Any, dtype: Any = None, device: Any = None) -> Any:
                raise NotImplementedError

        assert check(Selection.of(Exact())) == []


class TestSelection:
    def test_kinds_are_found_and_none_is_left_out(self) -> None:
        sde, sampler = create("sde", "vp"), create("sampler", "ddim")
        selection = Selection.of(sde, None, sampler, steps=5)
        assert selection.one("sde") is sde
        assert selection.all("sampler") == (sampler,)
        assert selection.one("grid") is None
        assert selection.all("schedule") == (sde.schedule,)

    def test_a_schedule_fills_the_process_or_is_refused(self) -> None:
        cosine = create("schedule", "cosine")
        assert with_schedule(create("sde", "vp"), cosine) == create("sde", "vp", schedule="cosine")

        @attrs.frozen(kw_only=True)
        class Bare(GaussianSDE):
            def alpha(self, t: Any) -> Any:
                return t

            def sigma(self, t: Any) -> Any:
                return t

        with pytest.raises(IncompatibleError, match=r"takes no schedule.*Leave the schedule out"):
            with_schedule(Bare(), cosine)


class TestMatrix:
    def test_each_cell_is_one_record_with_exactly_these_keys(self) -> None:
        table = matrix()
        assert {tuple(record) for record in table} == {("sde", "sampler", "status", "reason", "remedy")}
        assert len({(r["sde"], r["sampler"]) for r in table}) == len(table)

    def test_vp_and_sub_vp_go_with_every_sampler_of_theirs_and_ve_with_all_but_one(self) -> None:
        cells = {(r["sde"], r["sampler"]): r for r in matrix()}
        for sampler in ("euler-maruyama", "predictor-corrector", "probability-flow", "exponential-integrator",
                        "ddim", "dpm-solver++"):  # fmt: skip
            for sde in ("vp", "sub-vp"):
                assert cells[sde, sampler]["status"] == "allowed"
            refused = sampler == "exponential-integrator"
            assert cells["ve", sampler]["status"] == ("refused" if refused else "allowed")
        assert cells["ve", "exponential-integrator"]["reason"]
        assert "ddim" in cells["ve", "exponential-integrator"]["remedy"]

    def test_a_schedule_is_judged_inside_the_process_whichever_comes_first(self) -> None:
        one = {(r["sde"], r["schedule"]): r["status"] for r in matrix("sde", "schedule")}
        other = {(r["sde"], r["schedule"]): r["status"] for r in matrix("schedule", "sde")}
        assert one == other
        assert one["vp", "geometric"] == "refused"
        assert one["ve", "linear"] == "caveat"
        assert one["vp", "cosine"] == "allowed"

    def test_a_component_without_a_default_instance_has_one_row(self) -> None:
        rows = [r for r in matrix("sampler", "conditioner") if r["conditioner"] == "class-guidance"]
        assert [(r["sampler"], r["status"]) for r in rows] == [("*", "unset")]
        assert "label" in rows[0]["reason"]

    def test_a_kind_has_no_matrix_with_itself(self) -> None:
        with pytest.raises(ConfigError, match="two different kinds"):
            matrix("sde", "sde")

    def test_variants_whose_answer_differs_have_rows_of_their_own(self, site: Any) -> None:
        source = """
from __future__ import annotations
from typing import Literal
import attrs
from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler

@attrs.frozen(kw_only=True)
class Mine(Sampler):
    exact: bool = parameter("treat the drift exactly", False)
    mode: Literal["a", "b"] = parameter("no matter", "a")

    @property
    def requires(self):
        return (Requirement("sde.linear-drift", "exactness needs a drift"),) if self.exact else ()

    def step(self, problem, x, t, s, carry, noise):
        return x, carry
"""
        site.install(
            "varied", {"diffkit.samplers": {"mine": "varied_module:Mine"}}, {"varied_module": source}
        )
        with using(site.registry()):
            cells = {
                (r["sde"], r["sampler"]): r["status"] for r in matrix() if r["sampler"].startswith("mine")
            }
        assert cells["ve", "mine"] == "allowed"
        assert cells["ve", "mine[exact=True]"] == "refused"
        assert ("vp", "mine[exact=True]") not in cells
        assert not [key for key in cells if "mode" in key[1]]

    @pytest.mark.parametrize(
        "source, reason",
        [
            ("raise SystemExit(4)", "SystemExit: 4"),
            ("PROVIDES = 1", "AttributeError"),
        ],
    )
    def test_a_broken_plugin_is_one_row_and_hurts_nothing_else(
        self, site: Any, source: str, reason: str
    ) -> None:
        before = matrix()
        module = f"bad_{len(source)}"
        site.install("wreck", {"diffkit.samplers": {"mine": f"{module}:Mine"}}, {module: source})
        with using(site.registry()):
            after = matrix()
        extra = [record for record in after if record not in before]
        assert [(r["sde"], r["sampler"], r["status"]) for r in extra] == [("*", "mine", "broken")]
        assert reason in extra[0]["reason"]
        assert len(after) == len(before) + 1

    def test_a_plugin_whose_capabilities_fail_is_broken_too(self, site: Any) -> None:
        source = """
import attrs
from diffkit.interfaces.sampler import Sampler

@attrs.frozen(kw_only=True)
class Mine(Sampler):
    @property
    def requires(self):
        raise ZeroDivisionError("oops")

    def step(self, problem, x, t, s, carry, noise):
        return x, carry
"""
        site.install("wreck", {"diffkit.samplers": {"mine": "bad_words:Mine"}}, {"bad_words": source})
        with using(site.registry()):
            (row,) = [r for r in matrix() if r["sampler"] == "mine"]
        assert row["status"] == "broken"
        assert "ZeroDivisionError: oops" in row["reason"]


class Veto:
    """A hook plugin that refuses everything."""

    @hooks.implementation
    def diffkit_incompatibility(self, selection: Selection) -> list[Finding]:
        return [Finding("refused", "policy", "", "Not here"), Finding("caveat", "policy", "", "Careful")]


class Failing:
    """A hook plugin with a bug."""

    @hooks.implementation
    def diffkit_incompatibility(self, selection: Selection) -> None:
        raise ZeroDivisionError("oops")


class TestHooks:
    def test_a_veto_is_a_finding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        manager = hooks.Hooks()
        manager.register(Veto(), "acme:veto")
        monkeypatch.setattr(hooks, "installed", lambda: manager)
        with pytest.raises(IncompatibleError, match="Not here"):
            require(Selection.of(create("sde", "vp")))
        assert [f.status for f in check(Selection.of(create("sde", "vp")))] == ["refused", "caveat"]

    def test_a_failing_one_is_a_warning_that_names_it_and_the_others_are_heard(self) -> None:
        manager = hooks.Hooks()
        manager.register(Failing(), "acme:failing")
        manager.register(Veto(), "acme:veto")
        with pytest.warns(
            RuntimeWarning, match="'acme:failing' failed in diffkit_incompatibility: ZeroDivisionError"
        ):
            answers = manager.broadcast("diffkit_incompatibility", selection=Selection.of())
        assert len(answers) == 2

    def test_one_with_a_wrong_signature_is_left_out_by_name(self) -> None:
        class Wrong:
            @hooks.implementation
            def diffkit_train_step(self, step: Any) -> None: ...

        manager = hooks.Hooks()
        with pytest.warns(RuntimeWarning, match="'acme:wrong' cannot be used"):
            manager.register(Wrong(), "acme:wrong")
        assert manager.broadcast("diffkit_train_step", event=None, experiment=None) == []

    def test_installed_ones_are_loaded_and_broken_ones_named(self, site: Any) -> None:
        good = (
            "from diffkit.hooks import implementation\n\n"
            "@implementation\ndef diffkit_sample_step(event):\n    event.append('seen')\n"
        )
        site.install(
            "listeners",
            {"diffkit.hooks": {"good": "listener_good", "bad": "listener_bad"}},
            {"listener_good": good, "listener_bad": "raise SystemExit(2)"},
        )
        hooks.installed.cache_clear()
        try:
            seen: list[str] = []
            with pytest.warns(RuntimeWarning, match="'listeners:bad' cannot be imported: SystemExit"):
                hooks.broadcast("diffkit_sample_step", event=seen, experiment=None)
            assert seen == ["seen"]
        finally:
            hooks.installed.cache_clear()


def test_samplers_declare_themselves() -> None:
    for info in components("sampler"):
        sampler = create("sampler", info.name)
        assert isinstance(sampler, Sampler)
        assert ("sampler.stochastic" in sampler.provides) == sampler.stochastic


def test_what_fails_alone_is_not_told_of_a_pair_and_says_what_to_do() -> None:
    operator = {"name": "super-resolution", "factor": 3}
    restoration = create("conditioner", {"name": "restoration", "operator": operator})
    with pytest.raises(IncompatibleError, match=r"^'restoration' cannot work so\..*3\. Choose a `factor`"):
        require(Selection.of(restoration, shape=(1, 8, 8)))
