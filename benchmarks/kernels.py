"""How fast one layer is: our kernels against dense ONNX Runtime, one JSON object per line.

    python benchmarks/kernels.py --shapes benchmarks/shapes/resnet50-224.txt \
        --blocks 8x1,32x1 --sparsities 0.5,0.9 --threads 1 --jsonl kernels.jsonl

A layer is timed inside a region, as it runs in a network: the region with 1 + COPIES instructions
less the one with 1, divided by COPIES; loading and storing cancel. Both regions and the dense
peer (one node at ORT_ENABLE_ALL) take turns in this process; times are medians of processor time of
the calling thread, so that a busy machine disturbs them little. The engine is called directly
(``via: ctypes``); one thread.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from shapes import read_shapes

from pruneaug_cli.core import (
    BlockGrid,
    BlockMask,
    BlockShape,
    BsrMatrix,
    Geometry,
    LinearGeometry,
    keep_best,
)
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.program import Conv, Floats, Linear, Planes, RegionProgram, Rows, Weight

COPIES = 4
SAMPLE_S = 2e-3


def layer_program(
    geometry: Geometry, block: BlockShape, sparsity: float, copies: int, rng: np.random.Generator
) -> RegionProgram:
    """``copies`` instructions that all read the input, with weights of their own."""
    weights = []
    for _ in range(copies):
        grid = BlockGrid(geometry.matrix, block)
        mask = BlockMask(grid, keep_best(rng.random(grid.shape), sparsity))
        matrix = rng.standard_normal((geometry.matrix.rows, geometry.matrix.cols))
        weights.append(Weight("layer", BsrMatrix.pack(matrix, mask)))
    last = (copies,)
    if isinstance(geometry, LinearGeometry):
        rows = (Rows(geometry.in_features),)
        products = tuple(Linear(0, index) for index in range(copies))
        return RegionProgram(rows, products, last, tuple(weights), ())
    pads = (*geometry.padding, *geometry.padding)
    convs = tuple(
        Conv(0, index, geometry.kernel, geometry.stride, pads, geometry.dilation)
        for index in range(copies)
    )
    planes = (Planes(geometry.in_channels, *geometry.image),)
    return RegionProgram(planes, convs, last, tuple(weights), ())


def layer_input(geometry: Geometry, rng: np.random.Generator) -> Floats:
    """Normal numbers in the layer's input shape."""
    if isinstance(geometry, LinearGeometry):
        return rng.standard_normal((geometry.rows, geometry.in_features), np.float32)
    return rng.standard_normal((geometry.batch, geometry.in_channels, *geometry.image), np.float32)


def dense_call(geometry: Geometry, x: Floats, rng: np.random.Generator) -> Callable[[], object]:
    """The layer as one dense node of ONNX Runtime, outputs bound once."""
    weight = rng.standard_normal((geometry.matrix.rows, geometry.matrix.cols), np.float32)
    if isinstance(geometry, LinearGeometry):
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    else:
        weight = weight.reshape(geometry.out_channels, geometry.in_channels, *geometry.kernel)
        node = helper.make_node(
            "Conv", ["x", "w"], ["y"], kernel_shape=geometry.kernel, strides=geometry.stride,
            pads=[*geometry.padding, *geometry.padding], dilations=geometry.dilation,
        )  # fmt: skip
    graph = helper.make_graph(
        [node], "layer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def region_call(backend: NativeBackend, program: RegionProgram, x: Floats) -> Callable[[], object]:
    """A region on one input, outputs allocated once."""
    region = backend.library.open_region(encode(program))
    outputs = [np.empty((x.shape[0], *dims), np.float32) for dims in region.output_dims]
    return lambda: region.run_into([x], outputs)


def alternate(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Median seconds of each call; short calls are batched, all take turns."""
    batches = []
    for call in calls:
        call()
        start = time.thread_time()
        call()
        batches.append(max(1, round(SAMPLE_S / max(time.thread_time() - start, 1e-7))))
    samples: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[0]) < 5:
        for call, batch, taken in zip(calls, batches, samples, strict=True):
            start = time.thread_time()
            for _ in range(batch):
                call()
            taken.append((time.thread_time() - start) / batch)
    return [statistics.median(taken) for taken in samples]


def measure(
    geometry: Geometry, block: BlockShape, sparsity: float, seconds: float
) -> dict[str, object]:
    """One row."""
    rng = np.random.default_rng(0)
    backend, x = NativeBackend(), layer_input(geometry, rng)
    one, many = (
        region_call(backend, layer_program(geometry, block, sparsity, copies, rng), x)
        for copies in (1, 1 + COPIES)
    )
    dense_s, one_s, many_s = alternate([dense_call(geometry, x, rng), one, many], seconds)
    sparse_s = max((many_s - one_s) / COPIES, 1e-9)
    density = 1.0 - sparsity
    return {
        "op": geometry.op, "geometry": str(geometry), "block": str(block), "sparsity": sparsity,
        "dense_s": dense_s, "sparse_s": sparse_s, "alone_s": one_s,
        "speedup": dense_s / sparse_s, "efficiency": dense_s / sparse_s * density,
        "gflops": 2e-9 * geometry.macs * density / sparse_s,
        "threads": 1, "via": "ctypes", "isa": backend.library.isa,
    }  # fmt: skip


def main() -> None:
    """Measure every geometry with every block and sparsity."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=Path, required=True)
    parser.add_argument("--blocks", default="8x1,32x1")
    parser.add_argument("--sparsities", default="0.5,0.9")
    parser.add_argument("--threads", type=int, choices=[1], default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="per row")
    parser.add_argument("--jsonl", type=Path)
    options = parser.parse_args()
    lines = []
    for geometry in read_shapes(options.shapes):
        for block in map(BlockShape.parse, options.blocks.split(",")):
            for sparsity in map(float, options.sparsities.split(",")):
                row = measure(geometry, block, sparsity, options.seconds)
                lines.append(json.dumps(row))
                print(lines[-1], file=sys.stdout, flush=True)
    if options.jsonl:
        options.jsonl.write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
