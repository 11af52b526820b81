"""A region means the same to stock ONNX Runtime, ONNX's evaluator, the engine and the reference."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.export import region_model
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.kernels.activation import NONE, RELU
from pruneaug_cli.kernels.decoding import decode
from pruneaug_cli.kernels.encoding import EncodedRegion, encode
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    AveragePool,
    Concat,
    Conv,
    Epilogue,
    Flatten,
    Floats,
    GlobalAveragePool,
    Instruction,
    Linear,
    MaxPool,
    Pads,
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    ValueShape,
    Weight,
)


class Builder:
    """Appends instructions that fit; knows the shape of every value."""

    def __init__(self, draw: st.DrawFn, inputs: Sequence[ValueShape]) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.shapes = list(inputs)
        self.instructions: list[Instruction] = []
        self.weights: list[Weight] = []
        self.biases: list[Floats] = []

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def pick(self, kind: type) -> int | None:
        fitting = [number for number, shape in enumerate(self.shapes) if isinstance(shape, kind)]
        return self.draw(st.sampled_from(fitting)) if fitting else None

    def append(self, op: Instruction) -> None:
        program = RegionProgram(
            tuple(self.shapes), (op,), (len(self.shapes),), tuple(self.weights), tuple(self.biases)
        )
        # one kind of inputs is a rule for regions, not for the values inside one
        kinds = {type(self.shapes[n]) for n in _sources(op)}
        shapes = [s if type(s) in kinds else next(iter(kinds))(*_ones(kinds)) for s in self.shapes]
        self.shapes.append(value_shapes(replace(program, inputs=tuple(shapes)))[-1])
        self.instructions.append(op)

    def weight(self, rows: int, cols: int) -> int:
        dense = self.rng.standard_normal((rows, cols), dtype=np.float32)
        name = f"layer{len(self.weights)}"
        if self.draw(st.booleans()):
            grid = BlockGrid(
                MatrixShape(rows, cols), BlockShape(self.number(1, 9), self.number(1, 4))
            )
            density = self.draw(st.sampled_from([0.0, 0.3, 1.0]))
            mask = BlockMask(grid, self.rng.random(grid.shape) < density)
            self.weights.append(Weight(name, BsrMatrix.pack(dense, mask)))
        else:
            self.weights.append(Weight(name, dense))
        return len(self.weights) - 1

    def epilogue(self, result: ValueShape, rows: int) -> Epilogue:
        bias = None
        if self.draw(st.booleans()):
            self.biases.append(self.rng.standard_normal(rows, dtype=np.float32))
            bias = len(self.biases) - 1
        fitting = [number for number, shape in enumerate(self.shapes) if shape == result]
        residual = self.draw(st.sampled_from([None, *fitting]))
        return Epilogue(bias, residual, self.draw(st.sampled_from([NONE, RELU])))


def _sources(op: Instruction) -> tuple[int, ...]:
    if isinstance(op, Concat):
        return op.sources
    return (op.left, op.right) if isinstance(op, Add) else (op.source,)


def _ones(kinds: set[type]) -> tuple[int, ...]:
    return (1, 1, 1) if Planes in kinds else (1,)


def _pads(build: Builder, kernel: tuple[int, int]) -> Pads:
    tall, wide = kernel[0] - 1, kernel[1] - 1
    return (
        build.number(0, tall), build.number(0, wide), build.number(0, tall), build.number(0, wide)
    )  # fmt: skip


def add_conv(build: Builder) -> None:
    source = build.pick(Planes)
    if source is None:
        return
    shape = build.shapes[source]
    kernel = (build.number(1, min(3, shape.height)), build.number(1, min(3, shape.width)))
    groups = build.draw(
        st.sampled_from([n for n in (1, 2, 3, shape.channels) if shape.channels % n == 0])
    )
    rows, stride = groups * build.number(1, 4), (build.number(1, 2), build.number(1, 2))
    weight = build.weight(rows, shape.channels // groups * kernel[0] * kernel[1])
    op = Conv(source, weight, kernel, stride, _pads(build, kernel), groups=groups)
    build.append(op)
    result = build.shapes.pop()
    build.instructions.pop()
    build.append(replace(op, epilogue=build.epilogue(result, rows)))


def add_linear(build: Builder) -> None:
    source = build.pick(Rows)
    if source is None:
        return
    rows = build.number(1, 9)
    weight = build.weight(rows, build.shapes[source].features)
    build.append(Linear(source, weight, build.epilogue(Rows(rows), rows)))


def add_sum(build: Builder) -> None:
    left = build.number(0, len(build.shapes) - 1)
    same = [number for number, shape in enumerate(build.shapes) if shape == build.shapes[left]]
    build.append(Add(left, build.draw(st.sampled_from(same)), build.draw(ACTIVATION)))


def add_join(build: Builder) -> None:
    first = build.number(0, len(build.shapes) - 1)
    like = [n for n, shape in enumerate(build.shapes) if _fits(shape, build.shapes[first])]
    others = build.draw(st.lists(st.sampled_from(like), min_size=1, max_size=3))
    build.append(Concat((first, *others)))


def _fits(shape: ValueShape, first: ValueShape) -> bool:
    if isinstance(shape, Planes) and isinstance(first, Planes):
        return (shape.height, shape.width) == (first.height, first.width)
    return type(shape) is type(first)


def add_pool(build: Builder) -> None:
    source = build.pick(Planes)
    if source is None:
        return
    shape = build.shapes[source]
    kernel = (build.number(1, min(3, shape.height)), build.number(1, min(3, shape.width)))
    stride = (build.number(1, 3), build.number(1, 3))
    pads = _pads(build, kernel)
    maximum, include = build.draw(st.booleans()), build.draw(st.booleans())
    build.append(
        MaxPool(source, kernel, stride, pads)
        if maximum
        else AveragePool(source, kernel, stride, pads, include)
    )


def add_reshaping(build: Builder) -> None:
    source = build.pick(Planes)
    if source is None:
        return
    sampled = Subsample(
        source, (build.number(1, 3), build.number(1, 2)), build.number(0, 2), build.number(0, 2)
    )
    choices = [GlobalAveragePool(source), Flatten(source), sampled, Activate(source, RELU)]
    build.append(build.draw(st.sampled_from(choices)))


ACTIVATION = st.sampled_from([NONE, RELU])
STEPS = [add_conv, add_linear, add_sum, add_join, add_pool, add_reshaping]


@st.composite
def programs(draw: st.DrawFn) -> RegionProgram:
    side, channels = st.integers(1, 6), st.integers(1, 5)
    shape = st.builds(Planes, channels, side, side) | st.builds(Rows, st.integers(1, 12))
    first = draw(shape)
    build = Builder(draw, [first] * draw(st.integers(1, 2)))
    add_sum(build)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5)):
        step(build)
    inputs = len(build.shapes) - len(build.instructions)
    results = st.integers(inputs, len(build.shapes) - 1)
    outputs = draw(st.lists(results, min_size=1, max_size=3, unique=True))
    return RegionProgram(
        tuple(build.shapes[:inputs]), tuple(build.instructions), tuple(outputs),
        tuple(build.weights), tuple(build.biases),
    )  # fmt: skip


def _feeds(program: RegionProgram, batch: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((batch, *shape), dtype=np.float32)
        for shape in (
            (s.channels, s.height, s.width) if isinstance(s, Planes) else (s.features,)
            for s in program.inputs
        )
    ]


def _magnitudes(program: RegionProgram, inputs: Sequence[Floats]) -> list[Floats]:
    """The program on absolute values: what every rounding error is relative to."""

    def positive(weight: Weight) -> Weight:
        matrix = weight.matrix
        if isinstance(matrix, BsrMatrix):
            return Weight(weight.name, BsrMatrix(matrix.mask, np.abs(matrix.values)))
        return Weight(weight.name, np.abs(matrix))

    absolute = replace(
        program,
        weights=tuple(positive(weight) for weight in program.weights),
        biases=tuple(np.abs(bias) for bias in program.biases),
    )
    return BACKENDS.create("reference").run(absolute, [np.abs(array) for array in inputs])


def _roundings(program: RegionProgram) -> int:
    """At most this many roundings lie between an input and an output, over all instructions."""
    count = 0
    for op in program.instructions:
        if isinstance(op, Conv | Linear):
            count += program.weights[op.weight].shape.cols
        count += 3 if isinstance(op, Conv | Linear | Add) else 36  # a mean adds up to 6 * 6
    return count


def _pads_pools(program: RegionProgram) -> bool:
    """onnx 1.23's evaluator takes windows of padded pools that lie outside the planes."""
    pools = [op for op in program.instructions if isinstance(op, MaxPool | AveragePool)]
    return any(any(op.pads) for op in pools)


@settings(max_examples=30)
@given(programs(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_stock_runtimes_compute_what_the_reference_computes(
    program: RegionProgram, batch: int, seed: int
) -> None:
    model = region_model(program, batch=batch)
    onnx.checker.check_model(model, full_check=True)
    inputs = _feeds(program, batch, seed)
    feed = {f"x{index}": array for index, array in enumerate(inputs)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    expected = BACKENDS.create("reference").run(program, inputs)
    # |fl(f(x)) - f(x)| <= n u f(|x|) for n roundings in each of the two evaluations (Higham, 3.1)
    relative = 2 * _roundings(program) * np.finfo(np.float32).eps
    bounds = [relative * size + 1e-30 for size in _magnitudes(program, inputs)]
    answers = [session.run(None, feed)]
    if not _pads_pools(program):
        answers.append(ReferenceEvaluator(model).run(None, feed))
    for found in answers:
        for got, want, bound in zip(found, expected, bounds, strict=True):
            assert got.shape == want.shape
            assert (np.abs(got - want) <= bound).all()


@settings(max_examples=300)
@given(programs(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_engine_computes_what_the_reference_computes(
    native: NativeBackend, program: RegionProgram, batch: int, seed: int
) -> None:
    """Twice the same bits: what one run leaves in a buffer shows in the next."""
    inputs = _feeds(program, batch, seed)
    with native.library.open_region(encode(program)) as region:
        answers, again = region.run(inputs), region.run(inputs)
    expected = BACKENDS.create("reference").run(program, inputs)
    relative = 2 * _roundings(program) * np.finfo(np.float32).eps
    bounds = [relative * size + 1e-30 for size in _magnitudes(program, inputs)]
    for got, repeated, want, bound in zip(answers, again, expected, bounds, strict=True):
        assert got.tobytes() == repeated.tobytes()
        assert (np.abs(got - want) <= bound).all()


@given(programs())
def test_a_program_survives_its_encoding(program: RegionProgram) -> None:
    encoded = encode(program)
    again = decode(EncodedRegion(encoded.program, encoded.values, encoded.masks))
    assert again.inputs == program.inputs
    assert again.outputs == program.outputs
    assert [type(op) for op in again.instructions] == [type(op) for op in program.instructions]
    for found, wanted in zip(again.weights, program.weights, strict=True):
        np.testing.assert_array_equal(found.dense(), wanted.dense())
    second = encode(again)
    np.testing.assert_array_equal(second.program, encoded.program)
    np.testing.assert_array_equal(second.values, encoded.values)
