"""Options that benchmarks share, and their refusals: one line and a hint, the exit code."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pruneaug_cli.core import BlockShape
from pruneaug_cli.errors import PruneaugError, UsageError

Value = TypeVar("Value")


def read_list(text: str, option: str, read: Callable[[str], Value]) -> list[Value]:
    """Read ``a,b,c``.

    Raises:
        UsageError: a part cannot be read; the message names the option.
    """
    try:
        return [read(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def read_sparsity(text: str) -> float:
    """A fraction of blocks to remove.

    Raises:
        ValueError: not a number in [0, 1).
    """
    try:
        sparsity = float(text)
    except ValueError:
        sparsity = -1.0
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"expected a sparsity in [0, 1) such as 0.9, got {text!r}")
    return sparsity


def read_blocks(text: str | None, option: str) -> list[BlockShape]:
    """Read ``8x1,32x1``; no text, no blocks."""
    return [] if text is None else read_list(text, option, BlockShape.parse)


def add_common(parser: argparse.ArgumentParser, *, seconds: float) -> None:
    """``--threads``, ``--seconds``, ``--jsonl``."""
    parser.add_argument("--threads", type=int, default=1, help="of every session (default: 1)")
    parser.add_argument("--seconds", type=float, default=seconds, help="of timing, per row")
    parser.add_argument("--jsonl", type=Path, help="write the rows here too, one object per line")


def check_common(options: argparse.Namespace) -> None:
    """Refuse numbers that make no sense.

    Raises:
        UsageError: says which.
    """
    if options.threads < 1:
        raise UsageError(f"--threads: expected at least 1, got {options.threads}")
    if not options.seconds > 0.0:
        raise UsageError(f"--seconds: expected more than 0, got {options.seconds:g}")


def write_rows(rows: Iterable[Mapping[str, object]], path: Path | None) -> None:
    """Print every row when it is there, and add it to the file: a run cut short keeps its rows."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", "utf-8")
    for row in rows:
        line = json.dumps(row)
        print(line, flush=True)
        if path is not None:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")


@contextmanager
def refusing(program: str) -> Iterator[None]:
    """Turn errors the user can act on into one line, a hint and their exit code."""
    try:
        yield
    except PruneaugError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)


def task_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Options of a benchmark that searches plans of a task's model."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--task", required=True, help="as for pruneaug search")
    parser.add_argument("--checkpoint", type=Path, help="a built-in task brings its own")
    parser.add_argument("--platform", required=True, help="name or file of a profile")
    parser.add_argument("--folder", type=Path, help="keep what is made here; go on from there")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as for pruneaug search"
    )
    parser.add_argument("--jsonl", type=Path, help="write the rows here too, one object per line")
    return parser
