"""Small ONNX models of one layer, repeated: what the profiler times.

The same layer stands ``copies`` times in one model, each copy with its own weights, all reading
the model's input. Timing two numbers of copies and dividing the difference leaves the layer as it
runs inside a network: its weights streamed, its input in the kernels' layout and in cache; the
session, the load of the input and the store of the output cancel.

Every layer has a bias and a ReLU. Masks are random, with the exact number of blocks removed;
trained masks are less even (see docs: an idealisation that a network's own measurement corrects).
"""

from typing import assert_never

import numpy as np
import numpy.typing as npt
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


def layer_model(geometry: Geometry, choice: LayerChoice, *, copies: int, seed: int) -> bytes:
    """The layer ``copies`` times in one region; its output is that of the last copy."""
    program = layer_program(geometry, choice, copies=copies, seed=seed)
    batch = geometry.batch if isinstance(geometry, ConvGeometry) else geometry.rows
    model: bytes = region_model(program, batch=batch).SerializeToString()
    return model


def layer_program(
    geometry: Geometry, choice: LayerChoice, *, copies: int, seed: int
) -> RegionProgram:
    """The region program of :func:`layer_model`."""
    random = np.random.default_rng(seed)
    weights, biases, instructions = [], [], []
    for index in range(copies):
        weights.append(Weight(f"layer{index}", _matrix(geometry, choice, random)))
        biases.append(random.standard_normal(geometry.matrix.rows).astype(np.float32))
        instructions.append(_instruction(geometry, index))
    return RegionProgram(
        inputs=(_input_shape(geometry),),
        instructions=tuple(instructions),
        outputs=(copies,),  # value 0 is the input, so the last result is number `copies`
        weights=tuple(weights),
        biases=tuple(biases),
    )


def peer_model(geometry: Geometry, *, copies: int, seed: int) -> bytes:
    """The dense layer ``copies`` times in standard operators.

    ONNX Runtime drops what no output needs, and converts the layout of what leaves its own: each
    convolution is followed by a pooling that keeps one pixel per channel, in its layout, and
    those are the output. What a probe costs (about a microsecond) is part of the measurement.
    """
    random = np.random.default_rng(seed)
    match geometry:
        case ConvGeometry():
            nodes, tensors, results = _peer_convs(geometry, copies, random)
            sizes = [geometry.batch, geometry.in_channels, *geometry.image]
        case LinearGeometry():
            nodes, tensors, results = _peer_gemms(geometry, copies, random)
            sizes = [geometry.rows, geometry.in_features]
        case _:
            assert_never(geometry)
    nodes.append(helper.make_node("Concat", results, ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "peer",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * len(sizes))],
        tensors,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets)
    serialized: bytes = model.SerializeToString()
    return serialized


def _matrix(
    geometry: Geometry, choice: LayerChoice, random: np.random.Generator
) -> BsrMatrix | Floats:
    weight = _normal_weight(geometry, random)
    if choice.block is None:
        return weight
    grid = BlockGrid(geometry.matrix, choice.block)
    kept = keep_best(random.random(grid.shape), choice.sparsity)
    return BsrMatrix.pack(weight, BlockMask(grid, kept))


def _normal_weight(geometry: Geometry, random: np.random.Generator) -> Floats:
    """Normal, scaled to keep the size of activations: no denormal numbers, no overflow."""
    shape = (geometry.matrix.rows, geometry.matrix.cols)
    weight: npt.NDArray[np.float64] = random.standard_normal(shape) / np.sqrt(shape[1])
    return weight.astype(np.float32)


def _input_shape(geometry: Geometry) -> ValueShape:
    if isinstance(geometry, ConvGeometry):
        return Planes(geometry.in_channels, *geometry.image)
    return Rows(geometry.in_features)


def _instruction(geometry: Geometry, index: int) -> Instruction:
    epilogue = Epilogue(bias=index, activation="relu")
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


def _peer_convs(
    geometry: ConvGeometry, copies: int, random: np.random.Generator
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[str]]:
    nodes, tensors = [], []
    for index in range(copies):
        weight, bias = _peer_weights(geometry, random)
        shape = (geometry.out_channels, geometry.in_channels, *geometry.kernel)
        tensors.append(numpy_helper.from_array(weight.reshape(shape), f"w{index}"))
        tensors.append(numpy_helper.from_array(bias, f"b{index}"))
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
                "MaxPool", [f"r{index}"], [f"p{index}"], kernel_shape=(1, 1),
                strides=geometry.output,
            ),
        ]  # fmt: skip
    return nodes, tensors, [f"p{index}" for index in range(copies)]


def _peer_gemms(
    geometry: LinearGeometry, copies: int, random: np.random.Generator
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[str]]:
    nodes, tensors = [], []
    for index in range(copies):
        weight, bias = _peer_weights(geometry, random)
        tensors.append(numpy_helper.from_array(weight, f"w{index}"))
        tensors.append(numpy_helper.from_array(bias, f"b{index}"))
        nodes += [
            helper.make_node("Gemm", ["x", f"w{index}", f"b{index}"], [f"g{index}"], transB=1),
            helper.make_node("Relu", [f"g{index}"], [f"r{index}"]),
        ]
    return nodes, tensors, [f"r{index}" for index in range(copies)]


def _peer_weights(geometry: Geometry, random: np.random.Generator) -> tuple[Floats, Floats]:
    bias = random.standard_normal(geometry.matrix.rows).astype(np.float32)
    return _normal_weight(geometry, random), bias
