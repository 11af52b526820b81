"""One layer, alone: in our engine, in ONNX Runtime dense, in other sparse libraries.

Every layer has a bias and a ReLU, random weights and a random mask (``profiling/layer_model.py``).
Two ways to ask what it costs us:

``ctypes``
    as it runs inside a region: the engine called directly, the region with 1 + ``COPIES`` of the
    layer less the one with 1, divided by ``COPIES``; loading and storing cancel.
``onnxruntime``
    as a network of its own: one node in ONNX Runtime, its input and output in the order ONNX
    gives them, so that a convolution pays for entering and leaving our layout.

The dense peer is one node at ORT_ENABLE_ALL. The other libraries multiply the same blocks with the
layer's input columns; for a convolution these are made beforehand, free of charge, and neither
bias nor ReLU is asked of them. torch serves square blocks alone: 8x8 where ours are 8x1, as many
of them removed.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy import sparse
from torch.nn import functional as F

from pruneaug_cli.core import DENSE, BlockShape, BsrMatrix, Geometry, LayerChoice, LinearGeometry
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.program import Floats, RegionProgram
from pruneaug_cli.profiling.layer_model import layer_matrix, layer_model, layer_program
from pruneaug_cli.runtime import Samples, clock_for, open_session, time_alternating

COPIES = 4
SAMPLE_S = 2e-3
LEAST_SAMPLES = 15
SEED = 0

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Setup:
    """How to time: ``via`` one of ``VIAS``; ``references`` of ``REFERENCES``; seconds per row."""

    via: str
    references: tuple[str, ...]
    threads: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Timing:
    """What came out, in seconds; ``speedup`` is the median of dense over ours, round by round.

    ``references`` has null for a library that does not serve the layer, ``notes`` why.
    """

    dense_s: float
    sparse_s: float
    speedup: float
    references: dict[str, float | None]
    notes: dict[str, str]


def time_layer(
    backend: NativeBackend, geometry: Geometry, block: BlockShape, sparsity: float, setup: Setup
) -> Timing:
    """Time a layer beside its peers, all taking turns."""
    matrix = random_matrix(geometry, block, sparsity)
    x = layer_input(geometry)
    peers, notes = _references(geometry, block, sparsity, x, setup)
    ours = _VIAS[setup.via](backend, geometry, matrix, x, setup)
    calls = [*ours, dense_call(geometry, x, setup.threads), *peers.values()]
    samples = time_alternating(
        calls, repeats=LEAST_SAMPLES, sample_s=SAMPLE_S, budget_s=setup.seconds,
        clock=clock_for(setup.threads),
    )  # fmt: skip
    taken = _layer_seconds(samples[: len(ours)])
    dense = samples[len(ours)]
    rounds = zip(dense.samples_s, taken, strict=True)
    others = dict(zip(peers, samples[len(ours) + 1 :], strict=True))
    return Timing(
        dense.median_s,
        float(np.median(taken)),
        float(np.median([slow / fast for slow, fast in rounds])),
        {name: others[name].median_s if name in others else None for name in setup.references},
        notes,
    )


def random_matrix(geometry: Geometry, block: BlockShape, sparsity: float) -> BsrMatrix | Floats:
    """A weight with this fraction of blocks removed; at 0 a dense one."""
    choice = LayerChoice(block, sparsity) if sparsity > 0.0 else DENSE
    return layer_matrix(geometry, choice, seed=SEED)


def layer_input(geometry: Geometry) -> Floats:
    """Normal numbers in the layer's input shape."""
    random = np.random.default_rng(SEED)
    if isinstance(geometry, LinearGeometry):
        return random.standard_normal((geometry.rows, geometry.in_features), np.float32)
    shape = (geometry.batch, geometry.in_channels, *geometry.image)
    return random.standard_normal(shape, np.float32)


def dense_call(geometry: Geometry, x: Floats, threads: int) -> Call:
    """The layer as one dense node of ONNX Runtime, with its ReLU."""
    weight = np.random.default_rng(SEED).standard_normal(
        (geometry.matrix.rows, geometry.matrix.cols), np.float32
    )
    if isinstance(geometry, LinearGeometry):
        node = helper.make_node("Gemm", ["x", "w", "b"], ["s"], transB=1)
    else:
        weight = weight.reshape(geometry.out_channels, geometry.in_channels, *geometry.kernel)
        node = helper.make_node(
            "Conv", ["x", "w", "b"], ["s"], kernel_shape=geometry.kernel, strides=geometry.stride,
            pads=[*geometry.padding, *geometry.padding], dilations=geometry.dilation,
        )  # fmt: skip
    bias = np.ones(geometry.matrix.rows, np.float32)
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["s"], ["y"])], "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    return open_session(model.SerializeToString(), threads=threads).bound_call([x])


def _inside(
    backend: NativeBackend, geometry: Geometry, matrix: BsrMatrix | Floats, x: Floats, setup: Setup
) -> list[Call]:
    """The layer once, and 1 + COPIES times, each in a region of its own."""
    del setup
    programs = [layer_program(geometry, matrix, copies=copies) for copies in (1, 1 + COPIES)]
    return [_region_call(backend, program, x) for program in programs]


def _as_node(
    backend: NativeBackend, geometry: Geometry, matrix: BsrMatrix | Floats, x: Floats, setup: Setup
) -> list[Call]:
    model = layer_model(geometry, matrix, copies=1)
    library = backend.operator_library()
    session = open_session(model, threads=setup.threads, library=library)
    return [session.bound_call([x])]


_VIAS = {"ctypes": _inside, "onnxruntime": _as_node}
VIAS = tuple(_VIAS)


def _layer_seconds(samples: Sequence[Samples]) -> list[float]:
    """Seconds of the layer, round by round."""
    if len(samples) == 1:
        return list(samples[0].samples_s)
    rounds = zip(samples[0].samples_s, samples[1].samples_s, strict=True)
    return [max((many - one) / COPIES, 1e-9) for one, many in rounds]


def _region_call(backend: NativeBackend, program: RegionProgram, x: Floats) -> Call:
    """A region on one input, outputs allocated once."""
    region = backend.library.open_region(encode(program))
    outputs = [np.empty((x.shape[0], *dims), np.float32) for dims in region.output_dims]
    return lambda: region.run_into([x], outputs)


def _references(
    geometry: Geometry, block: BlockShape, sparsity: float, x: Floats, setup: Setup
) -> tuple[dict[str, Call], dict[str, str]]:
    """Calls of the libraries that serve the layer; why the others do not."""
    calls, notes = {}, {}
    for name in setup.references:
        make, square = _REFERENCES[name]
        shape = BlockShape(block.rows, block.rows) if square else block
        if geometry.matrix.rows % shape.rows or geometry.matrix.cols % shape.cols:
            notes[name] = f"no blocks of {shape} that hang over the edge of {geometry.matrix}"
        elif setup.threads != 1:
            notes[name] = "timed on one thread only"
        else:
            matrix = random_matrix(geometry, shape, sparsity)
            weight = matrix.unpack() if isinstance(matrix, BsrMatrix) else matrix
            calls[name] = make(weight, (shape.rows, shape.cols), _columns(geometry, x))
    return calls, notes


def _columns(geometry: Geometry, x: Floats) -> Floats:
    """The input as a matrix (K, N) the weight multiplies."""
    if isinstance(geometry, LinearGeometry):
        return np.ascontiguousarray(x.T)
    columns = F.unfold(
        torch.from_numpy(x), geometry.kernel, dilation=geometry.dilation,
        padding=geometry.padding, stride=geometry.stride,
    )  # fmt: skip
    return np.ascontiguousarray(columns.permute(1, 0, 2).flatten(1).numpy())


def _scipy(weight: Floats, block: tuple[int, int], columns: Floats) -> Call:
    blocks = sparse.bsr_matrix(weight, blocksize=block)
    return lambda: blocks @ columns


def _torch(weight: Floats, block: tuple[int, int], columns: Floats) -> Call:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that the feature is in beta
        blocks = torch.from_numpy(weight).to_sparse_bsr(block)
    right = torch.from_numpy(columns)
    return lambda: blocks @ right


_REFERENCES = {"scipy": (_scipy, False), "torch": (_torch, True)}
REFERENCES = tuple(_REFERENCES)
