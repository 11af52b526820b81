"""Every engine evaluates plans elsewhere, passes errors on, and survives its workers."""

import os
import signal
import sys
import time
from dataclasses import dataclass

import pytest

from pruneaug_cli.children import WorkerDiedError
from pruneaug_cli.core import BlockShape, Evaluation, LayerChoice, Plan
from pruneaug_cli.errors import TaskError, UnsupportedError
from pruneaug_cli.search import ENGINES

PATIENCE_S = 120.0
PLANS = [Plan.of({"fc": LayerChoice(BlockShape(8, 1), index / 100)}) for index in range(1, 9)]


class OddError(Exception):
    """Cannot be unpickled: it wants two arguments."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


@dataclass(frozen=True)
class Make:
    """An evaluation that tells its process in the metric, or does as the sparsity says."""

    def __call__(self):
        return _evaluate


def _evaluate(plan):
    match round(plan["fc"].sparsity * 100):
        case 5:
            raise TaskError("task.py: evaluate failed", hint="mend it")
        case 6:
            raise OddError("odd", "error")
        case 7:
            os.kill(os.getpid(), signal.SIGKILL)
        case 8:
            time.sleep(1000)
    return float(os.getpid())


@pytest.fixture(params=list(ENGINES))
def engine(request):
    try:
        opened = ENGINES.create(request.param)
    except UnsupportedError as error:
        pytest.skip(str(error))
    with opened(Make(), 2) as engine:
        yield engine


def outcomes(engine, plans):
    for plan in plans:
        engine.submit(plan)
    found, deadline = {}, time.monotonic() + PATIENCE_S
    while len(found) < len(plans) and time.monotonic() < deadline:
        found |= {outcome.plan: outcome for outcome in engine.wait(1.0)}
    return [found[plan] for plan in plans]


@pytest.mark.slow
def test_an_engine_keeps_its_contract(engine):
    first, second = outcomes(engine, PLANS[:2])
    assert os.getpid() not in (first.result.metric, second.result.metric)
    assert 0.0 <= first.seconds < 1.0  # of the evaluation, not of starting a process

    refused, odd = outcomes(engine, PLANS[4:6])
    assert isinstance(refused.result, TaskError)
    assert (str(refused.result), refused.result.hint) == ("task.py: evaluate failed", "mend it")
    assert isinstance(odd.result, RuntimeError)
    assert "OddError: odd error" in str(odd.result)

    good, dead = outcomes(engine, [PLANS[2], PLANS[6]])
    assert isinstance(good.result, Evaluation)
    assert isinstance(dead.result, WorkerDiedError)

    again = outcomes(engine, PLANS[:2])
    assert all(isinstance(outcome.result, Evaluation) for outcome in again)

    started = time.monotonic()
    engine.submit(PLANS[7])
    assert engine.wait(0.1) == []
    engine.close()
    assert time.monotonic() - started < 10.0


def test_an_unknown_engine_is_refused():
    with pytest.raises(UnsupportedError, match="unknown engine 'rai'") as refusal:
        ENGINES.create("rai")
    assert refusal.value.hint == "did you mean 'ray'?"


def test_a_missing_ray_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnsupportedError, match="the engine 'ray' needs Ray, which is not") as no:
        ENGINES.create("ray")
    assert no.value.hint == "pip install 'pruneaug[ray]'"
