"""Settings, schedule, optimizers, masks and memory order of the training room."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape
from pruneaug_cli.errors import PlanError, RecipeError, UnsupportedError
from pruneaug_cli.training.masking import WeightMasks
from pruneaug_cli.training.memory import channels_last_kernels, to_device
from pruneaug_cli.training.optimizers import OPTIMIZERS, parameter_groups
from pruneaug_cli.training.schedule import Timetable, lr_factor
from pruneaug_cli.training.settings import FinetuneSettings


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", -1, "finetune.epochs: expected a number of at least 0, got -1"),
        ("lr", 0.0, "finetune.lr: expected a number above 0, got 0.0"),
        ("lr", math.nan, "finetune.lr: expected a number above 0, got nan"),
        (
            "weight_decay",
            math.inf,
            "finetune.weight_decay: expected a number of at least 0, got inf",
        ),
        (
            "momentum",
            1.0,
            "finetune.momentum: expected a number of at least 0 and below 1, got 1.0",
        ),
        ("distillation", 1.5, "finetune.distillation: expected a number from 0 to 1, got 1.5"),
        ("evaluate_every", 0, "finetune.evaluate_every: expected a number of at least 1, got 0"),
        ("budget_s", -5.0, "finetune.budget_s: expected a number above 0, got -5.0"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        FinetuneSettings(**{field: value})


def test_an_unknown_optimizer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnsupportedError, match="unknown optimizer 'adam'") as refusal:
        OPTIMIZERS.create("adam")
    assert refusal.value.hint == "did you mean 'adamw'?"


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizers_by_name(name: str, kind: type) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    settings = FinetuneSettings(momentum=0.0, lr=0.5)
    made = OPTIMIZERS.create(name)(parameter_groups(model.parameters(), 0.1), settings)
    assert isinstance(made, kind)
    assert made.param_groups[0]["lr"] == 0.5


def test_only_matrices_decay_and_frozen_parameters_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    model[2].requires_grad_(requires_grad=False)
    decayed, others = parameter_groups(model.parameters(), 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 2)]
    assert [tuple(p.shape) for p in others["params"]] == [(3,), (3,), (3,)]


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    assert [lr_factor(p, 0.5) for p in (0.0, 0.25, 0.5)] == [0.0, 0.5, 1.0]
    assert lr_factor(0.75, 0.5) == pytest.approx(0.5)
    assert lr_factor(1.0, 0.5) == pytest.approx(0.0, abs=1e-15)
    assert lr_factor(0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("done", "spent_s", "epoch_s", "left"),
    [
        (0, 0.0, None, 10),  # nothing known yet: as asked
        (1, 5.0, 5.0, 9),  # 45 s of work in 55 s
        (1, 40.0, 5.0, 4),  # 20 s are left
        (3, 70.0, 5.0, 0),  # overdrawn
        (0, 70.0, 5.0, 1),  # overdrawn in the phase before: one epoch all the same
    ],
)
def test_retraining_fits_its_budget(
    done: int, spent_s: float, epoch_s: float | None, left: int
) -> None:
    table = Timetable(penalty=0, retraining=10, budget_s=60.0)
    assert table.epochs_left("retraining", done, spent_s=spent_s, epoch_s=epoch_s) == left


def test_a_budget_cuts_both_phases_in_proportion() -> None:
    table = Timetable(penalty=5, retraining=5, budget_s=50.0)
    # 9 epochs are wanted, 4 fit into the 40 seconds left: 4 * 4/9 of them for the penalty
    assert table.epochs_left("penalty", 1, spent_s=10.0, epoch_s=10.0) == 1


def test_without_retraining_asked_none_is_forced() -> None:
    assert Timetable(0, 0, 9.0).epochs_left("retraining", 0, spent_s=0.0, epoch_s=1.0) == 0


def mask(kept: list[list[bool]], matrix: MatrixShape, block: str) -> BlockMask:
    return BlockMask(BlockGrid(matrix, BlockShape.parse(block)), np.array(kept))


def test_a_mask_of_another_layer_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    wrong = mask([[True]], MatrixShape(2, 3), "2x3")
    with pytest.raises(PlanError, match=r"layer '0': the plan is for a 2x3 matrix, .* is 2x4"):
        WeightMasks(model, {"0": wrong})
    with pytest.raises(PlanError, match=r"'1'"):
        WeightMasks(model, {"1": wrong})


def test_masks_work_on_kernels_in_any_memory_order() -> None:
    conv = nn.Conv2d(4, 2, 3)
    removed_column = mask([[i != 7 for i in range(36)]], MatrixShape(2, 36), "2x1")
    expected = removed_column.apply(conv.weight.detach().flatten(1).numpy().copy())
    with channels_last_kernels(conv, enabled=True):
        assert not conv.weight.is_contiguous()
        WeightMasks(nn.Sequential(conv), {"0": removed_column}).apply()
    assert conv.weight.is_contiguous()
    np.testing.assert_array_equal(conv.weight.detach().flatten(1).numpy(), expected)


def test_gradients_of_removed_weights_are_zero_and_missing_ones_are_no_matter() -> None:
    layer = nn.Linear(2, 1)
    masks = WeightMasks(
        nn.Sequential(layer), {"0": mask([[True, False]], MatrixShape(1, 2), "1x1")}
    )
    masks.apply_to_gradients()
    layer.weight.grad = torch.tensor([[1.0, float("nan")]])
    masks.apply_to_gradients()
    assert layer.weight.grad.tolist() == [[1.0, 0.0]]


def test_batches_are_moved_in_the_shape_they_have() -> None:
    batch = {"x": torch.zeros(1), "nested": [torch.ones(1), ("text", 3)]}
    moved = to_device(batch, torch.device("meta"))
    assert moved["x"].device.type == "meta"
    assert moved["nested"][0].device.type == "meta"
    assert moved["nested"][1] == ("text", 3)
