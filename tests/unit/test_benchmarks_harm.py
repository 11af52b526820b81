"""benchmarks/harm.py and benchmarks/reconstruct.py: their plans, their figures, their refusals."""

import harm
import numpy as np
import pytest
import reconstruct

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, Option
from tests.unit.scripts import require_refusal, run_script

PRUNED = tuple(LayerChoice(BlockShape(8, 1), sparsity) for sparsity in (0.25, 0.5, 0.6, 0.75))
ROW = (Option(DENSE, 1.0, 0.0), *(Option(c, 1.0 - c.sparsity, c.sparsity) for c in PRUNED))
OPTIONS = dict.fromkeys("abcdef", ROW)


def test_random_plans_fill_every_band_of_latencies() -> None:
    plans = harm.random_plans(OPTIONS, 40, np.random.default_rng(0), rest_s=1.0)
    assert len(plans) == 40
    for band, plan in plans:
        latency = 1.0 + sum(1.0 - choice.sparsity for _, choice in plan.items())
        assert int(harm.BANDS * (latency - 2.5) / 4.5) == band
    again = harm.random_plans(OPTIONS, 40, np.random.default_rng(0), rest_s=1.0)
    assert plans == again


def test_single_plans_prune_one_layer_each() -> None:
    plans = harm.single_plans({**OPTIONS, "fixed": (Option(DENSE, 1.0, 0.0),)})
    assert len(plans) == 6 * 3
    for plan in plans:
        (pruned,) = [choice for _, choice in plan.items() if not choice.is_dense]
        assert pruned.sparsity in (0.25, 0.6, 0.75)


def test_correlations_within_bands_do_not_see_what_bands_differ_by() -> None:
    """Over all, latency gives the rank away; within each band the order is the reverse."""
    rows = [
        {"band": band, "drop": 10.0 * band + step, "loss": 10.0 * band - step}
        for band in range(harm.BANDS)
        for step in range(5)
    ]
    found = harm.correlations(rows, "loss")
    assert found["within"] == pytest.approx(-1.0)
    assert found["all"] > 0.7


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (harm, "--platform nowhere --plans 5", "--plans: expected at least 12, got 5"),
        (harm, "--platform nowhere --threads 0", "--threads: expected at least 1, got 0"),
        (reconstruct, "--threads 0", "--threads: expected at least 1, got 0"),
        (reconstruct, "--blocks 8y1", "--blocks: expected ROWSxCOLS such as 8x1, got '8y1'"),
    ],
)
def test_refusals_are_one_line(script, words, message, monkeypatch, capsys) -> None:
    code = run_script(script, monkeypatch, "--task", "builtin:digits-cnn", *words.split())
    assert code == 2
    require_refusal(script, capsys.readouterr().err, message)
