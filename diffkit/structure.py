"""Plain values (from YAML, JSON or keywords) into typed attrs objects, strictly, and back.

Nothing is guessed: "3" is no number, true no 1; a whole number serves where a fraction is asked,
a list where a tuple is. Every error names the whole key path, what was got, what is allowed, and
the nearest name.
"""

from __future__ import annotations

import hashlib
import math
import re
import types
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, TypeVar, Union, get_args, get_origin

import attrs

from diffkit.component import Component
from diffkit.discovery import KINDS, nearest
from diffkit.errors import ConfigError, DiffkitError, InputError

__all__ = ["Make", "fill", "kind_of", "plain", "spell", "structure"]

T = TypeVar("T")
Fields: TypeAlias = "Mapping[str, attrs.Attribute[Any]]"
Make = Callable[[type[Component], Any, str], Any]
"""Makes a component of (at least) a type from a name, a mapping or an object, found at a key path."""


class _RefusedError(ConfigError):
    """A value of the wrong type, and where it was met."""

    def __init__(self, path: str, value: Any, expected: str, remedy: str = "") -> None:
        text = "the text " if isinstance(value, str) else ""
        super().__init__(f"{path} is {text}{_show(value)}", f"It takes {expected}", remedy)
        self.path = path


def fill(cls: type[T], values: Mapping[str, Any], path: str, make: Make) -> T:
    """An object of the attrs class `cls`, every field checked; fields not given take their defaults.

    Raises:
        ConfigError: an unknown or missing key, a value of the wrong type or out of range.
    """
    fields = settings(cls)
    for key in values:
        if key not in fields:
            raise _unknown(key, fields, path)
    arguments = {}
    for key, field in fields.items():
        at = _join(path, key)
        if key in values:
            arguments[key] = _field(values[key], field, at, make)
        elif field.default is attrs.NOTHING:
            raise ConfigError(f"{at} is missing", f"It takes {_allowed(field)}", "Set it: it has no default")
        elif not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
            arguments[key] = _field(field.default, field, at, make)
        elif _is_record(field.type):  # its own defaults are names that want to be components
            arguments[key] = fill(field.type, {}, at, make)
    try:
        return cls(**arguments)
    except DiffkitError as error:
        raise ConfigError(f"{path or cls.__name__}: {error.got}", error.expected, error.remedy) from error
    except (TypeError, ValueError) as error:
        raise _out_of_range(error, cls, fields, arguments, path) from error


def settings(cls: type) -> Fields:
    """The fields of an attrs class that its maker may set, by the name to set them by, types resolved."""
    attrs.resolve_types(cls)
    return {field.alias or field.name: field for field in attrs.fields(cls) if field.init}


def structure(value: Any, expected: Any, path: str, make: Make) -> Any:
    """`value` as the type `expected`, or an error that names `path`."""
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is Any or (expected is None and value is None):
        return value
    if origin in (Union, types.UnionType):
        return _union(value, expected, arguments, path, make)
    if origin is Literal:
        return _literal(value, arguments, expected, path)
    if origin is tuple:
        return _tuple(value, expected, arguments, path, make)
    if origin is not None:
        return _instance(value, origin, expected, path)
    if isinstance(expected, type) and issubclass(expected, Component):
        return make(expected, value, path)
    if _is_record(expected) and not isinstance(value, expected):
        if not isinstance(value, Mapping):
            raise _RefusedError(path, value, "a mapping", f"Its keys: {', '.join(settings(expected))}")
        return fill(expected, value, path, make)
    return _scalar(value, expected, path)


def plain(value: Any, describe: Callable[[Component], Any]) -> Any:
    """The inverse of `structure`: mappings, lists and scalars, ready for YAML or JSON."""
    if isinstance(value, Component):
        return describe(value)
    if attrs.has(type(value)):
        return {key: plain(getattr(value, f.name), describe) for key, f in settings(type(value)).items()}
    if isinstance(value, (tuple, list)):
        return [plain(item, describe) for item in value]
    if isinstance(value, frozenset):  # whose order is another in every process
        return sorted((plain(item, describe) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {key: plain(item, describe) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    written = {"object": f"{type(value).__module__}:{type(value).__qualname__}"}
    if hasattr(value, "__array__"):  # told apart by what it holds, so that two runs are not taken for one
        values = value.numpy(force=True) if hasattr(value, "numpy") else value
        digest = hashlib.sha256(repr((str(values.dtype), values.shape)).encode() + values.tobytes())
        written["checksum"] = digest.hexdigest()[:16]
    return written


def spell(expected: Any) -> str:
    """A type in words short enough for a table: `int`, `float or 'auto'`, `list of metric`."""
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is None or expected is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(spell(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin is tuple and arguments[-1:] == (...,):
        return f"list of {spell(arguments[0])}"
    if origin is tuple:
        return f"list of ({', '.join(spell(argument) for argument in arguments)})"
    if isinstance(expected, type) and issubclass(expected, Component):
        return kind_of(expected) or expected.__name__
    if expected is Path:
        return "path"
    return getattr(expected, "__name__", str(expected)).removeprefix("typing.")


def kind_of(cls: type) -> str | None:
    """The kind whose interface `cls` is or implements."""
    interfaces = {kind.interface: kind.name for kind in KINDS.values()}
    names = (f"{base.__module__}:{base.__qualname__}" for base in cls.__mro__)
    return next((interfaces[name] for name in names if name in interfaces), None)


def _field(value: Any, field: attrs.Attribute[Any], path: str, make: Make) -> Any:
    try:
        return structure(value, Any if field.type is None else field.type, path, make)
    except _RefusedError as error:
        if error.path != path or error.remedy:
            raise
        raise _RefusedError(path, value, _allowed(field)) from error


def _is_record(expected: Any) -> TypeGuard[type[attrs.AttrsInstance]]:
    """Whether a type is a section: an attrs class that is no component."""
    return isinstance(expected, type) and attrs.has(expected) and not issubclass(expected, Component)


def _allowed(field: attrs.Attribute[Any]) -> str:
    """Type, default and meaning, as far as they are known."""
    text = spell(field.type)
    if field.default is not attrs.NOTHING and not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        text += f", by default {_show(field.default)}"
    return f"{text} ({field.metadata['help']})" if field.metadata.get("help") else text


def _union(value: Any, expected: Any, members: tuple[Any, ...], path: str, make: Make) -> Any:
    if value is None and type(None) in members:
        return None
    refusals: list[InputError] = []
    # An exact match first, so that 3 stays whole under `float | int`.
    for member in sorted((m for m in members if m is not type(None)), key=lambda m: type(value) is not m):
        try:
            return structure(value, member, path, make)
        except InputError as error:
            refusals.append(error)
    # The member that got beyond the value itself, to a key or a name within it, has the better word.
    inner = [e for e in refusals if not isinstance(e, _RefusedError) or e.path != path]
    if len(inner) == 1:
        raise inner[0]
    raise _RefusedError(path, value, spell(expected))


def _literal(value: Any, allowed: tuple[Any, ...], expected: Any, path: str) -> Any:
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return choice
    remedy = nearest(value, [c for c in allowed if isinstance(c, str)]) if isinstance(value, str) else ""
    raise _RefusedError(path, value, spell(expected), remedy)


def _tuple(value: Any, expected: Any, members: tuple[Any, ...], path: str, make: Make) -> tuple[Any, ...]:
    several = isinstance(value, (list, tuple))
    each = members[:1] * len(value) if several and members[-1:] == (...,) else members
    if not several or len(each) != len(value):
        raise _RefusedError(path, value, spell(expected))
    return tuple(
        structure(item, member, f"{path}[{position}]", make)
        for position, (item, member) in enumerate(zip(value, each, strict=True))
    )


def _scalar(value: Any, expected: Any, path: str) -> Any:
    if expected is float and isinstance(value, Real) and not isinstance(value, bool):
        if math.isnan(value):
            raise _RefusedError(path, value, "a number", "NaN is none")
        return float(value)
    if expected is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if expected is Path and isinstance(value, str):
        return Path(value)
    if expected in (int, float):  # a bool is an int
        raise _RefusedError(path, value, spell(expected))
    return _instance(value, expected, expected, path)


def _instance(value: Any, runtime: Any, expected: Any, path: str) -> Any:
    if isinstance(runtime, type) and not isinstance(value, runtime):
        raise _RefusedError(path, value, spell(expected))
    return value


def _unknown(key: Any, fields: Fields, path: str) -> ConfigError:
    allowed = ", ".join(fields) or "no keys at all"
    where = f"{path} takes" if path else "The keys are"
    return ConfigError(f"{_join(path, str(key))} is no known key", f"{where} {allowed}", nearest(key, fields))


def _out_of_range(
    error: Exception, cls: type, fields: Fields, values: Mapping[str, Any], path: str
) -> ConfigError:
    """A validator's complaint, said of the key it is about."""
    message = str(error.args[0]) if error.args else type(error).__name__
    message = re.sub(r"(: \S+| \(got .*\))$", "", message)
    key = _blamed(cls, fields, values)
    if key is None:
        return ConfigError(f"{path or cls.__name__} cannot be made: {message}")
    got = f"{_join(path, key)} is {_show(values[key])}, but {message}"
    return ConfigError(got, f"It takes {_allowed(fields[key])}")


def _blamed(cls: type, fields: Fields, values: Mapping[str, Any]) -> str | None:
    """The first key whose validator complains, asked one by one on an unvalidated draft of the object."""
    draft: Any = object.__new__(cls)
    for key, value in values.items():
        object.__setattr__(draft, fields[key].name, value)
    for key, value in values.items():
        validator = fields[key].validator
        try:
            if validator is not None:
                validator(draft, fields[key], value)
        except (TypeError, ValueError):
            return key
        except AttributeError:  # it looks at a field that only a complete object has
            continue
    return None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _show(value: Any) -> str:
    """A value as one would write it, cut short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"a mapping ({', '.join(map(str, value))})"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
