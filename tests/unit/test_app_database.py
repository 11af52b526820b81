"""Evidence of a run: what is collected, what is found again, what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneaug_cli.app.database import gather_evidence, require_gradients
from pruneaug_cli.app.prepared import PreparedModel, prepare
from pruneaug_cli.app.recipe import SearchSettings
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.errors import TaskError
from pruneaug_cli.layers import trace_model
from pruneaug_cli.progress import silent
from pruneaug_cli.tasks import Task

NAMES = ["0", "2"]


class Counted:
    """A task that counts its passes."""

    def __init__(self):
        self.passes = {"calibration": 0, "train": 0}
        self.images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def build_model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2))

    def example_inputs(self):
        return self.images[:1]

    def calibration_batches(self):
        self.passes["calibration"] += 1
        yield self.images

    def train_batches(self, epoch):
        self.passes["train"] += 1
        yield self.images, torch.tensor([0, 1, 0, 1, 0, 1])

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def source():
    return Counted()


def prepared(source):
    model = source.build_model().eval()
    trace = trace_model(model, (source.example_inputs(),), {})
    return PreparedModel(Task("task.py", source), model, trace, "weights")


def gather(source, folder, **settings):
    run = RunDirectory(folder)
    return gather_evidence(run, SearchSettings(**settings), prepared(source), NAMES, silent)


def test_evidence_is_collected_once_and_gradients_only_when_they_are_needed(source, tmp_path):
    plain = gather(source, tmp_path, harm="output")
    assert source.passes == {"calibration": 1, "train": 0}
    # The loss is the default of a task that can give gradients.
    curved = gather(source, tmp_path)
    assert source.passes == {"calibration": 1, "train": 1}
    scored = gather(source, tmp_path, harm="loss", criterion="taylor")
    assert source.passes == {"calibration": 1, "train": 1}
    loaded = [found["2"].load() for found in (plain, curved, scored)]
    assert [one.output_curvature is not None for one in loaded] == [False, True, True]
    assert [one.gradient_second_moment is not None for one in loaded] == [False, False, True]
    assert loaded[0].digest() == loaded[1].digest() != loaded[2].digest()


def test_only_what_is_missing_is_collected_again(source, tmp_path):
    found = gather(source, tmp_path)
    kept = found["0"].inputs.path.read_bytes()
    found["2"].inputs.path.unlink()
    again = gather(source, tmp_path)
    assert source.passes["calibration"] == 2
    assert again["0"].inputs.path.read_bytes() == kept
    np.testing.assert_array_equal(again["2"].load().second_moment.shape, (12, 12))


def test_a_changed_task_has_other_evidence(tmp_path):
    path = tmp_path / "task.py"
    rows = {"torch.zeros": 0.0, "torch.ones": 1.0}
    for maker, expected in rows.items():
        path.write_text(
            "import torch\n"
            "def build_model(): return torch.nn.Sequential(torch.nn.Linear(3, 2))\n"
            "def example_inputs(): return torch.zeros(1, 3)\n"
            f"def calibration_batches(): yield {maker}(4, 3)\n",
            "utf-8",
        )
        for _ in range(2):
            settings = SearchSettings(harm="output")
            found = gather_evidence(
                RunDirectory(tmp_path / "run"), settings, prepare(str(path), None), ["0"], silent
            )
            np.testing.assert_array_equal(found["0"].load().second_moment, expected)


def test_other_batches_are_other_evidence(source, tmp_path):
    gather(source, tmp_path)
    gather(source, tmp_path, evidence_batches=1)
    assert source.passes["calibration"] == 2


@pytest.mark.parametrize(
    ("settings", "asking"),
    [
        ({"harm": "loss"}, "search.harm: loss"),
        ({"criterion": "taylor"}, "search.criterion: taylor"),
    ],
)
def test_gradients_of_a_task_without_training_batches_are_refused(settings, asking, source):
    bare = SimpleNamespace(build_model=source.build_model, example_inputs=source.example_inputs)
    found = PreparedModel(Task("task.py", bare), source.build_model(), prepared(source).trace, "")
    with pytest.raises(TaskError) as refusal:
        require_gradients(SearchSettings(**settings), found)
    assert str(refusal.value) == (
        f"task.py: {asking} needs gradients of the loss, and the task has no function train_batches"
    )
    assert refusal.value.hint == "write train_batches(epoch) in the task, or leave the setting out"
    assert refusal.value.exit_code == TaskError.exit_code
    require_gradients(SearchSettings(), found)
