"""Writes docs/reference/ from the code: components, configuration, laws, commands, and what fits together.

python docs/_site/reference.py            writes the pages (`make reference`)
python docs/_site/reference.py --check    exit status 1, and their names, where pages and code differ

Only diffkit's own components and commands are told of, whatever else is installed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from click.testing import CliRunner

from diffkit import policy
from diffkit.cli.main import commands
from diffkit.config import (
    EvaluationConfig,
    ExperimentConfig,
    SamplingConfig,
    TrackingConfig,
    TrainingConfig,
)
from diffkit.registry import KINDS, Registry, using
from diffkit.selection import CAPABILITIES
from diffkit.structure import settings, spell
from diffkit.testing import laws

FOLDER = Path(__file__).parents[1] / "reference"
NOTE = "<!-- Written by docs/_site/reference.py from the code; change that, and run `make reference`. -->\n\n"

KIND_TITLES = {
    "schedule": "Schedules: how fast noise comes in",
    "sde": "Processes: how data turn into noise",
    "sampler": "Samplers: one step from more noise to less",
    "grid": "Grids: where a sampler stops",
    "conditioner": "Conditioners: what bends samples",
    "operator": "Operators: linear measurements",
    "metric": "Metrics: figures with their errors",
    "network": "Networks: what is trained",
    "objective": "Objectives: what a network predicts",
    "dataset": "Data sets",
    "features": "Features: the view in which images are compared",
}
SECTIONS = {
    "": ExperimentConfig,
    "training": TrainingConfig,
    "sampling": SamplingConfig,
    "evaluation": EvaluationConfig,
    "evaluation.track": TrackingConfig,
}
PAIRS = {
    ("sampler", "sde"): "Every sampler with every process.",
    ("schedule", "sde"): "Which process takes which schedule.",
    ("sampler", "conditioner"): "What imputation, restoration and clamping ask of a sampler.",
    ("objective", "sde"): "What a network can be trained to predict.",
    ("objective", "network"): "Which outputs an objective reads.",
    ("metric", "conditioner"): "Which figures are taken of samples that are bent.",
}
CONFIGURATION = """\
# Configuration

A configuration is YAML (1.2) or a mapping. An unknown key, a value of the wrong type or out of range is
refused, with the nearest name. Where a component is expected, a name (`vp`) or a mapping with a name and
parameters (`{name: vp, schedule: cosine}`) does; in Python an object does too. Any key can be changed on
the command line: `--set training.steps=500`, `--set sampling.conditioners.0.scale=2`."""
LAWS = """\
# The laws

What `diffkit check KIND NAME` asserts, of built-in components and of anyone's. A law has a name and a
formula; a broken one answers with its counter-example, and one that does not apply says why. In a test,
`diffkit.testing.parametrize_with_laws` makes a case of each ([how](../plugins.md#the-laws)). The laws are
proved to have teeth by mutants: wrong variants of built-in components, each of which some law must find."""
COMMANDS = """\
# Commands

Exit status 0: done; 1: a run or a law that failed; 2: something the user can mend, told in one paragraph;
130 and 143: interrupted. With `--json` there is nothing but JSON on stdout; progress, caveats and errors
go to stderr."""
MATRIX = """\
# What fits together

Computed from what components provide and require, as `diffkit matrix` prints it. Each is judged with its
default parameters; `name[field=value]` is a variant whose answer is another. *Caveat*: valid but unwise.
A refusal comes before any data are read, with its reason and what to do instead. An empty cell is that of
the default."""
MARKS = {"allowed": "yes", "caveat": "caveat", "refused": "**no**"}


def pages() -> dict[str, str]:
    """Every page of the folder: its file's name, its text."""
    with policy.using(policy.Policy(allow=("diffkit",))), using(Registry.scan()):
        made = {f"{KINDS[kind].group.removeprefix('diffkit.')}.md": _components(kind) for kind in KINDS}
        return made | {
            "configuration.md": _configuration(),
            "laws.md": _laws(),
            "commands.md": _commands(),
            "matrix.md": _matrix(),
        }


def _answer(*arguments: str) -> Any:
    """What a command prints as JSON."""
    done = CliRunner().invoke(commands, [*arguments, "--json"], obj={"debug": False})
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def _components(kind: str) -> str:
    parts = [f"# {KIND_TITLES[kind]}", f"From `diffkit show {kind} NAME`. {_laws_of(kind)}"]
    for info in (each for each in _answer("list", kind) if each["status"] != "denied"):
        parts += _component(_answer("show", kind, info["name"]))
    return "\n\n".join(parts)


def _laws_of(kind: str) -> str:
    return f"Each is held to [the laws of its kind](laws.md#{kind}) by `diffkit check {kind} NAME`."


def _component(page: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {page['name']}"
    yield from _prose(page["doc"])
    if (
        page["source"]
        and page["source"] not in " ".join(page["doc"].split())
        and "Source:" not in page["doc"]
    ):
        yield _linked(f"**Source:** {_text(page['source'])}.")
    if page["parameters"]:
        yield _table(
            ("parameter", "type", "default", "meaning"),
            (
                (_code(row["name"]), _text(row["type"]), _default(row), _text(row["help"]))
                for row in page["parameters"]
            ),
        )
    else:
        yield "It has no parameters."
    if page["provides"] is None:
        yield f"What it provides and requires depends on its parameters: {_text(page['note'])}."
        return
    yield f"**Provides:** {', '.join(map(_code, page['provides'])) or 'nothing'}."
    if page["requires"]:
        yield "**Requires:**"
        yield "\n".join(f"- {_requirement(need)}" for need in page["requires"])


def _requirement(need: Mapping[str, str]) -> str:
    why = "; ".join(_text(text) for text in (need["reason"], need["remedy"]) if text)
    return _code(need["capability"]) + (f": {why}" if why else "")


def _default(row: Mapping[str, Any]) -> str:
    return "*required*" if row["required"] else _code(json.dumps(row["default"]))


def _configuration() -> str:
    parts = [
        CONFIGURATION,
    ]
    for name, section in SECTIONS.items():
        parts += [f"## {name or 'The whole'}", _text(section.__doc__ or "")]
        rows = []
        for key, field in settings(section).items():
            kind = spell(field.type)
            linked = f"[{kind}]({_group(kind)}.md)" if kind in KINDS else _text(kind)
            sections = {"TrainingConfig", "SamplingConfig", "EvaluationConfig"}
            where = f"[section](#{key})" if kind in sections else linked
            where = "[section](#evaluationtrack) or null" if "TrackingConfig" in kind else where
            rows.append(
                (
                    _code(f"{name}.{key}" if name else key),
                    where,
                    _default_of(field),
                    _text(field.metadata["help"]),
                )
            )
        parts.append(_table(("key", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _default_of(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "*required*"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return "its defaults"
    return _code(json.dumps(field.default))


def _group(kind: str) -> str:
    return KINDS[kind].group.removeprefix("diffkit.")


def _laws() -> str:
    parts = [
        LAWS,
    ]
    for kind in KINDS:
        parts += [f"## {kind}", "\n".join(f"- **{law.name}**: {_text(law.formula)}" for law in laws(kind))]
    return "\n\n".join(parts)


def _commands() -> str:
    top = click.Context(commands, info_name="diffkit", terminal_width=88)
    parts = [
        COMMANDS,
        _block(commands.get_help(top)),
    ]
    for name in commands.list_commands(top):
        command = commands.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top, terminal_width=88)
        parts += [f"## {name}", _block(command.get_help(context))]
    return "\n\n".join(parts)


def _matrix() -> str:
    parts = [
        MATRIX,
    ]
    for (row, column), title in PAIRS.items():
        parts += [f"## {row} and {column}", title, *_cells(row, column, _answer("matrix", row, column))]
    parts += [
        "## The words",
        "A capability is `supplier.word`. Third parties add words of their own, with their name in them.",
        _table(
            ("capability", "meaning"), ((_code(word), _text(said)) for word, said in CAPABILITIES.items())
        ),
    ]
    return "\n\n".join(parts)


def _cells(row: str, column: str, records: Sequence[Mapping[str, str]]) -> Iterator[str]:
    made = [record for record in records if "*" not in (record[row], record[column])]
    cells = {(record[row], record[column]): MARKS[record["status"]] for record in made}
    across, down = (list(dict.fromkeys(record[kind] for record in made)) for kind in (column, row))
    yield _table(
        (f"{row} \\ {column}", *map(_broken, across)),
        ((_broken(a), *(cells.get((a, b), "") for b in across)) for a in down),
    )
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in made:
        if record["status"] != "allowed":
            said = " ".join(text for text in (record["reason"], record["remedy"]) if text)
            pairs = reasons.setdefault((record["status"], said), [])
            pairs.append(f"{_code(record[row])} with {_code(record[column])}")
    yield "\n".join(
        f"- **{status}**: {_text(said)}\n  ({', '.join(pairs)})" for (status, said), pairs in reasons.items()
    )


def _broken(name: str) -> str:
    """A name for the edge of a table, which may break before its variant."""
    return f"`{name}`".replace("[", "` `[")


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _text(text: str) -> str:
    """Plain words as Markdown: what it would take for a mark is escaped, but for code."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_\[\]$])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def _linked(text: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _prose(doc: str) -> Iterator[str]:
    """A docstring as Markdown: paragraphs, lists, and indented equations as they stand."""
    for part in re.split(r"\n\s*\n", doc):
        lines = part.splitlines()
        if all(line.startswith("    ") for line in lines):
            yield _block("\n".join(line[4:] for line in lines))
        elif lines[0] == "Raises:":
            yield "**Raises:**"
            raised = re.split(r"\n(?=    \w)", "\n".join(lines[1:]))
            yield "\n".join(f"- {_text(each)}" for each in raised)
        elif lines[0].startswith("- "):
            yield "\n".join(f"- {_text(each[2:])}" for each in re.split(r"\n(?=- )", part))
        else:
            yield _linked(re.sub(r"^Source:", "**Source:**", _text(part)))


def main(arguments: Sequence[str]) -> int:
    made = {name: NOTE + text + "\n" for name, text in pages().items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in made | there if made.get(name) != there.get(name))
    if "--check" in arguments:
        if stale:
            print(f"docs/reference differs from the code: {', '.join(stale)}. Run `make reference`.")
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name in stale:
        if name in made:
            (FOLDER / name).write_text(made[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
