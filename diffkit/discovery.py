"""What is installed, from the metadata of distributions alone: no plugin is imported, nor torch.

A distribution registers components in entry-point groups, one a kind: the entry point's name is
the component's, its value the class. The group `diffkit.api` says, kind by kind, which version of
the interface the distribution was written for (`sampler = "v1"`); no word means the present one.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, Literal

import attrs

from diffkit.policy import denials, normalised

__all__ = ["KINDS", "ComponentInfo", "Kind", "Status", "entry_points", "nearest", "scan"]

Status = Literal["registered", "duplicate", "denied", "bad-metadata", "api-mismatch", "unregistered"]

Groups = dict[str, list[tuple[str, str]]]
"""Entry points by group, each a name and a value."""

_PREFIX = "[diffkit."
_NAME = re.compile(r"[a-z0-9.+]+(-[a-z0-9.+]+)*")
_VALUE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@attrs.frozen
class Kind:
    """A kind of component: its name, its entry-point group, its interface and the interface's version."""

    name: str
    group: str
    interface: str
    version: int = 1


_INTERFACES = (
    *("Schedule", "SDE", "Sampler", "Grid", "Conditioner", "Operator"),
    *("Metric", "Network", "Objective", "Dataset", "Features"),
)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        name: Kind(name, f"diffkit.{name.removesuffix('s')}s", f"diffkit.interfaces.{name}:{interface}")
        for name, interface in ((word.lower(), word) for word in _INTERFACES)
    }
)
"""The eleven kinds, in the order in which they are shown."""

_OTHER_GROUPS = frozenset({"diffkit.api", "diffkit.commands", "diffkit.hooks"})


@attrs.frozen
class ComponentInfo:
    """What metadata tell of a component.

    Args:
        kind, name: what it is, and what it is called.
        distribution, version: who brought it; for a local file its name and `sha256:...`.
        status: `registered` if it can be named; else why not, with the `reason`.
        value: the class, as `module:Class`.
        file: the local file that holds it, where no distribution does.
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: Status = "registered"
    reason: str = ""
    value: str = ""
    file: str = ""

    @property
    def usable(self) -> bool:
        """Whether it can be named, if need be by its identity."""
        return self.status in ("registered", "duplicate")

    @property
    def identity(self) -> str:
        """The name that is always unique."""
        return f"{self.distribution}:{self.name}"

    def as_json(self) -> dict[str, str]:
        """The row of `diffkit list --json`."""
        row = {key: getattr(self, key) for key in ("kind", "name", "distribution", "version", "status")}
        return row | ({"reason": self.reason} if self.reason else {})


def scan(path: Sequence[str] | None = None) -> tuple[ComponentInfo, ...]:
    """Every component of every distribution on `path` (default `sys.path`), by kind and name.

    Raises:
        ConfigError: the user's policy cannot be read.
    """
    denial = denials()
    infos = [info for each in _registrations(path) for info in _components(*each, denial)]
    order = {kind: position for position, kind in enumerate(KINDS)}
    infos.sort(key=lambda i: (order.get(i.kind, len(order)), i.kind, i.name, i.distribution))
    return tuple(mark_duplicates(infos))


def entry_points(group: str, path: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """(distribution, name, value) of every entry point of one of diffkit's further groups, if not denied."""
    denial = denials()
    return [
        (distribution, name, value)
        for distribution, _, groups in _registrations(path)
        for name, value in groups.get(group, ())
        if not denial(distribution, name)
    ]


def mark_duplicates(infos: Iterable[ComponentInfo]) -> Iterator[ComponentInfo]:
    """The same components, those that share kind and name marked as such."""
    infos = list(infos)
    count = Counter((i.kind, i.name) for i in infos if i.usable)
    for info in infos:
        if info.status == "registered" and count[info.kind, info.name] > 1:
            rivals = " and ".join(
                i.identity for i in infos if (i.kind, i.name) == (info.kind, info.name) and i.value
            )
            yield attrs.evolve(info, status="duplicate", reason=f"the name is shared: write {rivals}")
        else:
            yield info


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?`, or nothing if no known word is near."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else ""


def _registrations(path: Sequence[str] | None) -> Iterator[tuple[str, str, Groups]]:
    """Name, version and groups of each distribution with a word for diffkit.

    Of two of one name, the first on the path, which is the one imported.
    """
    place: dict[str, Any] = {} if path is None else {"path": list(path)}
    seen: set[str] = set()
    for distribution in metadata.distributions(**place):
        if _PREFIX not in _text(distribution):
            continue
        name = _field(distribution, "Name") or "unnamed"
        if normalised(name) in seen:
            continue
        seen.add(normalised(name))
        first = next(iter(metadata.distributions(name=name, **place)), distribution)
        text = _text(first)
        if _PREFIX in text:
            yield _field(first, "Name") or "unnamed", _field(first, "Version"), _groups(text)


def _text(distribution: metadata.Distribution) -> str:
    """Its entry points as written; of an installation too damaged to be read, none."""
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeError):
        return ""


def _field(distribution: metadata.Distribution, key: str) -> str:
    try:
        return distribution.metadata[key] or ""
    except (OSError, TypeError, KeyError, UnicodeError):  # METADATA is missing or no text
        return ""


def _groups(text: str) -> Groups:
    """The groups of an entry_points.txt; a line that is no entry point has an empty value."""
    groups: Groups = {}
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif line and line[0] not in "#;":
            name, _, value = line.partition("=")
            groups.setdefault(group, []).append((name.strip(), value.strip()))
    return groups


def _components(
    distribution: str, version: str, groups: Groups, denial: Callable[[str, str], str]
) -> Iterator[ComponentInfo]:
    declared = dict(groups.get("diffkit.api", ()))
    kinds = {kind.group: kind for kind in KINDS.values()}
    for group, entries in groups.items():
        if not group.startswith("diffkit.") or group in _OTHER_GROUPS:
            continue
        kind = kinds.get(group)
        shown = kind.name if kind else group.removeprefix("diffkit.")
        count = Counter(name for name, _ in entries)
        for name, value in dict(entries).items():
            value = value.partition("[")[0].strip()
            status, reason = _status(group, kind, name, value, count[name], declared)
            if status == "registered" and denial(distribution, name):
                status, reason = "denied", denial(distribution, name)
            yield ComponentInfo(shown, name, distribution, version, status, reason, value)


def _status(
    group: str, kind: Kind | None, name: str, value: str, count: int, declared: Mapping[str, str]
) -> tuple[Status, str]:
    if kind is None:
        known = [k.group for k in KINDS.values()]
        return "bad-metadata", f"{group!r} is no group of components. {nearest(group, known)}".strip()
    if not _NAME.fullmatch(name):
        return "bad-metadata", f"the name {name!r} is not kebab-case (small letters, digits, + . and -)"
    if not _VALUE.fullmatch(value):
        return "bad-metadata", f"{value!r} is not of the form module:Class"
    if count > 1:
        return "bad-metadata", f"the distribution registers the name {count} times"
    version = declared.get(kind.name, f"v{kind.version}")
    if version != f"v{kind.version}":
        return "api-mismatch", (
            f"written for {version} of the {kind.name} interface, and this diffkit has v{kind.version}: "
            "install a release of it made for this diffkit"
        )
    return "registered", ""
