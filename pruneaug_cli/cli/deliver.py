"""Runs a use case with a progress display, and puts its result where it belongs.

Without ``--json`` the tables go to stdout; with it the document does, and the tables go to stderr.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from pruneaug_cli.cli.display import ProgressDisplay
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.files import dump_json
from pruneaug_cli.progress import Progress
from pruneaug_cli.report.table import Table
from pruneaug_cli.report.terminal import print_tables


class Result(Protocol):
    """What use cases answer."""

    def to_json(self) -> dict[str, Any]:
        """The document for machines."""
        ...


Request = TypeVar("Request")
Answer = TypeVar("Answer", bound=Result)


def deliver(
    use_case: Callable[[Request, Progress], Answer],
    request: Request,
    *,
    view: Callable[[dict[str, Any]], Sequence[Table]],
    as_json: bool,
) -> Answer:
    """Run ``use_case``, print its result, and return it.

    A result that misses its goals is printed too, before the refusal.

    Args:
        use_case: ``run_<command>`` of ``app``.
        request: what it is asked.
        view: turns the result's document into tables.
        as_json: whether stdout gets the document instead of the tables.
    """

    def show(result: Result) -> None:
        document = result.to_json()
        print_tables(view(document), sys.stderr if as_json else sys.stdout)
        if as_json:
            sys.stdout.write(dump_json(document))

    try:
        with ProgressDisplay(sys.stderr) as progress:
            result = use_case(request, progress)
    except BudgetError as error:
        if error.found is not None:
            show(error.found)
        raise
    show(result)
    return result
