"""The native engine equals the reference on regions nobody chose."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.program import (
    AveragePool,
    Conv,
    Epilogue,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    Weight,
)
from pruneaug_cli.kernels.reference import ReferenceBackend

EPS = float(np.finfo(np.float32).eps)
MANY = settings(max_examples=150)


def weight(draw, rng, shape: MatrixShape) -> Weight:
    block = BlockShape(draw(st.integers(1, 40)), draw(st.integers(1, 9)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    grid = BlockGrid(shape, block)
    matrix = rng.uniform(0.5, 1.0, (shape.rows, shape.cols)).astype(np.float32)
    if draw(st.booleans()):
        return Weight("w", matrix)
    return Weight("w", BsrMatrix.pack(matrix, BlockMask(grid, rng.random(grid.shape) < density)))


@st.composite
def convolutions(draw):
    """Two convolutions in a row, the second with the first as residual where shapes allow."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    small = st.integers(1, 5)
    channels, outputs = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    kernel, stride = (draw(small), draw(small)), (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    any_size = st.tuples(st.integers(least[0], 24), st.integers(least[1], 40))
    image = draw(any_size | st.just((max(7, least[0]), max(7, least[1]))))
    first = weight(draw, rng, MatrixShape(outputs, channels * kernel[0] * kernel[1]))
    second = weight(draw, rng, MatrixShape(outputs, outputs * 9))
    bias = rng.uniform(0.0, 1.0, outputs).astype(np.float32)
    residual = draw(st.sampled_from([None, 1]))
    program = RegionProgram(
        (Planes(channels, *image),),
        (
            Conv(0, 0, kernel, stride, pads, dilation, Epilogue(0, None, RELU)),
            Conv(1, 1, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(None, residual)),
        ),
        (2,), (first, second), (bias,),
    )  # fmt: skip
    x = rng.uniform(0.0, 1.0, (draw(st.integers(1, 3)), channels, *image)).astype(np.float32)
    return program, x


@st.composite
def shortcuts(draw):
    """A strided block whose residual is subsampled between zero channels, then one more block."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, before, after = (draw(st.integers(1, 9)) for _ in range(3))
    wide = channels + before + after
    image = (draw(st.integers(2, 20)), draw(st.integers(2, 40)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    kernel = draw(st.sampled_from([1, 3]))
    pads = (kernel // 2,) * 4
    shapes = ((channels, 2), (wide, channels * kernel**2), (wide, wide * 9), (wide, wide * 9))
    weights = tuple(weight(draw, rng, MatrixShape(*shape)) for shape in shapes)
    program = RegionProgram(
        (Planes(2, *image),),
        (
            Conv(0, 0, (1, 1)),
            Conv(1, 1, (kernel, kernel), stride, pads, epilogue=Epilogue(None, None, RELU)),
            Subsample(1, stride, before, after),
            Conv(2, 2, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(None, 3, RELU)),
            Conv(4, 3, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(None, 4)),
        ),
        (5, 3) if draw(st.booleans()) else (5,), weights, (),
    )  # fmt: skip
    return program, rng.uniform(0.0, 1.0, (draw(st.integers(1, 3)), 2, *image)).astype(np.float32)


@st.composite
def products(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = MatrixShape(draw(st.integers(1, 150)), draw(st.integers(1, 120)))
    samples = draw(st.sampled_from([1, 2, 7, 16, 31, 97, 130]))
    bias = rng.uniform(0.0, 1.0, shape.rows).astype(np.float32)
    program = RegionProgram(
        (Rows(shape.cols),), (Linear(0, 0, Epilogue(0)),), (1,), (weight(draw, rng, shape),),
        (bias,),
    )  # fmt: skip
    return program, rng.uniform(0.0, 1.0, (samples, shape.cols)).astype(np.float32)


@st.composite
def packed_products(draw):
    """Layers beside one another that read the same rows, in one pass or many."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cols = draw(st.integers(300, 1200))
    samples = draw(st.sampled_from([13, 36, 101, 128, 300, 431]))
    shapes = [MatrixShape(draw(st.integers(1, 150)), cols) for _ in range(draw(st.integers(1, 3)))]
    program = RegionProgram(
        (Rows(cols),), tuple(Linear(0, i) for i in range(len(shapes))),
        tuple(range(1, len(shapes) + 1)), tuple(weight(draw, rng, shape) for shape in shapes), (),
    )  # fmt: skip
    return program, rng.uniform(0.0, 1.0, (samples, cols)).astype(np.float32)


def assert_close(program: RegionProgram, found, expected) -> None:
    """All numbers are positive, so every sum is its own |W||x|: a relative bound holds, K terms
    for each product on the way (and as many again for the reference's own roundings)."""
    terms = sum(matrix.shape.cols + 4 for matrix in program.weights)
    np.testing.assert_allclose(found, expected, rtol=terms * EPS, atol=0)


@MANY
@given(convolutions())
def test_convolutions_equal_the_reference(native, case):
    program, x = case
    (found,), (expected,) = native.run(program, [x]), ReferenceBackend().run(program, [x])
    assert_close(program, found, expected)


@MANY
@given(shortcuts())
def test_shortcuts_equal_the_reference_on_every_run(native, case):
    """What a shortcut leaves in a buffer would only be seen by the next run."""
    program, x = case
    expected = ReferenceBackend().run(program, [x])
    with native.library.open_region(encode(program)) as region:
        for found in (region.run([x]), region.run([x]), region.run([x])):
            for ours, theirs in zip(found, expected, strict=True):
                assert_close(program, ours, theirs)


@MANY
@given(products())
def test_products_equal_the_reference(native, case):
    program, x = case
    (found,), (expected,) = native.run(program, [x]), ReferenceBackend().run(program, [x])
    assert_close(program, found, expected)


@st.composite
def pools(draw):
    """A pool between a convolution, so that planes have pads, and a mean of its result."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kernel = draw(st.sampled_from([(2, 2), (3, 3), (1, 5), (7, 2), (4, 9), (2, 70)]))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = tuple(draw(st.integers(0, min(kernel[i % 2] - 1, 3))) for i in range(4))
    image = (draw(st.integers(kernel[0], 20)), draw(st.integers(kernel[1], 300)))
    channels = draw(st.integers(1, 5))
    pool = (
        MaxPool(1, kernel, stride, pads)
        if draw(st.booleans())
        else AveragePool(1, kernel, stride, pads, draw(st.booleans()))
    )
    program = RegionProgram(
        (Planes(2, *image),),
        (Conv(0, 0, (3, 3), pads=(1, 1, 1, 1)), pool, GlobalAveragePool(2)), (2, 3),
        (weight(draw, rng, MatrixShape(channels, 18)),), (),
    )  # fmt: skip
    return program, rng.uniform(0.0, 1.0, (draw(st.integers(1, 2)), 2, *image)).astype(np.float32)


@settings(MANY, max_examples=40)
@given(packed_products())
def test_packed_products_equal_the_reference_on_every_run(native, case):
    """All layers and runs pack their rows into the same memory."""
    program, x = case
    expected = ReferenceBackend().run(program, [x])
    with native.library.open_region(encode(program)) as region:
        first, again = region.run([x]), region.run([x])
        other = region.run([-x])
    for ours, same, negative, theirs in zip(first, again, other, expected, strict=True):
        assert_close(program, ours, theirs)
        np.testing.assert_array_equal(same, ours)
        np.testing.assert_array_equal(negative, -ours)


@MANY
@given(pools())
def test_pools_equal_the_reference(native, case):
    program, x = case
    terms = 30 + 7 * 70 + 20 * 300  # of a convolution, a window and a mean, all positive
    for found, expected in zip(
        native.run(program, [x]), ReferenceBackend().run(program, [x]), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=terms * EPS, atol=0)


@MANY
@given(pools(), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_pools_pass_what_is_no_number(native, case, value):
    """Inf and NaN come out where the reference has them; the convolution in front is left out."""
    program, x = case
    pool = program.instructions[1]
    bare = RegionProgram(program.inputs, (dataclasses.replace(pool, source=0),), (1,), (), ())
    x[0, 0, x.shape[2] // 2, x.shape[3] // 3] = value
    (found,), (expected,) = native.run(bare, [x]), ReferenceBackend().run(bare, [x])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
