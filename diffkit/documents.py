"""A configuration as text: YAML 1.2 in and out, and `a.b=value` on top of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from diffkit.errors import ConfigError

__all__ = ["apply", "dump", "parse", "read"]

Keys = tuple[str, ...]

_RIVALS: tuple[tuple[Keys, Keys], ...] = (
    (("schedule",), ("sde", "schedule")),
    (("training", "steps"), ("training", "epochs")),
)
"""Pairs of keys that say the same thing: setting one takes the other back."""


def read(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file.

    Raises:
        ConfigError: no file, no valid YAML, a duplicate key, a Python tag, no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"The configuration {str(path)!r} cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The configuration {str(path)!r} is not text in UTF-8") from error
    document = parse(text, str(path))
    if not isinstance(document, dict):
        raise ConfigError(
            f"The configuration {str(path)!r} is {'empty' if document is None else 'no mapping'}",
            "It takes lines of the form `key: value`",
        )
    return document


def parse(text: str, where: str) -> Any:
    """One YAML 1.2 document of plain values; `where` names it in messages."""
    try:
        return _copied(_yaml().load(text))
    except RecursionError as error:
        raise ConfigError(f"{where} is nested without end", "It takes a tree of plain values") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = str(error.problem or error.context).replace("tag:yaml.org,2002:", "!!")
        raise ConfigError(
            f"{where}{line}: {problem}", remedy="Write plain YAML 1.2, each key once and no tags"
        ) from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{where} is not valid YAML: {str(error).splitlines()[0]}") from error


def dump(document: Mapping[str, Any]) -> str:
    """A mapping as YAML, its keys in their order; `parse` gives it back."""
    stream = io.StringIO()
    _yaml().dump(dict(document), stream)
    return stream.getvalue()


def apply(
    document: Mapping[str, Any],
    overrides: Iterable[str],
    default: Callable[[Keys], str | None] = lambda keys: None,
) -> dict[str, Any]:
    """A copy of `document` with every `a.b=value` set, in order.

    The value is YAML. A component given by its bare name becomes a mapping when a field of it is
    set, a list's items are addressed by number, and another `name` drops the old component's fields.

    Args:
        default: the name of the component that stands at a key path when the document is silent.

    Raises:
        ConfigError: an override that is not of that form, or goes where there are no keys.
    """
    changed: dict[str, Any] = _copied(document)
    pairs = [_pair(override) for override in overrides]
    for keys, value in pairs:
        for one, other in (*_RIVALS, *(pair[::-1] for pair in _RIVALS)):
            if keys[: len(one)] == one and not any(k[: len(other)] == other for k, _ in pairs):
                _drop(changed, other)
        node: Any = changed
        for depth in range(1, len(keys)):
            node = _child(node, keys[:depth], default)
        _assign(node, keys, value)
    return changed


def _yaml() -> Any:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    return yaml


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _pair(override: str) -> tuple[Keys, Any]:
    path, equals, text = override.partition("=")
    keys = tuple(part.strip() for part in path.split("."))
    if not equals or not all(keys):
        raise ConfigError(f"The override {override!r} is not of the form a.b=value")
    return keys, parse(text, f"The override {override!r}")


def _child(node: Any, path: Keys, default: Callable[[Keys], str | None]) -> Any:
    """The mapping or list under the last key of `path`, made if need be."""
    where = _place(node, path)
    child = node[where] if isinstance(node, list) else node.get(where)
    if child is None:
        name = default(path)
        child = {} if name is None else {"name": name}
    elif isinstance(child, str):
        child = {"name": child}
    elif not isinstance(child, (dict, list)):
        raise ConfigError(f"{'.'.join(path)} is {child!r}, and has no keys to set")
    node[where] = child
    return child


def _assign(node: Any, keys: Keys, value: Any) -> None:
    where = _place(node, keys)
    if where == "name" and len(keys) > 1 and node.get("name") != value:
        node.clear()
    node[where] = value


def _place(node: Any, path: Keys) -> Any:
    """The last key of `path` as an index of `node`."""
    if not isinstance(node, list):
        if len(path) > 1 and path[-1].isdigit():
            raise ConfigError(
                f"{'.'.join(path)} does not exist",
                f"there is no list at {'.'.join(path[:-1])} to count in",
                f"Give the whole list: --set '{'.'.join(path[:-1])}=[...]'",
            )
        return path[-1]
    if not path[-1].isdigit() or int(path[-1]) >= len(node):
        raise ConfigError(
            f"{'.'.join(path)} does not exist",
            f"{'.'.join(path[:-1])} is a list of {len(node)}, its items numbered from 0",
        )
    return int(path[-1])


def _drop(node: Any, keys: Sequence[str]) -> None:
    for key in keys[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(keys[-1], None)
