"""From an entry point to a class that may be trusted: plugins are imported here, and nowhere else.

Whatever goes wrong in one (an exception, `SystemExit`, a class that is no component) becomes a
`ComponentError` that names the distribution, the entry point and the reason.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import multiprocessing
import os
import re
import sys
import traceback
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import attrs

from diffkit.component import Component
from diffkit.discovery import KINDS, ComponentInfo, Kind, nearest
from diffkit.errors import ComponentError
from diffkit.structure import kind_of, settings

__all__ = ["blamed", "brief", "broken", "find_kind", "interface_of", "load_info", "local_plugin", "verify"]

_LOCAL = "diffkit_local_"
"""How the names of modules begin that are local files."""


def find_kind(kind: str) -> Kind:
    """The kind of that name, or a `ComponentError`."""
    if kind not in KINDS:
        raise ComponentError(
            f"There is no kind {kind!r}", f"There are: {', '.join(KINDS)}", nearest(kind, KINDS)
        )
    return KINDS[kind]


def load_info(info: ComponentInfo) -> type[Component]:
    """Imports a plugin and holds its class against the interface.

    Raises:
        ComponentError: naming the distribution, the entry point and what is wrong.
    """
    if not info.usable:
        raise broken(info, info.reason)
    cls: type[Component] = _imported(info)
    flaw = _flaw(cls, interface_of(find_kind(info.kind)))
    if flaw:
        raise broken(info, flaw)
    return cls


def _imported(info: ComponentInfo) -> Any:
    """What the entry point names, be it a component or not."""
    module, _, attribute = info.value.partition(":")
    try:
        # What a plugin prints must not mix with a command's output.
        with contextlib.redirect_stdout(sys.stderr):
            local = _import_file(info.file, info.version) if info.file else None
            return functools.reduce(getattr, attribute.split("."), local or importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may leave by SystemExit
        raise broken(info, f"importing it raised {brief(error)}") from error


def _flaw(cls: Any, interface: type[Component]) -> str:
    """What keeps a class from being a component, or nothing."""
    if not isinstance(cls, type):
        return f"it is a {type(cls).__name__}, not a class"
    if not issubclass(cls, interface):
        return f"{cls.__name__} is not a subclass of {interface.__module__}.{interface.__name__}"
    if inspect.isabstract(cls):
        return f"{cls.__name__} leaves abstract: {', '.join(sorted(cls.__abstractmethods__))}"
    if "__attrs_attrs__" not in vars(cls):
        return f"{cls.__name__} is not an attrs class: decorate it with @attrs.frozen(kw_only=True)"
    try:
        names = settings(cls)
    except Exception as error:  # annotations are evaluated here
        return f"the types of its fields cannot be resolved: {brief(error)}"
    return (
        "it has a field called `name`, which configurations keep for the component's own"
        if "name" in names
        else ""
    )


def interface_of(kind: Kind) -> type[Component]:
    module, _, attribute = kind.interface.partition(":")
    interface: type[Component] = getattr(importlib.import_module(module), attribute)
    return interface


def local_plugin(plugin: str) -> ComponentInfo:
    file, _, attribute = plugin.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise ComponentError(
            f"The plugin {plugin!r} is no class of a local file", "", "Write it as path.py:Class"
        )
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", attribute).lower()
    info = ComponentInfo(
        "", name, path.name, f"sha256:{checksum}", value=f"{path.stem}:{attribute}", file=str(path.resolve())
    )
    cls = _imported(info)
    kind = kind_of(cls) if isinstance(cls, type) else None
    if kind is None:
        raise broken(info, f"it implements none of diffkit's interfaces ({', '.join(KINDS)})")
    return attrs.evolve(info, kind=kind)


@functools.cache
def _import_file(file: str, version: str) -> Any:
    """The module in a local file, executed once a version, under a name that no installed module has."""
    name = f"{_LOCAL}{hashlib.sha256(f'{file} {version}'.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def broken(info: ComponentInfo, reason: str) -> ComponentError:
    who = f"{info.distribution} {info.version}".strip()
    return ComponentError(
        f"The {info.kind or 'plugin'} {info.name!r} of {who} ({info.value}) is broken: {reason}",
        remedy=f"Mend or uninstall {info.distribution}, or choose another",
    )


def brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def blamed(error: BaseException, infos: Iterable[ComponentInfo]) -> str:
    """The innermost plugin whose code an exception came through, in words; nothing where there is none."""
    homes = {info.value.partition(":")[0]: info for info in infos if not info.file}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(_LOCAL):
            return f"the local file {frame.f_code.co_filename}"
        if module in homes:
            info = homes[module]
            return f"the {info.kind} {info.name!r} of {info.distribution} {info.version}"
    return ""


def verify(info: ComponentInfo, timeout: float = 60.0) -> tuple[Literal["ok", "broken"], str]:
    """Imports a plugin in a process of its own, so that it can neither hang nor end this one.

    Returns:
        `ok`, or `broken` and the reason.
    """
    forking = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forking else "spawn")
    # The children's common ancestor imports torch once for all of them.
    context.set_forkserver_preload(["diffkit.interfaces.sde"])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_verify_child, args=(info, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            return "broken", f"importing it took longer than {timeout:g} s"
        reason: str = ours.recv()
    except EOFError:
        child.join()
        return "broken", f"importing it ended the process with status {child.exitcode}"
    finally:
        child.kill()
        child.join()
        ours.close()
    return ("broken", reason) if reason else ("ok", "")


def _verify_child(info: ComponentInfo, verdict: Connection) -> None:
    """The other side of `verify`: sends the reason why the plugin is broken, or an empty one."""
    os.dup2(2, 1)
    try:
        load_info(info)
    except ComponentError as error:
        verdict.send(error.got.partition(" is broken: ")[2] or error.got)
    else:
        verdict.send("")
