"""Layers as matrices: views, writing, and hooks that remove themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from pruneaug_cli.errors import PlanError
from pruneaug_cli.layers import (
    matrix_arrays,
    module_of,
    observe_inputs,
    record_inputs,
    set_matrix,
    weight_matrix,
)


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 5))


def test_a_matrix_is_a_view_of_the_weight(model):
    view = weight_matrix(model[0])
    assert view.shape == (3, 18)
    with torch.no_grad():
        view[1, 9] = 7.0
    assert model[0].weight[1, 1, 0, 0] == 7.0


def test_a_matrix_is_written_in_place(model):
    parameter = model[3].weight
    set_matrix(model, "3", np.arange(60, dtype=np.float64).reshape(5, 12))
    assert model[3].weight is parameter
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert torch.equal(parameter, torch.arange(60.0).reshape(5, 12))


def test_arrays_are_copies(model):
    arrays = matrix_arrays(model, ["3", "0"])
    assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == {
        "3": ((5, 12), np.float32),
        "0": ((3, 18), np.float32),
    }
    arrays["0"][:] = 0.0
    assert model[0].weight.abs().sum() > 0


def test_a_matrix_of_another_shape_is_refused(model):
    with pytest.raises(ValueError, match=r"^3: expected a matrix \(5, 12\), got \(12, 5\)$"):
        set_matrix(model, "3", np.zeros((12, 5)))


def test_a_weight_in_another_memory_order_has_no_view():
    conv = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="is not contiguous: no matrix view of it"):
        weight_matrix(conv)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("7", r"^the model has no layer '7'$"),
        ("1", r"^the model has a ReLU, not a matrix layer, as '1'$"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(model, name, message):
    with pytest.raises(PlanError, match=message) as caught:
        module_of(model, name)
    assert caught.value.hint == "known: 0, 3"


def test_recorded_inputs_are_those_the_layer_saw(model):
    x = torch.randn(4, 2, 4, 4)
    with record_inputs(model, ["3", "0"]) as inputs:
        model(x)
        model(x)
    assert [len(inputs[name]) for name in ("3", "0")] == [2, 2]
    assert torch.equal(inputs["0"][0], x)
    assert torch.equal(inputs["3"][1], model[:3](x))
    assert not inputs["3"][0].requires_grad


def test_recorded_inputs_survive_operations_in_place():
    model = nn.Sequential(nn.Identity(), nn.Linear(3, 3))
    x = torch.ones(1, 3)
    with record_inputs(model, ["1"]) as inputs:
        model(x)
        x.zero_()
    assert torch.equal(inputs["1"][0], torch.ones(1, 3))


def test_hooks_go_even_after_an_error(model):
    def fail(name, x):
        raise RuntimeError(name)

    with pytest.raises(RuntimeError, match="3"), observe_inputs(model, ["3"], fail):
        model(torch.ones(1, 2, 4, 4))
    with pytest.raises(PlanError), record_inputs(model, ["0", "nowhere"]):
        pass
    assert not any(module._forward_pre_hooks for module in model.modules())
