"""`diffkit check`: the laws of a kind, held against one component."""

from __future__ import annotations

import json

import click

from diffkit.cli import options
from diffkit.cli.table import table

__all__ = ["command"]


@click.command("check")
@click.argument("kind")
@click.argument("name")
@options.overrides
@options.json_output
@click.pass_context
def command(ctx: click.Context, kind: str, name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Hold one component against the conformance laws of its KIND.

    --set gives it parameters (--set order=3). Every law is named; a broken one with its formula and
    its counter-example. The exit status is 1 if a law is broken, or if none applies.
    """
    from diffkit import documents
    from diffkit.testing import check

    rows = check(kind, documents.apply({"name": name}, overrides))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        columns = ("law", "status", "detail")
        click.echo(table(columns, [[row[c] for c in columns] for row in rows]))
        for row in rows:
            if row["status"] == "failed":
                click.echo(f"\n{row['law']} is broken: {row['detail']}\n  {row['formula']}")
    statuses = {row["status"] for row in rows}
    if "failed" in statuses or "passed" not in statuses:
        ctx.exit(1)
