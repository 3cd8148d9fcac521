"""`diffkit`: the group of commands, and the one place where errors become words and exit statuses.

A command is imported when it is invoked. Until then those of the entry-point group `diffkit.commands` are
shown from their metadata, diffkit's own with the first words of their source.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

import diffkit
from diffkit import policy
from diffkit.discovery import entry_points
from diffkit.errors import ComponentError, DiffkitError

__all__ = ["commands", "main"]

_OWN = ("run", "list")


class Commands(click.Group):
    """The commands of diffkit, in the order of use, and those of other distributions after them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_OWN, *_foreign()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _OWN:
            command: click.Command = importlib.import_module(f"diffkit.cli.{name}").command
            return command
        foreign = _foreign()
        rivals = [known for known in foreign if known.partition(":")[2] == name]
        if len(rivals) > 1 and name not in foreign:
            raise ComponentError(
                f"{name!r} is a command of several distributions", "", f"Write {' or '.join(rivals)}"
            )
        return _load(name, *foreign[name]) if name in foreign else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names from metadata alone: click's own way would import every command, broken ones too."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.params["allow"] or ctx.params["deny"]:  # before any command is looked for
            from diffkit.registry import Registry, using

            ctx.with_resource(policy.using(policy.Policy(ctx.params["allow"], ctx.params["deny"])))
            ctx.with_resource(using(Registry.scan()))
        return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # A third party's command may carry another name in its own help than in its metadata.
        _, command, rest = super().resolve_command(ctx, args)
        return args[0], command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [(name, self.get_command(ctx, name)) for name in _OWN]
        rows = [(name, command.get_short_help_str(90)) for name, command in own if command is not None]
        more = _foreign()
        rows += [(name, _first_words(value)) for name, (owner, value) in more.items() if owner == "diffkit"]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        others = [(name, f"from {owner}") for name, (owner, _) in more.items() if owner != "diffkit"]
        if others:
            with formatter.section("Commands of other distributions"):
                formatter.write_dl(others)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(diffkit.__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--plugin", "plugins", multiple=True, metavar="PATH.py:CLASS", help="Add a component of a local file."
)
@click.option(
    "--allow", multiple=True, metavar="DIST[:NAME]", help="Use only these plugins, and diffkit's own."
)
@click.option("--deny", multiple=True, metavar="DIST[:NAME]", help="Do without these plugins.")
@click.pass_context
def commands(
    ctx: click.Context, debug: bool, plugins: tuple[str, ...], allow: tuple[str, ...], deny: tuple[str, ...]
) -> None:
    """Score-based diffusion models from exchangeable parts.

    `diffkit run CONFIG.yaml` does the main job: it trains a model or finds it, samples, measures,
    and writes a report.
    """
    ctx.obj["debug"] = debug
    if plugins:
        from diffkit.registry import current, using

        registry = current()
        for plugin in plugins:
            registry = registry.with_file(plugin)
        ctx.with_resource(using(registry))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and leaves: 0 done, 2 the user's mistake, 1 a failure, 130 and 143 interrupted."""
    # Threads that wait by spinning for long starve each other where something else runs; so short a spin
    # costs nothing where nothing does.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _show_warning
    shared = {"debug": False}
    try:
        status = commands.main(
            arguments if arguments is None else list(arguments),
            prog_name="diffkit",
            standalone_mode=False,
            obj=shared,
        )
        sys.stdout.flush()
    except click.Abort:
        _leave("Interrupted.", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DiffkitError as error:
        _leave(f"Error: {' '.join(str(error).split())}", error.exit_status, shared["debug"])
    except BrokenPipeError:
        sys.stdout = None  # whoever read the output has left; there is nothing to flush it to
        sys.exit(1)
    except Exception as error:
        from diffkit.loading import blamed, brief
        from diffkit.registry import current

        who = blamed(error, current().infos)
        where = f", raised in {who}" if who else ""
        hint = "Run again with --debug, as `diffkit --debug COMMAND ...`, for the traceback."
        _leave(f"Unexpected {brief(error)}{where}. {hint}", 1, shared["debug"])
    sys.exit(status if isinstance(status, int) else 0)


def _foreign() -> dict[str, tuple[str, str]]:
    """Distribution and entry point of each plugged-in command; `distribution:name` where a name is taken."""
    found = entry_points("diffkit.commands")
    kept = {name for owner, name, _ in found if owner == "diffkit"}
    count = Counter([*_OWN, *kept, *(name for owner, name, _ in found if owner != "diffkit")])
    return {
        name if count[name] == 1 or owner == "diffkit" else f"{owner}:{name}": (owner, value)
        for owner, name, value in found
    }


def _first_words(value: str) -> str:
    """What a command's docstring begins with, read without importing the command."""
    module, _, attribute = value.partition(":")
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place, *rest).with_suffix(".py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else ():
            if isinstance(node, ast.FunctionDef) and node.name == attribute:
                return (ast.get_docstring(node) or "").partition(".")[0] + "."
    return ""


def _load(name: str, distribution: str, value: str) -> click.Command:
    module, _, attribute = value.partition(":")
    try:
        command: Any = getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may leave by SystemExit
        raise _broken(
            name, distribution, value, f"importing it raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise _broken(name, distribution, value, f"it is a {type(command).__name__}, not a click command")
    return command


def _broken(name: str, distribution: str, value: str, reason: str) -> ComponentError:
    return ComponentError(
        f"The command {name!r} of {distribution} ({value}) is broken: {reason}",
        remedy=f"Mend or uninstall {distribution}",
    )


def _leave(message: str, status: int, debug: bool = False) -> NoReturn:
    if debug:
        traceback.print_exc()
    click.echo(message, err=True)
    sys.exit(status)


def _terminated(number: int, frame: object) -> NoReturn:
    """SIGTERM as an exception, so that what is being written is finished or undone."""
    sys.exit(128 + number)


def _show_warning(message: Warning | str, *place: object, **more: object) -> None:
    click.echo(f"Warning: {' '.join(str(message).split())}", err=True)
