"""Kind and name -> entry point -> class -> configured object, each no earlier than it is asked for.

A component's identity is `distribution:name`; its bare name is legal while no other distribution
uses it. A plugin that cannot be imported fails whoever names it, and nobody else.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import attrs

from diffkit.component import Component
from diffkit.discovery import KINDS, ComponentInfo, mark_duplicates, nearest, scan
from diffkit.errors import ComponentError, ConfigError, DiffkitError
from diffkit.loading import brief, broken, find_kind, interface_of, load_info, local_plugin, verify
from diffkit.policy import normalised
from diffkit.structure import fill, kind_of, plain, settings

__all__ = [
    "KINDS",
    "ComponentInfo",
    "Registry",
    "components",
    "create",
    "current",
    "describe",
    "find_kind",
    "load",
    "origin",
    "using",
    "verify",
]


@attrs.frozen(eq=False)
class Registry:
    """The components that can be named, and those of their classes that were loaded so far."""

    infos: tuple[ComponentInfo, ...]
    _loaded: dict[ComponentInfo, type[Component]] = attrs.field(factory=dict, init=False)

    @classmethod
    def scan(cls, path: Sequence[str] | None = None) -> Registry:
        """What the distributions on `path` (default `sys.path`) register."""
        return cls(scan(path))

    def with_file(self, plugin: str) -> Registry:
        """This registry and one class of a local file, given as `path.py:Class`.

        The component is named after the class (`MySampler`: `my-sampler`); its distribution is the
        file's name, its version the checksum of the file.
        """
        return Registry(tuple(mark_duplicates((*self.infos, local_plugin(plugin)))))

    def components(self, kind: str | None = None) -> list[ComponentInfo]:
        """What is known from metadata, of one kind or of all."""
        if kind is None:
            return list(self.infos)
        wanted = find_kind(kind).name
        return [info for info in self.infos if info.kind == wanted]

    def find(self, kind: str, name: str) -> ComponentInfo:
        """The one component of that bare name or `distribution:name`.

        Raises:
            ComponentError: unknown, ambiguous, or registered in a way that cannot be used.
        """
        known = self.components(kind)
        distribution, _, bare = name.rpartition(":")
        found = [info for info in known if info.name == bare]
        if distribution:
            found = [i for i in found if normalised(i.distribution) == normalised(distribution)]
        usable = [info for info in found if info.usable]
        if len(usable) == 1:
            return usable[0]
        if usable:
            rivals = " and ".join(f"{i.distribution} {i.version}" for i in usable)
            choices = " or ".join(repr(i.identity) for i in usable)
            raise ComponentError(f"{name!r} names a {kind} of {rivals}", "", f"Write {choices}")
        if found:
            info = found[0]
            raise ComponentError(f"The {kind} {info.identity!r} cannot be used: {info.reason}")
        names = [i.name if i.status == "registered" else i.identity for i in known]
        there = f"There are: {', '.join(names)}" if names else f"No {kind} is installed"
        raise ComponentError(f"There is no {kind} {name!r}", there, nearest(name, names))

    def load(self, kind: str, name: str) -> type[Component]:
        """The class of that name; imports its plugin.

        Raises:
            ComponentError: unknown, ambiguous or broken, naming the plugin and the reason.
        """
        return self._load(self.find(kind, name))

    def create(
        self, kind: str, spec: Any, fields: Mapping[str, Any] | None = None, path: str = ""
    ) -> Component:
        """A component from a name, a mapping with a `name`, or an object, which is returned as it is.

        Args:
            kind: in the singular.
            spec: what to make.
            fields: further fields, which win over those of a mapping.
            path: the key under which `spec` was found, for messages.

        Raises:
            ConfigError: a field that is unknown, missing, of the wrong type or out of range.
            ComponentError: see `load`.
        """
        where, path = path, path or find_kind(kind).name
        interface = interface_of(find_kind(kind))
        if isinstance(spec, interface):
            if fields:
                raise ConfigError(
                    f"{path} is an object already, and {', '.join(fields)} cannot be set on it",
                    remedy="Use attrs.evolve, or give its name",
                )
            return spec
        name, values = _split(kind, spec, path)
        try:
            info = self.find(kind, name)
            cls = self._load(info)
        except ComponentError as error:
            got = f"{where}: {error.got}" if where else error.got
            raise ComponentError(got, error.expected, error.remedy) from error
        try:
            return fill(cls, {**values, **(fields or {})}, path, self.make)
        except DiffkitError:
            raise
        except Exception as error:
            raise broken(info, f"making it raised {brief(error)}") from error

    def make(self, expected: type[Component], value: Any, path: str) -> Component:
        """What `diffkit.structure` asks for: a component of at least a type, found at a key path."""
        kind = kind_of(expected)
        if kind is None:
            raise ConfigError(f"{path} asks for a {expected.__name__}, which is no kind of component")
        component = self.create(kind, value, path=path)
        if not isinstance(component, expected):
            raise ConfigError(
                f"{path} is {self.name(component)!r}, a {type(component).__name__}",
                f"It takes a {expected.__name__}",
            )
        return component

    def describe(self, component: Component) -> str | dict[str, Any]:
        """The inverse of `create`: the name, or a mapping of the name and every field, resolved."""
        fields = {
            key: plain(getattr(component, field.name), self.describe)
            for key, field in settings(type(component)).items()
        }
        name = self.name(component)
        return {"name": name, **fields} if fields else name

    def name(self, component: Component) -> str:
        """The shortest name that finds the component's class; `module:Class` if none does."""
        info = self.origin(component)
        return info.identity if info.status == "duplicate" else info.name

    def origin(self, component: Component) -> ComponentInfo:
        """Which distribution, in which version, the component came from."""
        cls = type(component)
        value = f"{cls.__module__}:{cls.__qualname__}"
        kind = kind_of(cls) or ""
        usable = [i for i in self.infos if i.kind == kind and i.usable]
        for info in usable:
            if self._loaded.get(info) is cls or (info.value == value and not info.file):
                return info
        # An entry point may name another module than the one that defines the class.
        package = cls.__module__.partition(".")[0]
        for info in usable:
            if info.value.startswith((f"{package}.", f"{package}:")) and not info.file:
                with contextlib.suppress(ComponentError):
                    if self._load(info) is cls:
                        return info
        return ComponentInfo(kind, value, "", "", "unregistered", "no entry point names its class", value)

    def _load(self, info: ComponentInfo) -> type[Component]:
        if info not in self._loaded:
            self._loaded[info] = load_info(info)
        return self._loaded[info]


_active: ContextVar[Registry | None] = ContextVar("diffkit registry", default=None)


@functools.cache
def _installed() -> Registry:
    return Registry.scan()


def current() -> Registry:
    """The registry in use: of everything installed, unless `using` says otherwise."""
    return _active.get() or _installed()


@contextlib.contextmanager
def using(registry: Registry) -> Iterator[Registry]:
    """Makes `registry` the one in use."""
    token = _active.set(registry)
    try:
        yield registry
    finally:
        _active.reset(token)


def components(kind: str | None = None) -> list[ComponentInfo]:
    """What is installed, from metadata alone: kind, name, distribution, version, status."""
    return current().components(kind)


def load(kind: str, name: str) -> type[Component]:
    """The class of a component; see `Registry.load`."""
    return current().load(kind, name)


def create(kind: str, spec: Any, /, **fields: Any) -> Any:
    """A component from a name, a mapping with a `name`, or an object; see `Registry.create`."""
    return current().create(kind, spec, fields)


def describe(component: Component) -> str | dict[str, Any]:
    """What `create` would need to make the component again; see `Registry.describe`."""
    return current().describe(component)


def origin(component: Component) -> ComponentInfo:
    """Where a component came from; see `Registry.origin`."""
    return current().origin(component)


def _split(kind: str, spec: Any, path: str) -> tuple[str, dict[str, Any]]:
    """Name and fields of a specification."""
    if isinstance(spec, str):
        return spec, {}
    takes = f"It takes a {kind}: its name, a mapping with its `name` and its fields, or an object"
    if not isinstance(spec, Mapping):
        raise ConfigError(f"{path} is {spec!r}", takes, f"`diffkit list {kind}` shows the names")
    values = dict(spec)
    name = values.pop("name", None)
    if not isinstance(name, str):
        got = "is a mapping without a `name`" if name is None else f"has the name {name!r}"
        raise ConfigError(f"{path} {got}", takes, f"`diffkit list {kind}` shows the names")
    return name, values
