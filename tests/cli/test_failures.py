"""Every failure is one line with a hint on stderr, and its exit code; stdout stays clean."""

import subprocess
import sys

import pytest

from pruneaug_cli import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError, 2),
        (errors.TaskError, 3),
        (errors.RecipeError, 3),
        (errors.UnsupportedError, 4),
        (errors.ToolchainError, 5),
        (errors.BudgetError, 6),
        (errors.VerificationError, 7),
    ],
)
def test_an_error_is_one_line_with_its_hint_and_exit_code(invoke, replace_use_case, error, code):
    def fail(request, progress):
        raise error("where: found, expected", hint="do this")

    replace_use_case("report", "run_report", fail)
    outcome = invoke("report", "runs/a", "--json")
    assert outcome.code == code
    assert outcome.out == ""
    assert outcome.err == "pruneaug: error: where: found, expected\n  hint: do this\n"


def test_without_a_hint_there_is_no_hint_line(invoke, replace_use_case):
    def fail(request, progress):
        raise errors.RunError("runs/a: no such run")

    replace_use_case("report", "run_report", fail)
    assert invoke("report", "runs/a").err == "pruneaug: error: runs/a: no such run\n"


@pytest.mark.parametrize("words", [["--debug", "report", "a"], ["report", "a", "--debug"]])
def test_debug_shows_the_traceback(invoke, replace_use_case, words):
    def fail(request, progress):
        raise errors.RunError("no such run")

    replace_use_case("report", "run_report", fail)
    with pytest.raises(errors.RunError, match="no such run"):
        invoke(*words)


def test_a_bug_keeps_its_traceback(invoke, replace_use_case):
    def fail(request, progress):
        raise ZeroDivisionError

    replace_use_case("report", "run_report", fail)
    with pytest.raises(ZeroDivisionError):
        invoke("report", "runs/a")


def test_interrupting_exits_with_130(invoke, replace_use_case):
    def interrupt(request, progress):
        raise KeyboardInterrupt

    replace_use_case("report", "run_report", interrupt)
    outcome = invoke("report", "runs/a")
    assert (outcome.code, outcome.out) == (130, "")


USAGE = [
    ("nosuch", "no such command 'nosuch'", "see: pruneaug --help"),
    ("search --trails 3", "no such option: --trails", "did you mean '--trials'?"),
    ("choose runs/a", "missing argument 'TRIAL'", "see: pruneaug choose --help"),
    ("report", "missing argument 'RUN'", "see: pruneaug report --help"),
    (
        "search --target-latency 2",
        (
            "invalid value for '--target-latency': "
            "expected a duration such as 2ms, 60s, 10min or 1h, got '2'"
        ),
        "see: pruneaug search --help",
    ),
    (
        "search --target-latency 1ms,2",
        (
            "invalid value for '--target-latency': "
            "expected a duration such as 2ms, 60s, 10min or 1h, got '2'"
        ),
        "see: pruneaug search --help",
    ),
    (
        "search --target-speedup 2,,4",
        (
            "invalid value for '--target-speedup': "
            "expected a number, or several such as 2,3,4, got '2,,4'"
        ),
        "see: pruneaug search --help",
    ),
    (
        "search --max-drop 1%",
        "invalid value for '--max-drop': expected a number, or several such as 2,3,4, got '1%'",
        "see: pruneaug search --help",
    ),
    (
        "profile --platform p --task t --block 8",
        "invalid value for '--block': expected ROWSxCOLS such as 8x1, got '8'",
        "see: pruneaug profile --help",
    ),
    (
        "search --target-latency 2ms --target-speedup 3",
        "--target-latency and --target-speedup exclude each other",
        "give one of them",
    ),
    (
        "profile --platform p",
        "expected one of --task and --shapes",
        "for example: --task builtin:digits-cnn",
    ),
    (
        "profile --platform p --task t --shapes s",
        "expected one of --task and --shapes",
        "for example: --task builtin:digits-cnn",
    ),
]


@pytest.mark.parametrize(("words", "message", "hint"), USAGE, ids=[case[0] for case in USAGE])
def test_wrong_options_are_refused_in_the_same_form(invoke, replace_use_case, words, message, hint):
    replace_use_case("search", "run_search", lambda request, progress: None)
    replace_use_case("profile", "run_profile", lambda request, progress: None)
    outcome = invoke(*words.split())
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err == f"pruneaug: error: {message}\n  hint: {hint}\n"


def test_the_program_starts_as_a_module_and_exits_with_the_code():
    command = [sys.executable, "-m", "pruneaug_cli", "nosuch"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("pruneaug: error: no such command 'nosuch'\n")
