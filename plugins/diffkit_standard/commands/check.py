"""`diffkit check`: the laws of a kind, held against one component."""

from __future__ import annotations

import json
from collections import Counter

import click

from diffkit.cli import complete, options
from diffkit.cli.table import table

__all__ = ["command"]


@click.command("check")
@click.argument("kind", shell_complete=complete.kinds)
@click.argument("name", shell_complete=complete.names())
@options.overrides
@options.quiet
@options.json_output
@click.pass_context
def command(
    ctx: click.Context, kind: str, name: str, overrides: tuple[str, ...], quiet: bool, as_json: bool
) -> None:
    """Hold one component against the conformance laws of its KIND.

    --set gives it parameters (--set order=3). Every law is named; a broken one with its formula and
    its counter-example. The exit status is 1 if a law is broken, or if none applies.
    """
    from diffkit import documents
    from diffkit.progress import aloud
    from diffkit.testing import check

    with aloud(not quiet):
        rows = check(kind, documents.apply({"name": name}, overrides))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        columns = ("law", "status", "detail")
        click.echo(table(columns, [[row[c] for c in columns] for row in rows]))
        for row in rows:
            if row["status"] == "failed":
                click.echo(f"\n{row['law']} is broken: {row['detail']}\n  {row['formula']}")
        count = Counter(row["status"] for row in rows)
        click.echo(
            f"\n{len(rows)} laws: " + ", ".join(f"{number} {status}" for status, number in count.items())
        )
    statuses = {row["status"] for row in rows}
    if "failed" in statuses or "passed" not in statuses:
        ctx.exit(1)
