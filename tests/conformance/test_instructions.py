"""Grouped convolutions, joins and normalisation: every back end computes what torch does.

Expected values are torch's in float64; tolerances as in ``test_kernels``.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.kernels.activation import RELU, Activation
from pruneaug_cli.kernels.program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    Floats,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Planes,
    RegionProgram,
    Rows,
    Weight,
)

EPS = float(np.finfo(np.float32).eps)
SAME = (1, 1, 1, 1)


@pytest.fixture(params=["reference", "native"])
def backend(request):
    found = BACKENDS.create(request.param)
    if reason := found.why_unavailable():
        pytest.skip(reason)
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def double(array: Floats) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float64))


@pytest.mark.parametrize(
    "size", [(9, 11), (8, 8), (16, 16), (14, 14), (7, 7), (4, 4), (1, 1), (5, 80)]
)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize(
    ("channels", "outputs", "groups"), [(6, 6, 6), (6, 12, 6), (6, 9, 3), (8, 8, 2)]
)
def test_a_grouped_convolution(backend, rng, size, stride, channels, outputs, groups):
    weight = normal(rng, outputs, channels // groups * 9)
    x, bias = normal(rng, 2, channels, *size), normal(rng, outputs)
    matrix = double(weight).reshape(outputs, -1, 3, 3)
    product = functional.conv2d(double(x), matrix, double(bias), stride, 1, 1, groups).numpy()
    residual = normal(rng, *product.shape)
    op = Conv(0, 0, (3, 3), stride, SAME, (1, 1), Epilogue(0, 1, RELU), groups)
    program = RegionProgram(
        (Planes(channels, *size), Planes(*product.shape[1:])), (op,), (2,),
        (Weight("w", weight),), (bias,),
    )  # fmt: skip
    expected = np.maximum(product + residual, 0)
    bound = 40 * EPS * (9 * channels // groups + 2) * abs(weight).max() * abs(x).max()
    np.testing.assert_allclose(backend.run(program, [x, residual])[0], expected, atol=bound)


@pytest.mark.parametrize("block", ["4x1", "3x5", "1x1", "64x64"])
@pytest.mark.parametrize(("groups", "outputs"), [(2, 10), (4, 4), (6, 12)])
def test_blocks_may_lie_across_groups(backend, rng, block, groups, outputs):
    """A block is a rectangle of the weight matrix, whatever its rows are multiplied with."""
    channels = 12
    shape = MatrixShape(outputs, channels // groups * 9)
    grid = BlockGrid(shape, BlockShape.parse(block))
    mask = BlockMask(grid, rng.random(grid.shape) < 0.6)
    weight = Weight("w", BsrMatrix.pack(normal(rng, shape.rows, shape.cols), mask))
    x = normal(rng, 2, channels, 9, 9)
    matrix = double(weight.dense()).reshape(outputs, -1, 3, 3)
    expected = functional.conv2d(double(x), matrix, None, 1, 1, 1, groups).numpy()
    op = Conv(0, 0, (3, 3), pads=SAME, groups=groups)
    program = RegionProgram((Planes(channels, 9, 9),), (op,), (1,), (weight,), ())
    np.testing.assert_allclose(backend.run(program, [x])[0], expected, atol=1e-4)


@pytest.mark.parametrize("dilation", [1, 2])
def test_any_depthwise_window(backend, rng, dilation):
    weight, x = normal(rng, 5, 35), normal(rng, 1, 5, 17, 30)
    pads = (3 * dilation, 2 * dilation) * 2
    matrix = double(weight).reshape(5, 1, 7, 5)
    expected = functional.conv2d(double(x), matrix, None, 1, pads[:2], dilation, 5).numpy()
    op = Conv(0, 0, (7, 5), (1, 1), pads, (dilation, dilation), groups=5)
    program = RegionProgram((Planes(5, 17, 30),), (op,), (1,), (Weight("w", weight),), ())
    np.testing.assert_allclose(backend.run(program, [x])[0], expected, atol=1e-4)


def conv(source: int, weight: int) -> Conv:
    return Conv(source, weight, (3, 3), pads=SAME, epilogue=Epilogue(None, None, RELU))


def weights(rng: np.random.Generator, *channels: tuple[int, int]) -> tuple[Weight, ...]:
    return tuple(Weight("w", normal(rng, m, k * 9) / 6) for m, k in channels)


@pytest.mark.parametrize("size", [(9, 11), (8, 8), (5, 16)])
def test_a_dense_block_joins_what_was_joined_before(backend, rng, size):
    """Each join holds the one before it whole; all values live in one buffer."""
    program = RegionProgram(
        (Planes(4, *size),),
        (
            conv(0, 0), Concat((0, 1)), conv(2, 1), Concat((0, 1, 3)), conv(4, 2),
            Concat((0, 1, 3, 5)), conv(6, 3),
        ),
        (7, 4), weights(rng, (3, 4), (5, 7), (2, 12), (6, 14)), (),
    )  # fmt: skip
    assert_equal_to_reference(backend, program, [normal(rng, 2, 4, *size)])


@pytest.mark.parametrize("outputs", [(7,), (7, 1, 5), (3, 4, 6)])
def test_a_value_may_be_joined_twice_and_used_beside(backend, rng, outputs):
    program = RegionProgram(
        (Planes(4, 6, 6),),
        (
            conv(0, 0), conv(1, 1), Concat((1, 2, 1)), Concat((2, 2)), Add(1, 2, RELU),
            Concat((3, 4)), conv(6, 2),
        ),
        outputs, weights(rng, (4, 4), (4, 4), (3, 20)), (),
    )  # fmt: skip
    assert_equal_to_reference(backend, program, [normal(rng, 3, 4, 6, 6)])


def test_joined_inputs_leave_as_they_came(backend, rng):
    program = RegionProgram(
        (Planes(2, 4, 4), Planes(1, 4, 4)), (Concat((1, 0)), Concat((0, 2))), (2, 3), (), ()
    )
    x, y = normal(rng, 2, 2, 4, 4), normal(rng, 2, 1, 4, 4)
    first, second = backend.run(program, [x, y])
    np.testing.assert_array_equal(first, np.concatenate([y, x], axis=1))
    np.testing.assert_array_equal(second, np.concatenate([x, y, x], axis=1))


def test_rows_are_joined_by_features(backend, rng):
    program = RegionProgram(
        (Rows(3), Rows(4)), (Concat((0, 1, 0)), Linear(2, 0), Concat((2, 3))), (4,),
        (Weight("w", normal(rng, 5, 10)),), (),
    )  # fmt: skip
    assert_equal_to_reference(backend, program, [normal(rng, 7, 3), normal(rng, 7, 4)])


def test_planes_and_rows_may_both_come_in(backend, rng):
    program = RegionProgram(
        (Rows(3), Planes(4, 5, 5)), (conv(1, 0), GlobalAveragePool(2), Concat((0, 3))), (4, 2),
        weights(rng, (4, 4)), (),
    )  # fmt: skip
    assert_equal_to_reference(backend, program, [normal(rng, 2, 3), normal(rng, 2, 4, 5, 5)])


@pytest.mark.parametrize("features", [1, 5, 16, 64, 100, 768])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_normalisation(backend, rng, features, has_bias):
    """Also of rows far from zero: their mean must not swallow their deviation."""
    scale, bias = normal(rng, features), normal(rng, features)
    x = normal(rng, 9, features) + 30 * np.arange(9, dtype=np.float32)[:, None]
    op = LayerNorm(0, 0, 1 if has_bias else None, 1e-3)
    program = RegionProgram((Rows(features),), (op,), (1,), (), (scale, bias))
    expected = functional.layer_norm(
        double(x), (features,), double(scale), double(bias) if has_bias else None, 1e-3
    ).numpy()
    bound = 64 * EPS * (abs(x).max() + 1) * (abs(scale).max() + 1)
    np.testing.assert_allclose(backend.run(program, [x])[0], expected, atol=bound)


def test_nan_stays_in_its_row(backend, rng):
    x = normal(rng, 3, 20)
    x[1, 4] = np.nan
    program = RegionProgram((Rows(20),), (LayerNorm(0, 0),), (1,), (), (np.ones(20, np.float32),))
    (found,) = backend.run(program, [x])
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_a_transformer_layer_is_one_program(backend, rng):
    """Two inputs (what attention made, the stream), products, sums, normalisations, outputs."""
    shapes = ((32, 32), (64, 32), (32, 64), (32, 32), (32, 32))
    matrices = tuple(Weight("w", normal(rng, *shape) / 6) for shape in shapes)
    vectors = (np.ones(32, np.float32), normal(rng, 32), normal(rng, 64))
    program = RegionProgram(
        (Rows(32), Rows(32)),
        (
            Linear(0, 0, Epilogue(1, 1)), LayerNorm(2, 0, 1),
            Linear(3, 1, Epilogue(2, None, Activation("gelu"))), Linear(4, 2, Epilogue(1, 3)),
            LayerNorm(5, 0, 1), Linear(6, 3), Linear(6, 4),
        ),
        (6, 7, 8), matrices, vectors,
    )  # fmt: skip
    assert_equal_to_reference(backend, program, [normal(rng, 40, 32), normal(rng, 40, 32)])


def assert_equal_to_reference(backend, program, inputs):
    """And the second run gives the bits of the first."""
    expected = BACKENDS.create("reference").run(program, inputs)
    first, second = backend.run(program, inputs), backend.run(program, inputs)
    for a, b, wanted in zip(first, second, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, wanted, atol=2e-5 * (1 + abs(wanted).max()))
