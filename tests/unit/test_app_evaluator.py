"""What an evaluator is made of, and when a search may end evaluations early."""

import pytest
import torch
from torch import nn

from pruneaug_cli.app.evaluator import early_stop, stitched
from pruneaug_cli.app.prepared import PreparedModel, prepare
from pruneaug_cli.app.recipe import Recipe, SearchSettings
from pruneaug_cli.core import Partial
from pruneaug_cli.errors import TaskError
from pruneaug_cli.tasks import Task, builtin_checkpoint, load_task

MINI = "builtin:digits-mini"


@pytest.fixture(scope="module")
def mini():
    return prepare(MINI, builtin_checkpoint(load_task(MINI)))


@pytest.fixture(scope="module")
def dense_metric(mini):
    return mini.task.quick_evaluate(mini.model, "cpu")


class Singles:
    """Calibration data of one sample at a time."""

    def example_inputs(self):
        return torch.zeros(1, 4)

    def calibration_batches(self):
        return [torch.full((1, 4), float(number)) for number in range(3)]


def evaluator_of(mini, model):
    task = Task("task.py", Singles())
    return stitched(PreparedModel(task, model.eval(), mini.trace, mini.checkpoint), None)


def test_single_samples_serve_a_model_without_batch_norm(mini):
    evaluator = evaluator_of(mini, nn.Linear(4, 2))
    evaluator.correction.apply(evaluator.model)
    assert evaluator.divergence(evaluator.model) == 0.0


def test_single_samples_are_too_few_for_batch_norm_over_them(mini):
    evaluator = evaluator_of(mini, nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)))
    message = r"^task\.py: calibration_batches\(\): batch norm '1' has one value per channel "
    with pytest.raises(TaskError, match=message):
        _ = evaluator.correction


def test_a_built_in_task_ends_hopeless_evaluations(mini, dense_metric):
    stop = early_stop(Recipe(), mini, dense_metric, 0.01)
    assert stop is not None
    assert stop(mini.task.evaluate_batches(mini.model, "cpu")) == pytest.approx(dense_metric)
    untrained = mini.task.build_model()
    found = stop(mini.task.evaluate_batches(untrained, "cpu"))
    assert isinstance(found, Partial)
    assert (found.samples, found.of) == (50, 295)


def test_not_where_it_is_turned_off_or_any_drop_is_of_interest(mini, dense_metric):
    off = Recipe(search=SearchSettings(early_stop=False))
    assert early_stop(off, mini, dense_metric, 0.01) is None
    assert early_stop(Recipe(), mini, dense_metric, None) is None


def test_not_where_the_task_has_no_batches(mini, dense_metric):
    class Opaque:
        evaluate = staticmethod(mini.task.evaluate)

    task = Task("task.py", Opaque())
    opaque = PreparedModel(task, mini.model, mini.trace, mini.checkpoint)
    assert early_stop(Recipe(), opaque, dense_metric, 0.01) is None


def test_batches_of_another_metric_are_refused(mini):
    with pytest.raises(
        TaskError,
        match=r"digits-mini: the mean over evaluate_batches\(\) is 0\.\d+, "
        r"but evaluate\(\) returned 0\.5",
    ) as caught:
        early_stop(Recipe(), mini, 0.5, 0.01)
    assert caught.value.hint is not None
    assert "search.early_stop: false" in caught.value.hint
