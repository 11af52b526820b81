"""benchmarks/search.py: what its figures mean, what it remembers, its refusals."""

import json
from functools import partial
from pathlib import Path

import contest
import pytest
import search
import table
from contest import Evaluated, Evaluations

from pruneaug_cli.core import DENSE, BlockShape, Evaluation, LayerChoice, Option, Partial, Plan
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.search import SearchProblem
from tests.unit.scripts import require_refusal, run_script

run = partial(run_script, search)
PRUNED = tuple(LayerChoice(BlockShape(8, 1), sparsity) for sparsity in (0.25, 0.5, 0.75))
ROW = (Option(DENSE, 1.0, 0.0), *(Option(c, 1.0 - c.sparsity, c.sparsity) for c in PRUNED))
PROBLEM = SearchProblem({"a": ROW, "b": ROW}, 0.0, 1.0, max_drop=0.1)


def metric(plan: Plan) -> float:
    return 1.0 - 0.1 * sum(choice.sparsity for _, choice in plan.items())


def evaluated(latency_s: float, drop: float) -> Evaluated:
    return Evaluated(Plan.dense(("a", "b")), latency_s, Evaluation(1.0 - drop), 0.0)


def test_a_plan_is_evaluated_once_and_counts_for_every_strategy(tmp_path: Path) -> None:
    asked: list[Plan] = []

    def evaluate(plan: Plan) -> float:
        asked.append(plan)
        return metric(plan)

    for path in (None, tmp_path / "evaluations.jsonl", tmp_path / "evaluations.jsonl"):
        evaluations = Evaluations(PROBLEM, evaluate, path)
        for strategy in ("uniform", "greedy", "uniform"):
            found = contest.attempt(PROBLEM, evaluations, strategy, seed=0, trials=3)
            assert len(found.trials) == 3
            assert found.seconds >= found.own_s > 0.0
    known = len(set(asked))
    assert len(asked) == 2 * known  # without a file, then with one; not again from it


def test_evaluations_of_another_problem_are_dropped(tmp_path: Path) -> None:
    path, plan = tmp_path / "evaluations.jsonl", Plan.of({"a": PRUNED[0], "b": DENSE})
    Evaluations(PROBLEM, metric, path)(plan)
    other = SearchProblem({"a": ROW, "b": ROW}, 0.5, 1.0, max_drop=0.1)
    assert Evaluations(other, lambda _: 0.25, path)(plan).metric == 0.25
    header, row = path.read_text("utf-8").splitlines()
    assert json.loads(header) == {"problem": other.fingerprint()}
    assert json.loads(row)["metric"] == 0.25


def test_a_search_that_finds_nothing_still_counts() -> None:
    evaluations = Evaluations(PROBLEM, lambda _: 0.0, None)
    found = contest.attempt(PROBLEM, evaluations, "random", seed=0, trials=4)
    assert len(found.trials) == 4
    assert contest.best_of(PROBLEM, found.trials, 0.1) is None


def test_the_best_is_the_fastest_that_keeps_the_drop() -> None:
    trials = [evaluated(1.0, 0.2), evaluated(1.5, 0.1), evaluated(1.8, 0.05)]
    found = [contest.best_of(PROBLEM, trials, drop) for drop in (0.01, 0.05, 0.1, 0.2)]
    assert [best and best.predicted_latency_s for best in found] == [None, 1.8, 1.5, 1.0]


def test_evaluations_to_reach_counts_up_to_the_first_as_good() -> None:
    trials = [evaluated(1.0, 0.2), evaluated(1.5, 0.1), evaluated(1.2, 0.1)]
    reach = partial(contest.evaluations_to_reach, PROBLEM, trials)
    assert reach(evaluated(1.5, 0.1)) == 2
    assert reach(evaluated(1.3, 0.0)) == 3
    assert reach(evaluated(1.1, 0.1)) is None
    assert reach(None) is None


def test_an_evaluation_that_ended_early_is_remembered_as_such(tmp_path: Path) -> None:
    path, plan = tmp_path / "evaluations.jsonl", Plan.of({"a": PRUNED[0], "b": DENSE})
    early = Evaluation(0.75, 0.5, Partial(0.75, samples=500, of=2000, max_drop=0.2))
    Evaluations(PROBLEM, lambda _: early, path)(plan)
    read = Evaluations(PROBLEM, metric, path)(plan)
    assert (read.found, read.metric) == (early, 0.75)


def test_hypervolume_is_the_part_of_the_square_that_is_dominated() -> None:
    """Dense takes 2 s, and 0.2 is the largest drop that counts."""
    assert contest.hypervolume(PROBLEM, []) == 0.0
    assert contest.hypervolume(PROBLEM, [evaluated(1.0, 0.1)]) == pytest.approx(0.5 * 0.5)
    two = [evaluated(1.0, 0.1), evaluated(0.5, 0.15)]
    assert contest.hypervolume(PROBLEM, two) == pytest.approx(0.25 + 0.25 * 0.25)
    useless = [evaluated(1.5, 0.12), evaluated(0.1, 0.24), evaluated(2.5, 0.0)]
    assert contest.hypervolume(PROBLEM, two + useless) == contest.hypervolume(PROBLEM, two)
    assert contest.hypervolume(PROBLEM, [evaluated(1.0, -0.04)]) == pytest.approx(0.5)


def test_uniform_plans_are_all_there_are() -> None:
    found = contest.all_uniform(PROBLEM, Evaluations(PROBLEM, metric, None))
    assert [trial.metric for trial in found] == pytest.approx([0.85, 0.9, 0.95])


def test_a_strategy_that_cannot_serve_says_so() -> None:
    evaluations = Evaluations(PROBLEM, metric, None)
    with pytest.raises(UnsupportedError, match="no layer has options with blocks of 1x1"):
        contest.attempt(PROBLEM, evaluations, "unstructured", seed=0, trials=4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--strategies tpe,knapsak", "--strategies: no strategy 'knapsak'"),
        ("--seeds 0,x", "--seeds: expected a number from 0, got 'x'"),
        ("--evaluations 0", "--evaluations: expected at least 1, got 0"),
        ("--max-drop 0", "--max-drop: expected more than 0, got 0"),
        ("--threads 0", "--threads: expected at least 1, got 0"),
        ("--seconds 0", "--seconds: expected more than 0, got 0"),
    ],
)
def test_refusals_are_one_line(
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = ("--task", "builtin:digits-cnn", "--platform", "nowhere")
    assert run(monkeypatch, *needed, *words.split()) == 2
    require_refusal(search, capsys.readouterr().err, message)


def test_an_unknown_platform_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--task", "builtin:digits-cnn", "--platform", "nowhere", "--seeds", "0")
    assert run(monkeypatch, *words) != 0
    require_refusal(search, capsys.readouterr().err, "")


def test_a_table_has_a_line_per_strategy_with_the_mean_of_its_seeds(tmp_path: Path) -> None:
    def row(seed: int, latency_s: float | None, reached: int) -> dict[str, object]:
        speedup = None if latency_s is None else 2.0
        found = {"max_drop": 0.01, "latency_s": latency_s, "speedup": speedup, "test_drop": None}
        return {
            "strategy": "tpe", "seed": seed, "evaluations": 200, "hypervolume": 0.5,
            "evaluations_to_best_uniform": reached, "at": [found],
        }  # fmt: skip

    path = tmp_path / "rows.jsonl"
    note = {"strategy": "unstructured", "seed": 0, "note": "no layer has 1x1"}
    rows = [note, row(0, 1e-3, 4), row(1, None, 6)]
    path.write_text("".join(f"{json.dumps(r)}\n" for r in rows), "utf-8")
    heads, _, *lines = table.table(table.read_rows(path)).splitlines()
    assert heads == (
        "| strategy | seeds | evaluations | best uniform plan after | hypervolume "
        "| 0.01 lost: measured | 0.01 lost: speed-up |"
    )
    assert lines == [
        "| `unstructured` | 0 | – | – | – | – | – |",
        "| `tpe` | 0, 1 | 200 | 5 (4 to 6) | 0.500 | 1 ms, 1 of 2 seeds | 2.00×, 1 of 2 seeds |",
    ]
