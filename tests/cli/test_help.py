"""Help: its text, and that it loads nothing heavy."""

import subprocess
import sys

import pytest

import pruneaug_cli

COMMANDS = (
    "", "profile", "platforms", "platforms list", "platforms show", "search", "finetune",
    "choose", "export", "bench", "run", "report", "doctor",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.replace(" ", "-") or "root")
def test_help_text(invoke, golden, command):
    outcome = invoke(*command.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    golden(f"help/{command.replace(' ', '-') or 'root'}.txt", outcome.out)


def test_no_command_shows_the_help(invoke):
    assert invoke().out == invoke("--help").out


def test_version(invoke):
    assert invoke("--version").out == f"pruneaug {pruneaug_cli.__version__}\n"


@pytest.mark.parametrize("command", ["", "search"])
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys\nfrom pruneaug_cli.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    arguments = [sys.executable, "-c", code, *command.split(), "--help"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)  # noqa: S603
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "pruneaug_cli" in loaded
    assert loaded.isdisjoint(
        {"torch", "numpy", "onnx", "onnxruntime", "optuna", "pandas", "scipy", "plotly"}
    )
