"""Operators of modern networks: activations in one node or several, groups, joins, rows."""

import math

import numpy as np
import pytest

from pruneaug_cli.export.border import FUSED_OUTSIDE
from pruneaug_cli.export.planner import NO_SPARSE_LAYER
from pruneaug_cli.kernels.activation import RELU, Activation
from pruneaug_cli.kernels.program import (
    Activate,
    Concat,
    Conv,
    Epilogue,
    Flatten,
    LayerNorm,
    Linear,
    Planes,
    Rows,
)
from tests.unit.test_export_planner import floats, graph, node, plan, reasons

ONE = floats(4, 4, 1, 1)
NUMBERS = {
    "low": np.float32(-1),
    "high": np.float32(6),
    "half": np.float32(0.5),
    "one": np.float32(1),
    "root": np.float32(math.sqrt(2)),
    "over": np.float32(1 / math.sqrt(2)),
}


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ("Relu a", {}, RELU),
        ("Clip a low high", {}, Activation("clip", -1.0, 6.0)),
        ("Clip a low", {}, Activation("clip", -1.0, math.inf)),
        ("Gelu a", {}, Activation("gelu")),
        ("Gelu a", {"approximate": "tanh"}, Activation("gelu_tanh")),
        ("Sigmoid a", {}, Activation("sigmoid")),
        ("Tanh a", {}, Activation("tanh")),
        ("HardSwish a", {}, Activation("hard_swish")),
        ("HardSigmoid a", {}, Activation("hard_sigmoid", 0.2, 0.5)),
        ("LeakyRelu a", {"alpha": 0.3}, Activation("leaky_relu", 0.3)),
    ],
)
def test_an_activation_goes_into_the_product(text, attributes, expected):
    found = graph([node("a = Conv x w"), node(f"y = {text}", **attributes)], {"w": ONE, **NUMBERS})
    (region,) = plan(found, ["w"]).regions
    assert region.program.instructions == (
        Conv(0, 0, (1, 1), epilogue=Epilogue(None, None, expected)),
    )


GELU = ["d = Div a root", "e = Erf d", "p = Add e one"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["s = Sigmoid a", "y = Mul a s"], "silu"),
        (["s = Sigmoid a", "y = Mul s a"], "silu"),
        ([*GELU, "m = Mul a p", "y = Mul m half"], "gelu"),
        ([*GELU, "m = Mul a half", "y = Mul m p"], "gelu"),
        ([*GELU, "m = Mul half p", "y = Mul a m"], "gelu"),
        (["d = Mul over a", "e = Erf d", "p = Add one e", "m = Mul p a", "y = Mul half m"], "gelu"),
    ],
)
def test_a_decomposed_activation_is_one(texts, expected):
    found = graph([node("a = Conv x w"), *map(node, texts)], {"w": ONE, **NUMBERS})
    result = plan(found, ["w"])
    (region,) = result.regions
    end = Epilogue(None, None, Activation(expected))
    assert region.program.instructions == (Conv(0, 0, (1, 1), epilogue=end),)
    assert len(region.nodes) == 1 + len(texts)
    assert not result.outside


def test_what_only_looks_like_gelu_is_not_taken_for_it():
    """Times one, not one half; and an inner result that leaves the graph."""
    texts = [*GELU, "m = Mul a p", "y = Mul m one"]
    found = graph([node("a = Conv x w"), *map(node, texts)], {"w": ONE, **NUMBERS})
    assert reasons(plan(found, ["w"]))["Erf"] == "Erf has no kernel"
    texts = [*GELU, "m = Mul a p", "y = Mul m half"]
    nodes = [node("a = Conv x w"), *map(node, texts)]
    found = graph(nodes, {"w": ONE, **NUMBERS}, outputs=("y", "e"))
    assert reasons(plan(found, ["w"]))["Erf"] == "Erf has no kernel"


def test_groups_are_a_number_of_the_convolution():
    constants = {"w": floats(4, 1, 3, 3), "v": floats(6, 2, 1, 1), "z": floats(4, 6, 1, 1)}
    found = graph(
        [
            node("a = Conv x w", group=4, pads=[1, 1, 1, 1]),
            node("b = Conv a v", group=2),
            node("y = Conv b z"),
        ],
        constants,
    )
    (region,) = plan(found, ["z"]).regions
    assert [op.groups for op in region.program.instructions] == [4, 2, 1]
    assert [weight.name for weight in region.program.weights] == ["w", "v", "z"]
    assert region.program.weights[0].mask is None


def test_channels_and_features_are_joined():
    found = graph(
        [
            node("a = Conv x w"),
            node("b = Concat a x a", axis=1),
            node("f = Flatten b"),
            node("g = Concat f f", axis=-1),
            node("y = Gemm g v", transB=1),
        ],
        {"w": ONE, "v": floats(4, 2 * 12 * 64)},
    )
    (region,) = plan(found, ["w", "v"]).regions
    assert region.program.instructions == (
        Conv(0, 0, (1, 1)), Concat((1, 0, 1)), Flatten(2), Concat((3, 3)), Linear(4, 1),
    )  # fmt: skip


def test_a_normalisation_joins_rows_to_one_region():
    found = graph(
        [
            node("a = MatMul x w"),
            node("n = LayerNormalization a s b", epsilon=1e-6),
            node("c = MatMul n v"),
            node("y = Add n c"),
        ],
        {"w": floats(5, 5), "v": floats(5, 5), "s": floats(5), "b": floats(5)},
        x=("N", 7, 5),
    )
    (region,) = plan(found, ["w", "v"]).regions
    assert region.program.instructions == (
        Linear(0, 0), LayerNorm(1, 0, 1, float(np.float32(1e-6))),
        Linear(2, 1, Epilogue(residual=2)),
    )  # fmt: skip


def test_products_of_one_input_become_one_region_with_several_outputs():
    found = graph(
        [node("q = MatMul x w"), node("k = MatMul x v"), node("z = MatMul x u")],
        {name: floats(5, 5) for name in "wvu"},
        x=("N", 7, 5),
        outputs=("q", "k", "z"),
    )
    (region,) = plan(found, ["w", "v", "u"]).regions
    assert region.program.inputs == (Rows(5),)
    assert [op.source for op in region.program.instructions] == [0, 0, 0]
    assert len(region.outputs) == 3


def test_a_power_of_two_goes_into_the_weight_and_no_other_number():
    """Scaling by it is exact: the product's bits stay those of the graph."""
    for factor, inside in ((0.25, True), (0.3, False)):
        found = graph(
            [node("a = MatMul x w"), node("b = Add a k"), node("y = Mul b f")],
            {"w": floats(5, 5), "k": floats(5), "f": np.float32(factor)},
            x=("N", 5),
        )
        (region,) = plan(found, ["w"]).regions
        assert (region.program.weights[0].dense() == (0.25 if inside else 1.0)).all()
        assert (region.program.biases[0] == (0.25 if inside else 1.0)).all()
        assert len(region.nodes) == (3 if inside else 2)


def test_an_activation_behind_a_node_outside_stays_with_it():
    """ONNX Runtime fuses the two; a region must not come between. Softsign it fuses with none."""
    for op, before, outside in (
        ("Softsign", "s = Softsign x", {"Softsign": "Softsign has no kernel"}),
        ("Conv", "s = Conv x k", {"Conv": "its weight is not a constant", "Relu": FUSED_OUTSIDE}),
    ):
        nodes = [node(before), node("r = Relu s"), node("a = Conv r w"), node("y = Tanh a")]
        found = graph(nodes, {"w": ONE}, more={"k": (4, 4, 1, 1)})
        result = plan(found, ["w"])
        (region,) = result.regions
        kept = ["Conv", "Tanh"] if op == "Conv" else ["Relu", "Conv", "Tanh"]
        assert [n.op_type for n in region.nodes] == kept
        assert reasons(result) == outside


def test_a_dense_layer_between_sparse_ones_runs_in_their_region():
    found = graph(
        [node("a = Conv x w"), node("b = Conv a d"), node("y = Conv b v")],
        dict.fromkeys("wdv", ONE),
    )
    (region,) = plan(found, ["w", "v"]).regions
    assert len(region.program.instructions) == 3
    assert reasons(plan(found, [])) == {"Conv": NO_SPARSE_LAYER}


def test_an_activation_alone_keeps_its_place():
    found = graph([node("a = Conv x w"), node("t = Tanh x"), node("y = Add a t")], {"w": ONE})
    (region,) = plan(found, ["w"]).regions
    assert Activate(0, Activation("tanh")) in region.program.instructions
    assert region.program.inputs == (Planes(4, 8, 8),)
