"""`diffkit list`: what is installed, from metadata alone."""

from __future__ import annotations

import json

import click

from diffkit.cli import complete, options
from diffkit.cli.table import table
from diffkit.registry import ComponentInfo, components, verify

__all__ = ["command"]


@click.command("list")
@click.argument("kind", required=False, shell_complete=complete.kinds)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@click.option("--verify", "verified", is_flag=True, help="Import each one, in a process of its own.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds an import may take.")
@options.quiet
def command(kind: str | None, as_json: bool, verified: bool, timeout: float, quiet: bool) -> None:
    """List every component, or those of one KIND.

    Nothing is imported, unless --verify asks for it.
    """
    infos = components(kind)
    rows = _verified(infos, timeout, quiet) if verified else [info.as_json() for info in infos]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    columns = ["kind", "name", "distribution", "version", "status"]
    columns += ["reason"] if any("reason" in row for row in rows) else []
    shown = [{**row, "version": row["version"][:19]} for row in rows]  # a checksum is cut short
    click.echo(table(columns, [[row.get(column, "") for column in columns] for row in shown]))


def _verified(infos: list[ComponentInfo], timeout: float, quiet: bool) -> list[dict[str, str]]:
    from diffkit.progress import aloud, watched  # slow to import

    with aloud(not quiet):
        return [_row(info, timeout) for info in watched(infos, "importing", len(infos), "components")]


def _row(info: ComponentInfo, timeout: float) -> dict[str, str]:
    if not info.usable:
        return info.as_json()
    status, reason = verify(info, timeout)
    return info.as_json() | {"status": status} | ({"reason": reason} if reason else {})
