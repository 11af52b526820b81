"""Small ONNX models of one layer, repeated: what the profiler times.

The same layer stands ``copies`` times in one model, each copy with its weights in memory of its
own, all reading the model's input. Timing two numbers of copies and dividing the difference leaves
the layer as it runs inside a network: its weights streamed, its input in the kernels' layout and
in cache; the session, the load of the input and the store of the output cancel.

Every layer has a bias and a ReLU. Masks are random, with the exact number of blocks removed;
trained masks are less even.
"""

from typing import assert_never

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pruneaug_cli.core import (
    BlockGrid,
    BlockMask,
    BsrMatrix,
    ConvGeometry,
    Geometry,
    LayerChoice,
    LinearGeometry,
    keep_best,
)
from pruneaug_cli.export import region_model
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.program import (
    Conv,
    Epilogue,
    Floats,
    Instruction,
    Linear,
    Planes,
    RegionProgram,
    Rows,
    ValueShape,
    Weight,
)

_IR_VERSION, _OPSET = 9, 17


def layer_matrix(geometry: Geometry, choice: LayerChoice, *, seed: int) -> BsrMatrix | Floats:
    """A random weight under this choice, with exactly the number of blocks it says removed."""
    random = np.random.default_rng(seed)
    weight = _normal_weight(geometry, random)
    if choice.block is None:
        return weight
    grid = BlockGrid(geometry.matrix, choice.block)
    kept = keep_best(random.random(grid.shape), choice.sparsity)
    return BsrMatrix.pack(weight, BlockMask(grid, kept))


def layer_model(geometry: Geometry, matrix: BsrMatrix | Floats, *, copies: int) -> bytes:
    """The layer ``copies`` times in one region; its output is that of the last copy."""
    program = layer_program(geometry, matrix, copies=copies)
    batch = geometry.batch if isinstance(geometry, ConvGeometry) else geometry.rows
    model: bytes = region_model(program, batch=batch).SerializeToString()
    return model


def layer_program(geometry: Geometry, matrix: BsrMatrix | Floats, *, copies: int) -> RegionProgram:
    """The region program of :func:`layer_model`."""
    bias = np.linspace(-1.0, 1.0, geometry.matrix.rows, dtype=np.float32)
    return RegionProgram(
        inputs=(_input_shape(geometry),),
        instructions=tuple(_instruction(geometry, index) for index in range(copies)),
        outputs=(copies,),  # value 0 is the input, so the last result is number `copies`
        weights=tuple(Weight(f"layer{index}", matrix) for index in range(copies)),
        biases=(bias,) * copies,
    )


def peer_model(geometry: Geometry, *, copies: int, seed: int) -> bytes:
    """The dense layer ``copies`` times in standard operators.

    ONNX Runtime drops what no output needs, and converts the layout of what leaves its own: each
    convolution is followed by a pooling that keeps one pixel per channel, in its layout, and
    those are the output. What a probe costs (about a microsecond) is part of the measurement.
    """
    matrix = _normal_weight(geometry, np.random.default_rng(seed))
    bias = np.linspace(-1.0, 1.0, geometry.matrix.rows, dtype=np.float32)
    match geometry:
        case ConvGeometry():
            nodes, results = _peer_convs(geometry, copies)
            sizes = [geometry.batch, geometry.in_channels, *geometry.image]
            matrix = matrix.reshape(geometry.out_channels, geometry.in_channels, *geometry.kernel)
        case LinearGeometry():
            nodes, results = _peer_gemms(copies)
            sizes = [geometry.rows, geometry.in_features]
        case _:
            assert_never(geometry)
    weights = [numpy_helper.from_array(matrix, f"w{index}") for index in range(copies)]
    biases = [numpy_helper.from_array(bias, f"b{index}") for index in range(copies)]
    nodes.append(helper.make_node("Concat", results, ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "peer",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * len(sizes))],
        [*weights, *biases],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets)
    serialized: bytes = model.SerializeToString()
    return serialized


def _normal_weight(geometry: Geometry, random: np.random.Generator) -> Floats:
    """Normal, scaled to keep the size of activations: no denormal numbers, no overflow."""
    shape = (geometry.matrix.rows, geometry.matrix.cols)
    return random.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[1]))


def _input_shape(geometry: Geometry) -> ValueShape:
    if isinstance(geometry, ConvGeometry):
        return Planes(geometry.in_channels, *geometry.image)
    return Rows(geometry.in_features)


def _instruction(geometry: Geometry, index: int) -> Instruction:
    epilogue = Epilogue(bias=index, activation=RELU)
    if isinstance(geometry, LinearGeometry):
        return Linear(0, index, epilogue)
    return Conv(
        0,
        index,
        geometry.kernel,
        geometry.stride,
        geometry.padding * 2,  # the same at the end as at the start: top, left, bottom, right
        geometry.dilation,
        epilogue,
    )


def _peer_convs(geometry: ConvGeometry, copies: int) -> tuple[list[onnx.NodeProto], list[str]]:
    nodes = []
    for index in range(copies):
        nodes += [
            helper.make_node(
                "Conv",
                ["x", f"w{index}", f"b{index}"],
                [f"c{index}"],
                strides=geometry.stride,
                pads=geometry.padding * 2,
                dilations=geometry.dilation,
            ),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"]),
            helper.make_node(
                "MaxPool",
                [f"r{index}"],
                [f"p{index}"],
                kernel_shape=(1, 1),
                strides=geometry.output,
            ),
        ]
    return nodes, [f"p{index}" for index in range(copies)]


def _peer_gemms(copies: int) -> tuple[list[onnx.NodeProto], list[str]]:
    nodes = []
    for index in range(copies):
        inputs = ["x", f"w{index}", f"b{index}"]
        nodes.append(helper.make_node("Gemm", inputs, [f"g{index}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"g{index}"], [f"r{index}"]))
    return nodes, [f"r{index}" for index in range(copies)]
