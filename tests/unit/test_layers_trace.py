"""The trace: which layers can be pruned, in which geometry, and why others stay dense."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneaug_cli.core import ConvGeometry, LinearGeometry
from pruneaug_cli.errors import TaskError
from pruneaug_cli.layers import PrunableLayer, trace_model


def reasons(model, *args, **globs):
    return {s.name: s.reason for s in trace_model(model, args, {}, **globs).skipped}


class PaddedConv(nn.Conv2d):
    """Pads on the right and below first, as TensorFlow does."""

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Twice(nn.Module):
    def __init__(self, second):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.second = second

    def forward(self, x):
        return self.fc(self.second(self.fc(x)))


class Doubled(nn.Module):
    def forward(self, x):
        return torch.cat([x, x])


class Backwards(nn.Module):
    """Runs its layers in another order than it defines them; takes an input by name."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 2)
        self.first = nn.Conv2d(3, 2, 3, stride=(2, 1), padding=(1, 0), dilation=(1, 2))
        self.unused = nn.Linear(3, 3)

    def forward(self, x, *, scale):
        return self.last(input=self.first(x).mean((2, 3)).repeat(1, 4) * scale)


def test_layers_come_in_order_of_execution_with_their_geometry():
    trace = trace_model(Backwards(), (torch.ones(2, 3, 8, 9),), {"scale": 2.0})
    conv = ConvGeometry(2, 3, (3, 3), (8, 9), (2, 1), (1, 0), (1, 2), batch=2)
    assert trace.layers == (
        PrunableLayer("first", conv, uses=1),
        PrunableLayer("last", LinearGeometry(2, 8, rows=2), uses=1),
    )
    assert trace.names == ("first", "last")
    assert [(s.name, s.kind, s.reason) for s in trace.skipped] == [
        ("unused", "Linear", "never called on the example inputs")
    ]


def test_the_rows_of_a_linear_layer_are_all_but_its_last_dimension():
    (layer,) = trace_model(nn.Linear(4, 3), (torch.ones(2, 5, 4),), {}).layers
    assert layer.geometry == LinearGeometry(3, 4, rows=10)


@pytest.mark.parametrize(
    ("padding", "resolved"), [("valid", (0, 0)), ("same", (1, 2)), ((1, 0), (1, 0))]
)
def test_padding_in_words_becomes_numbers(padding, resolved):
    (layer,) = trace_model(
        nn.Conv2d(1, 1, (3, 5), padding=padding), (torch.ones(1, 1, 8, 8),), {}
    ).layers
    assert layer.geometry.padding == resolved


def test_a_layer_called_twice_is_listed_once_with_both_uses():
    (layer,) = trace_model(Twice(nn.Identity()), (torch.ones(1, 4),), {}).layers
    assert layer.uses == 2


def test_a_layer_called_with_different_shapes_stays_dense():
    assert reasons(Twice(Doubled()), torch.ones(1, 4)) == {
        "fc": "called with different shapes: linear 4 4 1, linear 4 4 2"
    }


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(4, 4, 3, groups=4), "depthwise convolution"),
        (nn.Conv2d(4, 4, 3, groups=2), "convolution in 2 groups"),
        (
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
            "padding mode 'circular', not 'zeros'",
        ),
        (
            nn.Conv2d(4, 4, 2, padding="same"),
            "padding 'same' is not symmetric for a kernel of even extent",
        ),
        (PaddedConv(4, 4, 3), "a Conv2d with a forward of its own"),
        (nn.ConvTranspose2d(4, 4, 3), "weights of ConvTranspose2d are not supported"),
        (nn.Conv2d(4, 4, 3).double(), "its weight is float64, not float32"),
        (
            nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last),
            "its weight's memory is not contiguous",
        ),
        (
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
            "its weight is computed, not stored",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_a_layer_that_stays_dense_says_why(layer, reason):
    dtype = next(layer.parameters()).dtype
    assert reasons(nn.Sequential(layer), torch.ones(1, 4, 8, 8, dtype=dtype))["0"] == reason


def test_an_image_without_batch_dimension_is_not_guessed_at():
    found = reasons(nn.Conv2d(1, 1, 3), torch.ones(1, 8, 8))
    assert found == {"": "called without a batch dimension"}


def test_a_weight_in_two_modules_stays_dense():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    shared = "its weight is shared with another module"
    assert reasons(model, torch.ones(1, 4)) == {"0": shared, "2": shared}


def test_norms_and_biases_are_not_reported():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    assert trace_model(model, (torch.ones(1, 4),), {}).skipped == ()


def test_the_task_chooses_layers_by_globs():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    trace = trace_model(model, (torch.ones(1, 4),), {}, include=("[01]",), exclude=("1",))
    assert trace.names == ("0",)
    assert [(s.name, s.reason) for s in trace.skipped] == [
        ("1", "excluded by the task"),
        ("2", "excluded by the task"),
    ]


def test_a_glob_that_matches_nothing_is_refused():
    model = nn.Sequential()
    model.add_module("head", nn.Linear(4, 4))
    message = r"^layers\(\): 'haed', to be excluded, matches no layer with weights$"
    with pytest.raises(TaskError, match=message) as caught:
        trace_model(model, (torch.ones(1, 4),), {}, exclude=("haed",))
    assert caught.value.hint == "did you mean 'head'?"


def test_inputs_that_do_not_fit_are_refused_in_one_line():
    model = nn.Linear(4, 4)
    message = "^the model does not run on the example inputs: RuntimeError: "
    with pytest.raises(TaskError, match=message) as caught:
        trace_model(model, (torch.ones(1, 5),), {})
    assert "\n" not in str(caught.value)
    assert not model._forward_pre_hooks


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trace_model(model, (torch.ones(3, 4),), {})
    assert [module.training for module in model] == [True, True, False]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
