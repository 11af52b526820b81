"""Which nodes become regions, what their programs say, and why the others stay outside."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.export.planner import NO_SPARSE_LAYER, TOO_MANY, RegionPlan, plan_regions
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.program import (
    Add,
    AveragePool,
    Conv,
    Epilogue,
    Flatten,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Planes,
    Rows,
    Subsample,
    Weight,
)

Array = np.ndarray
PLANES = ("N", 4, 8, 8)
SAME = {"pads": [1, 1, 1, 1]}


def floats(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def node(text: str, **attributes: object) -> onnx.NodeProto:
    """``"y = Conv x w"`` as a node."""
    outputs, _, call = text.partition(" = ")
    op, *inputs = call.split()
    return helper.make_node(op, inputs, outputs.split(), name=f"the {op}", **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array],
    *,
    x: Sequence[int | str] = PLANES,
    outputs: Sequence[str] = ("y",),
    more: Mapping[str, Sequence[int | str]] | None = None,
) -> ir.Graph:
    inputs = {"x": x, **(more or {})}
    proto = helper.make_model(
        helper.make_graph(
            list(nodes),
            "test",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True)).graph


def sparse(name: str, matrix: Array) -> Weight:
    grid = BlockGrid(MatrixShape(*matrix.shape), BlockShape(2, 1))
    return Weight(name, BsrMatrix.pack(matrix, BlockMask(grid, np.ones(grid.shape, np.bool_))))


def plan(
    found: ir.Graph,
    sparse_layers: Sequence[str] = (),
    dense_layers: Sequence[str] = (),
    **how: bool,
) -> RegionPlan:
    weights = {}
    for name in (*sparse_layers, *dense_layers):
        value = found.initializers[name]
        array = value.const_value.numpy()
        matrix = array.reshape(len(array), -1) if array.ndim == 4 else array
        weights[value] = sparse(name, matrix) if name in sparse_layers else Weight(name, matrix)
    return plan_regions(found, weights, **how)


def reasons(result: RegionPlan) -> dict[str, str]:
    return {outside.op: outside.reason for outside in result.outside}


def test_bias_residual_and_relu_go_into_the_product() -> None:
    found = graph(
        [
            node("a = Conv x w1 b1", **SAME),
            node("h = Relu a"),
            node("c = Conv h w2", **SAME),
            node("d = Add c x"),
            node("y = Relu d"),
        ],
        {"w1": floats(4, 4, 3, 3), "b1": floats(4), "w2": floats(4, 4, 3, 3)},
    )
    (region,) = plan(found, ["w1", "w2"]).regions
    kernel = ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    assert region.program.inputs == (Planes(4, 8, 8),)
    assert region.program.instructions == (
        Conv(0, 0, *kernel, Epilogue(bias=0, activation=RELU)),
        Conv(1, 1, *kernel, Epilogue(residual=0, activation=RELU)),
    )
    assert region.program.outputs == (2,)


def test_a_residual_made_after_the_product_is_computed_before_it() -> None:
    """The 3x3 branch is written first, but the 1x1 shortcut it is added to comes later."""
    found = graph(
        [
            node("a = Conv x w1", **SAME),
            node("s = Conv x w2"),
            node("d = Add a s"),
            node("y = Relu d"),
        ],
        {"w1": floats(4, 4, 3, 3), "w2": floats(4, 4, 1, 1)},
    )
    (region,) = plan(found, ["w1", "w2"]).regions
    first, second = region.program.instructions
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    assert first.kernel == (3, 3)
    assert second == Conv(0, 1, (1, 1), epilogue=Epilogue(residual=1, activation=RELU))


def test_a_product_with_two_consumers_keeps_its_sum_and_relu_apart() -> None:
    found = graph(
        [node("a = Conv x w"), node("d = Add a x"), node("y = Relu d"), node("z = Relu a")],
        {"w": floats(4, 4, 1, 1)},
        outputs=("y", "z"),
    )
    (region,) = plan(found, ["w"]).regions
    conv, total, _ = region.program.instructions
    assert isinstance(conv, Conv)
    assert conv.epilogue == Epilogue()
    assert total == Add(1, 0, RELU)
    assert len(region.program.outputs) == 2


def test_a_value_the_graph_returns_is_not_fused_away() -> None:
    found = graph(
        [node("a = Conv x w"), node("y = Relu a")],
        {"w": floats(4, 4, 1, 1)},
        outputs=("a", "y"),
    )
    (region,) = plan(found, ["w"]).regions
    assert region.program.outputs == (1, 2)


def test_an_option_a_shortcut_is_one_subsampling() -> None:
    ends = {
        "zero": [0],
        "end": [2**63 - 1],
        "two": [2],
        "three": [3],
        "pads": [0, 1, 0, 0, 0, 3, 0, 0],
    }
    found = graph(
        [
            node("a = Conv x w"),
            node("s = Slice a zero end two two"),
            node("t = Slice s zero end three two"),
            node("y = Pad t pads"),
        ],
        {"w": floats(4, 4, 1, 1)} | {name: np.array(ints) for name, ints in ends.items()},
    )
    (region,) = plan(found, ["w"]).regions
    assert region.program.instructions[1:] == (Subsample(1, (2, 2), 1, 3),)


@pytest.mark.parametrize(
    ("tail", "constants"),
    [
        (["h = GlobalAveragePool a", "f = Flatten h"], {}),
        (["h = ReduceMean a axes", "f = Reshape h shape"], {"axes": [-1, -2], "shape": [0, 4]}),
        (["h = GlobalAveragePool a", "f = Reshape h shape"], {"shape": [0, 4]}),
    ],
)
def test_a_mean_over_all_positions_is_one_instruction(
    tail: list[str], constants: dict[str, list[int]]
) -> None:
    found = graph(
        [node("a = Conv x w"), *map(node, tail), node("y = Gemm f v c", transB=1)],
        {"w": floats(4, 4, 1, 1), "v": floats(6, 4), "c": floats(6)}
        | {name: np.array(ints) for name, ints in constants.items()},
    )
    (region,) = plan(found, ["w"], ["v"]).regions
    assert region.program.instructions[1:] == (
        GlobalAveragePool(1),
        Linear(2, 1, Epilogue(bias=0)),
    )


def test_a_mean_without_kept_axes_is_the_same_instruction() -> None:
    found = graph(
        [node("a = Conv x w"), node("y = ReduceMean a axes", keepdims=0)],
        {"w": floats(4, 4, 1, 1), "axes": np.array([2, 3])},
    )
    (region,) = plan(found, ["w"]).regions
    assert region.program.instructions[1:] == (GlobalAveragePool(1),)


def test_pools_and_flatten_keep_their_windows() -> None:
    found = graph(
        [
            node("a = Conv x w"),
            node("b = MaxPool a", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("c = AveragePool b", kernel_shape=[2, 2], count_include_pad=1),
            node("y = Flatten c"),
        ],
        {"w": floats(4, 4, 1, 1)},
    )
    (region,) = plan(found, ["w"]).regions
    assert region.program.instructions[1:] == (
        MaxPool(1, (3, 3), (2, 2), (1, 1, 1, 1)),
        AveragePool(2, (2, 2), (1, 1), count_include_pad=True),
        Flatten(3),
    )


def test_a_matmul_takes_the_bias_added_after_it() -> None:
    found = graph(
        [node("a = MatMul x w"), node("y = Add b a")],
        {"w": floats(5, 5), "b": floats(5)},
        x=("N", 7, 5),
    )
    (region,) = plan(found, ["w"]).regions
    assert region.program.inputs == (Rows(5),)
    assert region.program.instructions == (Linear(0, 0, Epilogue(bias=0)),)


def test_four_axes_that_a_linear_made_are_rows() -> None:
    found = graph(
        [node("a = MatMul x w"), node("b = Relu a"), node("c = MatMul b v"), node("y = Add c b")],
        {"w": floats(5, 5), "v": floats(5, 5)},
        x=("N", 3, 2, 5),
    )
    (region,) = plan(found, ["w", "v"]).regions
    assert region.program.instructions == (
        Linear(0, 0, Epilogue(activation=RELU)),
        Linear(1, 1, Epilogue(residual=1)),
    )


def test_a_way_out_and_back_in_cuts_the_region() -> None:
    """x -> conv -> Softplus (outside) -> Add: the Add must not run in one node with the conv."""
    found = graph(
        [
            node("a = Conv x w"),
            node("s = Softplus a"),
            node("b = Relu a"),
            node("d = Add b s"),
            node("y = Conv d v"),
        ],
        {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1)},
    )
    result = plan(found, ["w", "v"])
    assert [[n.op_type for n in region.nodes] for region in result.regions] == [
        ["Conv", "Relu"],
        ["Add", "Conv"],
    ]
    assert reasons(result) == {"Softplus": "Softplus has no kernel"}
    assert [value.name for value in result.regions[0].outputs] == ["a", "b"]


def test_a_region_may_read_planes_and_rows() -> None:
    found = graph(
        [node("f = Flatten x"), node("a = Gemm f w", transB=1), node("y = Add a z")],
        {"w": floats(4, 256)},
        more={"z": ("N", 4)},
    )
    result = plan(found, ["w"])
    (region,) = result.regions
    assert region.program.inputs == (Planes(4, 8, 8), Rows(4))
    assert not result.outside


def test_dense_layers_alone_make_no_region_unless_asked() -> None:
    found = graph([node("y = Conv x w")], {"w": floats(4, 4, 1, 1)})
    result = plan(found, [], ["w"])
    assert not result.regions
    assert reasons(result) == {"Conv": NO_SPARSE_LAYER}
    assert len(plan(found, [], ["w"], dense_regions=True).regions) == 1


def test_a_file_takes_the_largest_64_regions() -> None:
    """65 products between Softpluss; the first is the smallest."""
    nodes, constants = [], {"w0": floats(2, 4, 1, 1), "w1": floats(4, 2, 1, 1)}
    for index in range(65):
        source = "x" if index == 0 else f"s{index - 1}"
        nodes += [node(f"c{index} = Conv {source} w{index}"), node(f"s{index} = Softplus c{index}")]
        constants.setdefault(f"w{index}", floats(4, 4, 1, 1))
    constants["w1"] = floats(4, 2, 1, 2)
    result = plan(graph(nodes, constants, outputs=("s64",)), list(constants))
    assert len(result.regions) == 64
    assert next(o for o in result.outside if o.op == "Conv").reason == TOO_MANY
    assert all(weight.name != "w0" for r in result.regions for weight in r.program.weights)


ONE = floats(4, 4, 1, 1)


@pytest.mark.parametrize(
    ("nodes", "constants", "op", "reason"),
    [
        (["a = Softsign x"], {}, "Softsign", "Softsign has no kernel"),
        (["a = Clip x h l"], {"h": np.float32(2), "l": np.float32(1)}, "Clip", "clip to 2.0 .."),
        (["a = Mul x k"], {"k": floats(1)}, "Mul", "scales what no layer alone makes: scale a"),
        (["a = Div x k"], {"k": floats(1)}, "Div", "scales what no layer alone makes: scale a"),
        (["a = Mul x k"], {"k": floats(8)}, "Mul", "scales by a constant that is not one number"),
        (["a = Div x k"], {"k": floats(8)}, "Div", "scales by a constant that is not one number"),
        (["a = Div x x"], {}, "Div", "divides by what is computed"),
        (
            ["c = Conv x w", "a = Div c k"], {"k": np.float32(3)}, "Div",
            "scales by 0.333333, no power of two: scale a weight of the model instead",
        ),
        (["a = Mul x x"], {}, "Mul", "a product of two activations"),
        (["a = Concat x x"], {}, "Concat", "joins other axes"),
        (["a = MatMul x x"], {}, "MatMul", "a product of two activations"),
        (["a = Add x k"], {"k": floats(1)}, "Add", "adds a constant to what is no product"),
        (["a = ReduceMean x k"], {"k": np.array([1])}, "ReduceMean", "takes a mean over other"),
        (["a = Slice x k e k k"], {"k": np.array([1]), "e": np.array([9])}, "Slice", "not every"),
        (["a = Pad x k"], {"k": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, "Pad", "pads other axes"),
        (["a = Reshape x k"], {"k": np.array([-1, 64])}, "Reshape", "mixes samples"),
    ],
)  # fmt: skip
def test_what_stays_outside_says_why(
    nodes: list[str], constants: dict[str, Array], op: str, reason: str
) -> None:
    attributes = {"axis": 3} if op == "Concat" else {}
    found = graph(
        [node(text, **attributes) for text in nodes] + [node("y = Conv x w")],
        constants | {"w": ONE},
        outputs=("a", "y"),
    )
    result = plan(found, ["w"])
    assert reasons(result)[op].startswith(reason)
    assert result.outside[0].name == f"the {op}"
    assert len(result.regions) == 1


def test_sizes_known_only_at_run_time_stay_outside() -> None:
    found = graph([node("y = Conv x w")], {"w": ONE}, x=("N", 4, "H", "W"))
    assert reasons(plan(found, ["w"])) == {"Conv": "its sizes are not known before it runs"}


def test_a_rounded_up_pool_is_not_taken_for_a_plain_one() -> None:
    found = graph(
        [
            node("a = Conv x w"),
            node("y = MaxPool a", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        ],
        {"w": ONE},
    )
    assert reasons(plan(found, ["w"]))["MaxPool"].startswith("its result is")
