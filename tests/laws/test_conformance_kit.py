"""The kit as a plugin's author meets it: `check`, `diffkit check`, and laws as pytest cases."""

from __future__ import annotations

import json
from typing import Any, final

import attrs
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from diffkit.discovery import KINDS
from diffkit.errors import ComponentError, ConfigError
from diffkit.interfaces.operator import Operator
from diffkit.interfaces.schedule import Schedule
from diffkit.testing import Law, LawBroken, NotApplicable, check, laws, parametrize_with_laws
from diffkit.testing.lawbook.base import book_of
from diffkit_standard.commands.check import command


@final
@attrs.frozen(kw_only=True)
class Halved(Schedule):
    """A rate that is half of what it should be."""

    def rate(self, t: Tensor) -> Tensor:
        return torch.full_like(torch.as_tensor(t), 5.0)

    def integral(self, t: Tensor) -> Tensor:
        return 10.0 * torch.as_tensor(t)

    def time(self, integral: Tensor) -> Tensor:
        return torch.as_tensor(integral) / 10.0


@final
@attrs.frozen(kw_only=True)
class Raises(Schedule):
    """A schedule that cannot even start."""

    def rate(self, t: Tensor) -> Tensor:
        raise ZeroDivisionError("the rate")

    def integral(self, t: Tensor) -> Tensor:
        return torch.as_tensor(t)

    def time(self, integral: Tensor) -> Tensor:
        return torch.as_tensor(integral)


@final
@attrs.frozen(kw_only=True)
class Pairs(Operator):
    """The mean of each pair of neighbours along the last axis; its adjoint is `scale` times too large."""

    scale: float = 1.0

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] // 2)

    def apply(self, x: Tensor) -> Tensor:
        return 0.5 * (x[..., ::2] + x[..., 1::2])

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return 0.5 * self.scale * y.repeat_interleave(2, dim=-1)

    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self.scale * y.repeat_interleave(2, dim=-1)


def test_the_laws_of_an_operator_tell_a_right_one_from_a_wrong_one() -> None:
    assert {row["status"] for row in check("operator", Pairs())} == {"passed"}
    failed = {row["law"] for row in check("operator", Pairs(scale=1.01)) if row["status"] == "failed"}
    assert failed == {"adjoint", "pseudo-inverse"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_laws_with_names_and_formulas(kind: str) -> None:
    book = laws(kind)
    assert len(book) >= 4
    assert len({law.name for law in book}) == len(book)
    for law in book:
        assert law.kind == kind
        assert len(law.formula) > 20
        assert law.formula.endswith((".", ")"))


def test_check_judges_every_law() -> None:
    rows = check("schedule", "linear")
    assert [row["law"] for row in rows] == [law.name for law in laws("schedule")]
    assert {row["status"] for row in rows} == {"passed"}


def test_a_broken_law_comes_with_its_counterexample() -> None:
    judged = {row["law"]: row for row in check("schedule", Halved())}
    assert judged["rate-is-derivative"]["status"] == "failed"
    assert "beta at t = " in judged["rate-is-derivative"]["detail"]
    assert "is 5, and the difference quotient is 10" in judged["rate-is-derivative"]["detail"]
    assert judged["time-inverts"]["status"] == "passed"


def test_an_error_in_a_component_is_a_broken_law() -> None:
    judged = {row["law"]: row for row in check("schedule", Raises())}
    assert judged["rate-is-derivative"]["detail"] == "it raised ZeroDivisionError: the rate"
    assert judged["integral-increases"]["status"] == "passed"


def test_a_law_that_says_nothing_gives_its_reason() -> None:
    judged = {row["law"]: row for row in check("sampler", "euler-maruyama")}
    assert judged["order"]["status"] == "not-applicable"
    assert "stochastic" in judged["order"]["detail"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments))


class TestTheCommand:
    def test_a_sound_component(self) -> None:
        result = run("schedule", "cosine")
        assert result.exit_code == 0
        assert "rate-is-derivative  passed" in result.output

    def test_json_has_one_object_a_law(self) -> None:
        result = run("schedule", "linear", "--json", "--set", "beta_max=5")
        assert result.exit_code == 0
        rows = json.loads(result.output)
        assert {tuple(row) for row in rows} == {("law", "formula", "status", "detail")}

    def test_a_broken_component(self) -> None:
        result = run("sampler", "dpm-solver++", "--set", "order=3", "--set", "published=true")
        assert result.exit_code == 1
        assert "order is broken: on vp it declares 3 and measures 2.0" in result.output
        assert "|x_h - x| = C h^p" in result.output

    def test_names_and_fields_that_are_not_there(self) -> None:
        assert isinstance(run("sampler", "ddimm").exception, ComponentError)
        assert isinstance(run("samplers", "ddim").exception, ComponentError)
        assert isinstance(run("sampler", "ddim", "--set", "etaa=1").exception, ConfigError)
        assert isinstance(run("conditioner", "class-guidance").exception, ConfigError)

    def test_no_law_run_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def silent(component: Any) -> None:
            """It never applies."""
            raise NotApplicable("by design")

        monkeypatch.setattr("diffkit.testing.lawbook.schedule.LAWS", book_of("schedule", silent))
        assert run("schedule", "linear").exit_code == 1


def cases(decorated: Any) -> dict[str, tuple[Any, Any]]:
    mark = decorated.pytestmark[0]
    return {case.id: case.values for case in mark.args[1]}


def decorated(components: list[Any]) -> dict[str, tuple[Any, Any]]:
    @parametrize_with_laws("schedule", components)
    def test(law: Law, component: Any) -> None:
        law(component)

    return cases(test)


class TestAsCases:
    def test_ids_name_component_and_law(self) -> None:
        found = decorated(["linear", {"name": "cosine", "s": 0.0}, Halved()])
        assert "linear-rate-is-derivative" in found
        assert "cosine[s=0.0]-time-inverts" in found
        assert any(name.endswith("Halved-precision") for name in found)

    def test_a_case_fails_where_the_law_is_broken(self) -> None:
        found = decorated([Halved()])
        law, component = next(v for k, v in found.items() if k.endswith("rate-is-derivative"))
        with pytest.raises(LawBroken, match="schedule-rate-is-derivative is broken"):
            law(component)

    def test_silence_passes_but_not_the_silence_of_all(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def silent(component: Any) -> None:
            """It never applies."""
            raise NotApplicable("by design")

        monkeypatch.setattr("diffkit.testing.lawbook.schedule.LAWS", book_of("schedule", silent))
        found = decorated(["linear"])
        law, component = found["linear-silent"]
        law(component)
        assert "schedule-silent does not apply to linear: by design" in capsys.readouterr().out
        law, component = found["linear-some-law-applies"]
        with pytest.raises(LawBroken, match="none applies to linear"):
            law(component)
