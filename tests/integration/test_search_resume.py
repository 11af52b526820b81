"""A search killed with SIGKILL loses the trial in flight and nothing else."""

import signal
import subprocess
import sys

import pytest

SEARCH = """
import os, signal, sys
from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option
from pruneaug_cli.search import SearchProblem, run_search

storage, deadly = sys.argv[1], int(sys.argv[2])
choices = [LayerChoice(BlockShape(8, 1), sparsity) for sparsity in (0.2, 0.4, 0.6, 0.8)]
options = (
    Option(DENSE, 1e-3, 0.0),
    *(Option(choice, 1e-3 * (1.0 - choice.sparsity), choice.sparsity**3) for choice in choices),
)
problem = SearchProblem({"a": options, "b": options, "c": options}, 1e-4, 0.9, max_drop=0.3)
asked = 0

def evaluate(plan):
    global asked
    asked += 1
    if asked == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    weights = {"a": 0.1, "b": 0.2, "c": 0.4}
    return 0.9 - sum(weights[layer] * choice.sparsity**2 for layer, choice in plan.items())

result = run_search(problem, evaluate, storage=storage, study_name="s", trials=7)
print([str(choice) for _, choice in result.best.plan.items()])
print([[str(choice) for _, choice in trial.plan.items()] for trial in result.trials])
print(asked)
"""


def run(storage, deadly=0):
    return subprocess.run(  # noqa: S603  our own interpreter and script
        [sys.executable, "-c", SEARCH, storage, str(deadly)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_killed_and_run_again_a_search_ends_as_if_undisturbed(tmp_path):
    storage = f"sqlite:///{tmp_path / 'killed.db'}"
    killed = run(storage, deadly=4)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
    resumed = run(storage)
    undisturbed = run(f"sqlite:///{tmp_path / 'undisturbed.db'}")
    assert (resumed.returncode, resumed.stderr) == (undisturbed.returncode, undisturbed.stderr)
    assert undisturbed.returncode == 0, undisturbed.stderr
    *found, asked = resumed.stdout.splitlines()
    *expected, all_asked = undisturbed.stdout.splitlines()
    assert found == expected
    assert (asked, all_asked) == ("4", "7")  # three trials survived
