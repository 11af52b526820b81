"""The command line: options → request → use case → render. The only place that prints or exits."""

from pruneaug_cli.cli.main import main

__all__ = ["main"]
