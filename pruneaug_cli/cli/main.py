"""The ``pruneaug`` program: its commands, and how a failure becomes one line and an exit code."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from pruneaug_cli import __version__
from pruneaug_cli.cli.commands import (
    bench,
    choose,
    doctor,
    export,
    finetune,
    platforms,
    profile,
    report,
    run,
    search,
)
from pruneaug_cli.errors import PruneaugError, UsageError
from pruneaug_cli.registry import nearest

# typer carries click inside or beside it, depending on its version: ask it for the class
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_INTERRUPTED = 130

_HELP = """\
Make a trained PyTorch model faster: block-sparse, exported to ONNX, measured on your machine.

\b
1. pruneaug profile --task task.py --platform laptop
2. pruneaug search weights.pt --task task.py --platform laptop --target-speedup 3
3. pruneaug finetune runs/RUN
4. pruneaug export runs/RUN
5. pruneaug bench runs/RUN

`pruneaug run recipe.yaml` goes the whole way. Try: pruneaug run recipes/digits-demo.yaml
"""

_EPILOG = """\
Every command takes --json (one document on stdout, all else on stderr).

\b
Exit codes: 0 done, 2 wrong options, 3 a file cannot be used, 4 not supported here,
5 no working compiler, 6 no plan meets the target, 7 an export computes something else.
"""

app = typer.Typer(
    name="pruneaug",
    help=_HELP,
    epilog=_EPILOG,
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    profile.profile, search.search, choose.choose, finetune.finetune, export.export,
    bench.bench, run.run, report.report, doctor.doctor,
):  # fmt: skip
    app.command()(command)
app.add_typer(platforms.app, name="platforms")


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Show help or version when there is no command."""
    del debug  # main has seen it, wherever it stood
    if version:
        typer.echo(f"pruneaug {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit.

    Args:
        arguments: what follows the program's name; ``None``: the process's own. ``--debug`` may
            stand anywhere.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = app(words, prog_name="pruneaug", standalone_mode=False)
    except PruneaugError as error:
        if debug:
            raise
        _fail(str(error), error.hint, error.exit_code)
    except _UsageError as error:
        if debug:
            raise
        _fail(*_explain_usage(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _explain_usage(error: Exception) -> tuple[str, str, int]:
    """Message, hint and exit code of a wrong option, in the form of every other error."""
    context = getattr(error, "ctx", None)
    hint = f"see: {'pruneaug' if context is None else context.command_path} --help"
    message: str = error.format_message()  # type: ignore[attr-defined]  # every UsageError has it
    if getattr(error, "possibilities", None):
        message, hint = error.args[0], nearest(error.option_name, error.possibilities)  # type: ignore[attr-defined]
    message = " ".join(message.split()).rstrip(".")
    return message[:1].lower() + message[1:], hint, UsageError.exit_code


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    typer.echo(f"pruneaug: error: {message}", err=True)
    if hint:
        typer.echo(f"  hint: {hint}", err=True)
    sys.exit(code)
