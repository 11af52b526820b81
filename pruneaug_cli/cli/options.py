"""Options that several commands share, and how their text becomes a value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.app.durations import parse_duration


def duration(text: str | float) -> float:
    """Read a duration as seconds; a default that is a number already stays."""
    try:
        return text if isinstance(text, float) else parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@dataclass(frozen=True)
class Values:
    """What an option was given: one value, or several of a family."""

    numbers: tuple[float, ...]


def given(values: Values | None) -> float | tuple[float, ...] | None:
    """What a request holds: nothing, a value, or several."""
    if values is None:
        return None
    return values.numbers if len(values.numbers) > 1 else values.numbers[0]


def numbers(text: str) -> Values:
    """Read a number, or several with commas between them."""
    try:
        return Values(tuple(float(part) for part in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(
            f"expected a number, or several such as 2,3,4, got {text!r}"
        ) from error


def durations(text: str) -> Values:
    """Read a duration, or several with commas between them."""
    try:
        return Values(tuple(parse_duration(part) for part in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def block(text: str) -> str:
    """Check a block shape, and write it as everywhere."""
    from pruneaug_cli.core.shapes import BlockShape

    try:
        return str(BlockShape.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.")
]
RunDir = Annotated[
    Path, typer.Argument(metavar="RUN", show_default=False, help="Folder of the run: runs/NAME.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", show_default=False,
        help="Change one setting of the recipe, such as search.trials=50. May be repeated.",
    ),
]  # fmt: skip
TrustCheckpoint = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint", help="Load a pickled module, which may run any code it contains."
    ),
]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", show_default=False,
                 help="Folder of the run; again with the same one resumes.  "
                      "[default: runs/TASK]"),
]  # fmt: skip
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", show_default=False,
                 help="Optuna storage of the study.  [default: study.db in the run]"),
]  # fmt: skip
Threads = Annotated[int, typer.Option(min=1, metavar="N", help="Threads of ONNX Runtime.")]
