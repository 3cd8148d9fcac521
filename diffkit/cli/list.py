"""`diffkit list`: what is installed, from metadata alone."""

from __future__ import annotations

import json

import click

from diffkit.cli.table import table
from diffkit.registry import ComponentInfo, components, verify

__all__ = ["command"]


@click.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@click.option("--verify", "verified", is_flag=True, help="Import each one, in a process of its own.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds an import may take.")
def command(kind: str | None, as_json: bool, verified: bool, timeout: float) -> None:
    """List every component, or those of one KIND.

    Nothing is imported, unless --verify asks for it.
    """
    rows = [_row(info, timeout if verified else None) for info in components(kind)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    columns = ["kind", "name", "distribution", "version", "status"]
    columns += ["reason"] if any("reason" in row for row in rows) else []
    shown = [{**row, "version": row["version"][:19]} for row in rows]  # a checksum is cut short
    click.echo(table(columns, [[row.get(column, "") for column in columns] for row in shown]))


def _row(info: ComponentInfo, timeout: float | None) -> dict[str, str]:
    row = info.as_json()
    if timeout is None or not info.usable:
        return row
    status, reason = verify(info, timeout)
    return row | {"status": status} | ({"reason": reason} if reason else {})
