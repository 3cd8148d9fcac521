"""Which components work together, computed from what they provide and require.

A capability is a string `supplier.word`; its supplier is a kind, or `model`. `check` holds every
requirement of every chosen instance against what the chosen suppliers provide, adds the caveats of
the instances and of the core, and asks the hooks for what sets cannot say. Nothing else in the code
decides what fits together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

import attrs
import torch
from attrs.validators import in_

from diffkit import hooks
from diffkit.component import Component, Requirement
from diffkit.errors import ComponentError, ConfigError, DiffkitError, IncompatibleError
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.loading import brief, broken, find_kind
from diffkit.registry import current
from diffkit.selection import CAPABILITIES, Finding, Selection, nested
from diffkit.structure import kind_of, settings

__all__ = [
    "CAPABILITIES",
    "Finding",
    "Selection",
    "check",
    "matrix",
    "only_classifies",
    "require",
    "with_schedule",
]

PRIOR_TOLERANCE = 0.01
"""Nats a dimension: beyond it, that sampling starts from the prior and not the truth is worth a word."""


def check(selection: Selection) -> list[Finding]:
    """Every conflict and every caveat, refusals first."""
    findings = [*_unmet(selection), *_core(selection), *_own_words(selection)]
    findings += hooks.broadcast("diffkit_incompatibility", selection=selection)
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.status != "refused")


def require(selection: Selection) -> list[Finding]:
    """The caveats; raises `IncompatibleError` with every refusal if there is one."""
    findings = check(selection)
    refused = [finding for finding in findings if finding.status == "refused"]
    if refused:
        pairs = " and ".join(_pair(finding) for finding in refused)
        verb = "cannot be combined" if any(finding.object for finding in refused) else "cannot work so"
        raise IncompatibleError(
            f"{pairs} {verb}",
            _joined(finding.reason for finding in refused),
            _joined(finding.remedy for finding in refused),
        )
    return findings


def with_schedule(sde: SDE, schedule: Schedule) -> SDE:
    """The process with another schedule; refused where it takes none."""
    if "schedule" not in settings(type(sde)):
        name = current().name(sde)
        raise IncompatibleError(
            f"{current().name(schedule)!r} and {name!r} cannot be combined",
            f"The process {name!r} takes no schedule",
            "Leave the schedule out, or choose a process that has one, such as 'vp'",
        )
    filled: SDE = attrs.evolve(sde, schedule=schedule)  # type: ignore[misc]
    return filled


def matrix(row: str = "sde", column: str = "sampler") -> list[dict[str, str]]:
    """One record for each pair of default instances: `{row, column, status, reason, remedy}`.

    `status` is `allowed`, `caveat` or `refused`. A variant of a component (`name[field=value]`, for
    a field with a short list of choices) has a record wherever its answer differs from the
    default's. A component that cannot be made has one record, with `*` for the other: `broken`,
    or `unset` where a field has no default.
    """
    if find_kind(row) == find_kind(column):
        raise ConfigError(f"The matrix of {row} and {column} is none", "It takes two different kinds")
    rows, columns = _defaults(row), _defaults(column)
    table = [
        {row: names[0], column: names[1], "status": status, "reason": reason, "remedy": remedy}
        for a_name, a in rows.items()
        for b_name, b in columns.items()
        if isinstance(a, Component) and isinstance(b, Component)
        for names, (status, reason, remedy) in _cells(a_name, a, b_name, b).items()
    ]
    for kind, made in ((row, rows), (column, columns)):
        for name, problem in made.items():
            if isinstance(problem, DiffkitError):
                status = "broken" if isinstance(problem, ComponentError) else "unset"
                pair = {row: "*", column: "*"} | {kind: name}
                said = {"reason": _joined([problem.got]), "remedy": _joined([problem.remedy])}
                table.append({**pair, "status": status, **said})
    return table


def _unmet(selection: Selection) -> Iterator[Finding]:
    """The requirements that their suppliers, where they are known, do not meet."""
    for _, component in selection.components:
        for speaker in (component, *(inner for _, inner in nested(component))):
            for requirement in speaker.requires:
                offered = selection.provides(requirement.supplier)
                if offered is not None and requirement.capability not in offered:
                    yield _refusal(speaker, requirement, selection)


def _refusal(speaker: Component, requirement: Requirement, selection: Selection) -> Finding:
    suppliers = [current().name(component) for component in selection.all(requirement.supplier)]
    subject, supplier = current().name(speaker), " and ".join(suppliers) or requirement.supplier
    meaning = CAPABILITIES.get(requirement.capability, requirement.capability)
    reason = (
        requirement.reason or f"{subject} needs {requirement.capability} ({meaning}), which {supplier} lacks"
    )
    remedy = requirement.remedy
    if suppliers and not remedy:
        other = f"another {requirement.supplier}, or another {kind_of(type(speaker))}"
        remedy = f"choose {other}: `diffkit matrix` shows which fit"
    return Finding("refused", subject, supplier, reason, remedy)


def _own_words(selection: Selection) -> Iterator[Finding]:
    """What the instances have to say of the selection themselves."""
    for _, component in selection.components:
        for speaker in (component, *(inner for _, inner in nested(component))):
            for reason, remedy in speaker.refusals(selection):
                yield Finding("refused", current().name(speaker), "", reason, remedy)
            for sentence in speaker.caveats(selection):
                yield Finding("caveat", current().name(speaker), "", sentence)


def _core(selection: Selection) -> Iterator[Finding]:
    """What the core itself has to say."""
    for sde in selection.all("sde"):
        yield from _prior_misses(sde)
    network = selection.one("network")
    labelled = selection.model is not None and "model.labels" in selection.model
    takes = {"network.labels", "network.logits-output"}
    if labelled and network is not None and not takes & network.provides:
        name = current().name(network)
        reason = f"The model is to be trained on labels, and the network {name!r} cannot take them"
        yield Finding(
            "refused", name, "labels", reason, "Set training.labels to false, or choose another network"
        )
    if network is not None and selection.parts > 1 and "network.batch-statistics" in network.provides:
        reason = f"A batch is computed in {selection.parts} parts, each normalised by its own statistics"
        remedy = "Train in one process without gradient_accumulation, or choose another network"
        yield Finding("caveat", current().name(network), "", reason, remedy)
    if selection.model is not None and only_classifies(selection.model):
        reason = "The model tells classes apart, and says nothing of where the data lie"
        remedy = "Name it in the conditioner 'classifier-guidance' of a model that can be sampled"
        for sampler in selection.all("sampler"):
            yield Finding("refused", current().name(sampler), "model", reason, remedy)


def only_classifies(model: frozenset[str]) -> bool:
    """Whether a model of these capabilities is a classifier, which can be trained and not sampled."""
    return "model.logits" in model and not model & {"model.denoise", "model.score", "model.energy"}


def _prior_misses(sde: SDE) -> Iterator[Finding]:
    """A caveat where the prior N(0, sigma_T^2) is far from the marginal at t_max.

    The divergence is at most alpha_T^2 m2 / (2 sigma_T^2) nats a dimension, with m2 = 1 for data
    scaled to [-1, 1].
    """
    if not isinstance(sde, GaussianSDE) or type(sde).prior is not GaussianSDE.prior:
        return
    end = torch.tensor(sde.t_max, dtype=torch.float64)
    bound = float(sde.alpha(end) ** 2 / (2.0 * sde.sigma(end) ** 2))
    if bound > PRIOR_TOLERANCE:
        name = current().name(sde)
        schedule = next((current().name(inner) for kind, inner in nested(sde) if kind == "schedule"), "")
        reason = (
            f"The prior of {name!r}{f' with {schedule!r}' if schedule else ''} misses the law of its "
            f"noisiest samples by up to {bound:.2g} nats a dimension (alpha^2 / (2 sigma^2) at the end, "
            "for data of unit second moment)"
        )
        yield Finding("caveat", name, schedule, reason, "Choose a schedule that ends in more noise")


def _defaults(kind: str) -> dict[str, Component | DiffkitError]:
    """The default instance of every component of a kind, or why there is none."""
    made: dict[str, Component | DiffkitError] = {}
    for info in current().components(kind):
        name = info.name if info.status == "registered" else info.identity
        try:
            made[name] = component = current().create(kind, info.identity)
            _ = component.provides, component.requires
        except DiffkitError as error:
            made[name] = error
        except Exception as error:
            made[name] = broken(info, f"asking for its capabilities raised {brief(error)}")
    return made


Cell = tuple[str, str, str]


def _cells(a_name: str, a: Component, b_name: str, b: Component) -> dict[tuple[str, str], Cell]:
    """The answer for two default instances, and for every variant of either that changes it."""
    default = _judge(a, b)
    cells = {(f"{a_name}{label}", b_name): _judge(other, b) for label, other in _variants(a)}
    cells |= {(a_name, f"{b_name}{label}"): _judge(a, other) for label, other in _variants(b)}
    return {(a_name, b_name): default} | {
        names: cell for names, cell in cells.items() if cell[0] != default[0]
    }


def _variants(component: Component) -> Iterator[tuple[str, Component]]:
    """The component with one field changed, for each other choice of a field that has a list of them."""
    for key, field in settings(type(component)).items():
        for choice in _choices(field):
            if choice != getattr(component, field.name):
                with contextlib.suppress(ValueError, TypeError, DiffkitError):
                    yield f"[{key}={choice}]", attrs.evolve(component, **{key: choice})  # type: ignore[misc]


def _choices(field: attrs.Attribute[Any]) -> tuple[Any, ...]:
    """The values of a field that lists them: by its type, or by a validator `in_`."""
    if field.type is bool:
        return (True, False)
    if get_origin(field.type) is Literal:
        return get_args(field.type)
    listing: type[Any] = type(in_(()))
    for part in getattr(field.validator, "_validators", (field.validator,)):
        if isinstance(part, listing):
            return tuple(part.options)
    return ()


def _judge(a: Component, b: Component) -> Cell:
    """Status, reason and remedy of two components together."""
    try:
        if isinstance(a, SDE) and isinstance(b, Schedule):
            selection = Selection.of(with_schedule(a, b))
        elif isinstance(a, Schedule) and isinstance(b, SDE):
            selection = Selection.of(with_schedule(b, a))
        else:
            selection = Selection.of(a, b)
        findings = check(selection)
    except IncompatibleError as error:
        return "refused", _joined([error.expected]), _joined([error.remedy])
    except Exception as error:
        return "broken", f"checking it raised {brief(error)}", ""
    status = findings[0].status if findings else "allowed"
    said = [finding for finding in findings if finding.status == status]
    return status, _joined(f.reason for f in said), _joined(f.remedy for f in said)


def _joined(sentences: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(_sentence(sentence) for sentence in sentences if sentence))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _pair(finding: Finding) -> str:
    other = "this model" if finding.object == "model" else repr(finding.object)
    return f"{finding.subject!r} and {other}" if finding.object else repr(finding.subject)
