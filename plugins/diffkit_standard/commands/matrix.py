"""`diffkit matrix`: which components of two kinds work together."""

from __future__ import annotations

import json

import click

from diffkit.cli import complete
from diffkit.cli.table import table

__all__ = ["command"]

_MARKS = {"allowed": "yes", "caveat": "caveat", "refused": "no", "broken": "broken"}


@click.command("matrix")
@click.argument("kinds", nargs=-1, metavar="[KIND KIND]", shell_complete=complete.kinds)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def command(kinds: tuple[str, ...], as_json: bool) -> None:
    """Show what works together: processes and samplers, or any two KINDs.

    Everything is judged with its default parameters; `name[field=value]` is a variant for which
    the answer is another.
    """
    if len(kinds) not in (0, 2):
        raise click.UsageError("give no kind or two")
    from diffkit.compatibility import matrix

    row, column = kinds or ("sde", "sampler")
    records = matrix(row, column)
    click.echo(json.dumps(records, indent=2) if as_json else _text(row, column, records))


def _text(row: str, column: str, records: list[dict[str, str]]) -> str:
    cells = {(record[row], record[column]): record["status"] for record in records}
    rows = list(dict.fromkeys(a for a, b in cells if "*" not in (a, b)))
    columns = list(dict.fromkeys(b for a, b in cells if "*" not in (a, b)))
    grid = [[b, *(_MARKS.get(cells.get((a, b), ""), "") for a in rows)] for b in columns]
    parts = [table([f"{column} \\ {row}", *rows], grid)]
    for record in records:
        if record["status"] != "allowed":
            said = " ".join(text for text in (record["reason"], record["remedy"]) if text)
            parts.append(f"{record[row]} x {record[column]}: {record['status']}. {said}")
    return "\n\n".join(parts)
