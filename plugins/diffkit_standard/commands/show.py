"""`diffkit show`: everything a component says of itself."""

from __future__ import annotations

import inspect
import json
from typing import Any

import attrs
import click

from diffkit.cli import complete
from diffkit.cli.table import table
from diffkit.errors import ComponentError, InputError
from diffkit.loading import load_info
from diffkit.registry import ComponentInfo, create, current, describe
from diffkit.structure import plain, settings, spell

__all__ = ["command"]


@click.command("show")
@click.argument("kind", shell_complete=complete.kinds)
@click.argument("name", shell_complete=complete.names())
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@click.pass_context
def command(ctx: click.Context, kind: str, name: str, as_json: bool) -> None:
    """Show one component: parameters, source, what it provides and requires.

    Of a broken one it says why, and the exit status is 2.
    """
    info = current().find(kind, name)
    page = _page(info)
    click.echo(json.dumps(page, indent=2, default=str) if as_json else _text(page))
    if page["status"] == "broken":
        ctx.exit(2)


def _page(info: ComponentInfo) -> dict[str, Any]:
    page: dict[str, Any] = info.as_json() | {"class": info.value}
    try:
        cls = load_info(info)
    except ComponentError as error:
        reason = error.got.partition(" is broken: ")[2] or error.got
        return page | {"status": "broken", "reason": reason}
    page |= {
        "source": cls.source,
        "doc": inspect.cleandoc(cls.__doc__ or ""),
        "parameters": [_parameter(key, field) for key, field in settings(cls).items()],
        "provides": None,
        "requires": None,
    }
    try:
        component = create(info.kind, info.identity)
    except InputError as error:  # a field without a default: what it offers depends on it
        return page | {"note": error.got}
    return page | {
        "provides": sorted(component.provides),
        "requires": [
            {"capability": r.capability, "reason": r.reason, "remedy": r.remedy} for r in component.requires
        ],
    }


def _parameter(key: str, field: attrs.Attribute[Any]) -> dict[str, Any]:
    row = {"name": key, "type": spell(field.type), "help": field.metadata.get("help", "")}
    required = field.default is attrs.NOTHING
    return row | {"required": required, "default": None if required else _default(field)}


def _default(field: attrs.Attribute[Any]) -> Any:
    """A field's default as one would write it."""
    if not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return plain(field.default, describe)
    factory: Any = field.default
    return "depends on other fields" if factory.takes_self else plain(factory.factory(), describe)


def _text(page: dict[str, Any]) -> str:
    lines = [f"{page['kind']} {page['name']}  ({page['distribution']} {page['version']}, {page['class']})"]
    if "reason" in page:
        return "\n".join([*lines, f"{page['status']}: {page['reason']}"])
    lines += ["", page["doc"], ""] if page["doc"] else [""]
    lines += [f"Source: {page['source']}", ""] if page["source"] not in page["doc"] else []
    rows = [
        [row["name"], row["type"], "required" if row["required"] else json.dumps(row["default"]), row["help"]]
        for row in page["parameters"]
    ]
    lines += [table(["parameter", "type", "default", ""], rows) if rows else "It has no parameters.", ""]
    if page["provides"] is None:
        return "\n".join(
            [*lines, f"What it provides and requires depends on its parameters: {page['note']}."]
        )
    lines.append(f"Provides: {', '.join(page['provides']) or 'nothing'}")
    lines.append(f"Requires: {'' if page['requires'] else 'nothing'}".rstrip())
    for need in page["requires"]:
        why = "; ".join(text for text in (need["reason"], need["remedy"]) if text)
        lines.append(f"  {need['capability']}{f': {why}' if why else ''}")
    return "\n".join(lines)
