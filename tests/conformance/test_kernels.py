"""Every kernel back end computes what a region program says.

The expected values come from the definition, in float64. Tolerance: a sum of K products in
float32, in any order, fused or not, is off by at most ``(K + 2) eps (|W| |x| + |b| + |r|)``
(Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); eps = 2^-23 covers both.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional

from pruneaug_cli.core import (
    BlockGrid,
    BlockMask,
    BlockShape,
    BsrMatrix,
    ConvGeometry,
    LinearGeometry,
    MatrixShape,
)
from pruneaug_cli.kernels import BACKENDS, Backend
from pruneaug_cli.kernels.activation import KINDS, NONE, RELU, Activation
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.program import (
    Activate,
    Add,
    AveragePool,
    Conv,
    Epilogue,
    Flatten,
    Floats,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Pads,
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    Weight,
)

EPS = float(np.finfo(np.float32).eps)
BLOCKS = [BlockShape.parse(text) for text in ("1x1", "8x1", "32x1", "3x2", "16x4", "12x1", "70x70")]
MATRICES = [MatrixShape(1, 1), MatrixShape(8, 16), MatrixShape(67, 45), MatrixShape(33, 1)]
NUMBERS = {"clip": (-0.5, 6.0), "hard_sigmoid": (0.2, 0.5), "leaky_relu": (0.1,)}
ACTIVATIONS = [Activation(kind, *NUMBERS.get(kind, ())) for kind in KINDS]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 88.0, -88.0, 1e30, -1e30, 1e-40]


@dataclass(frozen=True)
class Case:
    """A convolution's geometry."""

    channels: int
    outputs: int
    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        sizes = (self.image, self.kernel, self.stride, self.pads, self.dilation)
        return "-".join("x".join(map(str, size)) for size in sizes)


CONVS = [
    Case(3, 5, (9, 11), (3, 3), pads=(1, 1, 1, 1)),  # a zero column between rows
    Case(5, 9, (8, 8), (3, 3), pads=(1, 1, 1, 1)),  # a row shorter than a vector
    Case(2, 16, (16, 16), (5, 5), pads=(2, 2, 2, 2)),
    Case(4, 8, (4, 4), (3, 3), pads=(1, 1, 1, 1)),
    Case(7, 24, (7, 7), (1, 1)),  # no pads at all
    Case(4, 6, (8, 8), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),  # phases
    Case(4, 6, (9, 7), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),  # phases of odd sizes
    Case(4, 6, (10, 13), (1, 1), stride=(2, 3)),
    Case(2, 3, (20, 9), (5, 3), stride=(3, 1), pads=(0, 2, 3, 1)),  # unequal pads
    Case(3, 4, (12, 12), (3, 3), pads=(2, 2, 2, 2), dilation=(2, 2)),
    Case(3, 4, (12, 12), (4, 2), dilation=(1, 3)),  # shrinks
    Case(2, 3, (3, 4), (2, 2), pads=(3, 4, 5, 6)),  # grows: windows wholly in the pads
    Case(2, 5, (1, 1), (3, 3), pads=(1, 1, 1, 1)),
    Case(3, 8, (35, 40), (7, 7), stride=(2, 2), pads=(3, 3, 3, 3)),  # a stem
    Case(3, 8, (32, 32), (16, 16), stride=(16, 16)),  # patches: 256 phases
]


def masked(
    rng: np.random.Generator, shape: MatrixShape, block: BlockShape, density: float
) -> Weight:
    grid = BlockGrid(shape, block)
    weight = rng.standard_normal((shape.rows, shape.cols)).astype(np.float32)
    return Weight("w", BsrMatrix.pack(weight, BlockMask(grid, rng.random(grid.shape) < density)))


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def definition(x: Floats, activation: Activation) -> np.ndarray:
    """What torch computes in float64."""
    values, a, b = torch.from_numpy(x.astype(np.float64)), activation.low, activation.high
    formulas = {
        "none": lambda: values,
        "relu": lambda: torch.relu(values),
        "clip": lambda: torch.clip(values, a, b),
        "gelu": lambda: values * (0.5 * (1 + torch.erf(values / 2**0.5))),
        "gelu_tanh": lambda: functional.gelu(values, approximate="tanh"),
        "silu": lambda: values * torch.sigmoid(values),
        "sigmoid": lambda: torch.sigmoid(values),
        "tanh": lambda: torch.tanh(values),
        "hard_swish": lambda: functional.hardswish(values),
        "hard_sigmoid": lambda: torch.clip(a * values + b, 0, 1),
        "leaky_relu": lambda: functional.leaky_relu(values, a),
    }
    return np.asarray(formulas[activation.kind]())


def assert_activated(found: Floats, expected: np.ndarray) -> None:
    """Within 4e-7 of the larger of 1 and the result: four units in the last place of float32."""
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, expected.astype(np.float32), rtol=4e-7, atol=4e-7)


def patches(x: Floats, case: Case) -> np.ndarray:
    """Columns of every output position, (S, K, positions), by the definition of a convolution."""
    top, left, bottom, right = case.pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = case.kernel, case.stride, case.dilation
    height = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    taps = [
        padded[:, :, dy * dh : dy * dh + sh * (height - 1) + 1 : sh,
               dx * dw : dx * dw + sw * (width - 1) + 1 : sw]
        for dy in range(kh) for dx in range(kw)
    ]  # fmt: skip
    stacked = np.stack(taps, axis=2)
    return stacked.reshape(x.shape[0], case.channels * kh * kw, height * width)


def residual_network(rng: np.random.Generator, block: BlockShape, density: float) -> RegionProgram:
    """Stem, a block with identity, one with a strided shortcut, one with option A, pool, head."""

    def weight(rows: int, cols: int) -> Weight:
        return masked(rng, MatrixShape(rows, cols), block, density)

    pads = (1, 1, 1, 1)
    relu = Epilogue(None, None, RELU)
    instructions = (
        Conv(0, 0, (3, 3), pads=pads, epilogue=Epilogue(0, None, RELU)),  # 1
        Conv(1, 1, (3, 3), pads=pads, epilogue=relu),  # 2
        Conv(2, 1, (3, 3), pads=pads, epilogue=Epilogue(0, 1, RELU)),  # 3: 1 dies here
        Conv(3, 2, (3, 3), (2, 2), pads, epilogue=relu),  # 4
        Conv(3, 3, (1, 1), (2, 2)),  # 5: shares the split of 4
        Conv(4, 4, (3, 3), pads=pads, epilogue=Epilogue(None, 5, RELU)),  # 6
        MaxPool(6, (3, 3), (2, 2), (1, 1, 1, 1)),  # 7
        Subsample(6, (2, 2), 2, 2),  # 8
        Conv(7, 5, (3, 3), pads=pads, epilogue=Epilogue(None, 8, RELU)),  # 9
        Subsample(6, (2, 2), 2, 2),  # 10: what 9 may not have spoilt
        Add(9, 10, RELU),  # 11
        AveragePool(11, (2, 2), (2, 2)),  # 12
        GlobalAveragePool(11),  # 13
        Linear(13, 6, Epilogue(1, None, RELU)),  # 14
        Flatten(12),  # 15
        Linear(15, 7, Epilogue(1, 14)),  # 16
        Add(14, 16),  # 17
        Activate(17, RELU),  # 18
    )  # fmt: skip
    weights = (
        weight(8, 27), weight(8, 72), weight(12, 72), weight(12, 8), weight(12, 108),
        weight(16, 108), weight(5, 16), weight(5, 64),
    )  # fmt: skip
    biases = (normal(rng, 8), normal(rng, 5))
    return RegionProgram((Planes(3, 16, 16),), instructions, (16, 18, 6, 11, 14), weights, biases)


class KernelConformance:
    """What every back end must do; subclasses name the back end."""

    name: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Backend:
        backend = BACKENDS.create(cls.name)
        if reason := backend.why_unavailable():
            pytest.skip(reason)
        return backend

    @pytest.fixture
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(20)

    @pytest.mark.parametrize("samples", [1, 2, 17, 100])
    @pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("matrix", MATRICES, ids=str)
    @pytest.mark.parametrize("block", BLOCKS, ids=str)
    def test_linear_is_the_dense_product(self, backend, rng, block, matrix, density, samples):
        weight = masked(rng, matrix, block, density)
        bias, x = normal(rng, matrix.rows), normal(rng, samples, matrix.cols)
        program = RegionProgram(
            (Rows(matrix.cols),), (Linear(0, 0, Epilogue(0)),), (1,), (weight,), (bias,)
        )
        (found,) = backend.run(program, [x])
        dense = weight.dense().astype(np.float64)
        bound = (matrix.cols + 2) * EPS * (np.abs(x) @ np.abs(dense.T) + np.abs(bias))
        assert found.dtype == np.float32
        assert (np.abs(found - (x @ dense.T + bias)) <= bound).all()

    @pytest.mark.parametrize("samples", [1, 3])
    @pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("case", CONVS, ids=str)
    @pytest.mark.parametrize("block", [BLOCKS[1], BLOCKS[3], BLOCKS[4]], ids=str)
    def test_conv_is_the_product_with_its_patches(
        self, backend, rng, block, case, density, samples
    ):
        cols = case.channels * case.kernel[0] * case.kernel[1]
        weight = masked(rng, MatrixShape(case.outputs, cols), block, density)
        bias, x = normal(rng, case.outputs), normal(rng, samples, case.channels, *case.image)
        conv = Conv(0, 0, case.kernel, case.stride, case.pads, case.dilation, Epilogue(0))
        program = RegionProgram((Planes(*x.shape[1:]),), (conv,), (1,), (weight,), (bias,))
        (found,) = backend.run(program, [x])
        dense, columns = weight.dense().astype(np.float64), patches(x, case)
        expected = dense @ columns + bias[:, None]
        bound = (cols + 2) * EPS * (np.abs(dense) @ np.abs(columns) + np.abs(bias)[:, None])
        flat = found.reshape(samples, case.outputs, -1)
        assert flat.shape == expected.shape
        assert (np.abs(flat - expected) <= bound).all()

    def test_a_dense_weight_is_the_case_without_zeros(self, backend, rng):
        dense = normal(rng, 21, 13)
        x = normal(rng, 9, 13)
        program = RegionProgram((Rows(13),), (Linear(0, 0),), (1,), (Weight("w", dense),), ())
        (found,) = backend.run(program, [x])
        bound = 15 * EPS * (np.abs(x) @ np.abs(dense.T))
        assert (np.abs(found - x.astype(np.float64) @ dense.T) <= bound).all()

    @pytest.mark.parametrize("activation", [NONE, RELU])
    @pytest.mark.parametrize("has_residual", [False, True])
    @pytest.mark.parametrize("has_bias", [False, True])
    def test_the_epilogue_is_bias_then_residual_then_activation(
        self, backend, has_bias, has_residual, activation
    ):
        epilogue = Epilogue(0 if has_bias else None, 1 if has_residual else None, activation)
        one = Weight("one", np.eye(3, dtype=np.float32))
        x = np.array([[1.0, -2.0, 0.5]], np.float32)
        residual, bias = np.full((1, 3), 0.25, np.float32), np.full(3, -1.0, np.float32)
        expected = x + (bias if has_bias else 0) + (residual if has_residual else 0)
        if activation == RELU:
            expected = np.maximum(expected, 0)
        rows = RegionProgram((Rows(3), Rows(3)), (Linear(0, 0, epilogue),), (2,), (one,), (bias,))
        planes = RegionProgram(
            (Planes(3, 1, 1), Planes(3, 1, 1)), (Conv(0, 0, (1, 1), epilogue=epilogue),), (2,),
            (one,), (bias,),
        )  # fmt: skip
        np.testing.assert_array_equal(backend.run(rows, [x, residual])[0], expected)
        spread = [array.reshape(1, 3, 1, 1) for array in (x, residual)]
        np.testing.assert_array_equal(backend.run(planes, spread)[0].reshape(1, 3), expected)

    @pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda found: found.kind)
    def test_activations_equal_their_definition(self, backend, activation):
        """Also of NaN and infinities, alone, behind a sum, and behind products of rows."""
        x = np.concatenate([np.linspace(-12, 12, 97), SPECIAL]).astype(np.float32)[None, :]
        features, one = x.shape[1], Weight("one", np.ones((1, 1), np.float32))
        expected = definition(x, activation)
        alone = RegionProgram((Rows(features),), (Activate(0, activation),), (1,), (), ())
        sums = RegionProgram((Rows(features),) * 2, (Add(0, 1, activation),), (2,), (), ())
        product = Linear(0, 0, Epilogue(activation=activation))
        rows = RegionProgram((Rows(1),), (product,), (1,), (one,), ())
        assert_activated(backend.run(alone, [x])[0], expected)
        assert_activated(backend.run(sums, [x, np.zeros_like(x)])[0], expected)
        assert_activated(backend.run(rows, [np.ascontiguousarray(x.T)])[0], expected.T)

    @pytest.mark.parametrize("size", [(9, 11), (8, 8), (7, 7)])
    @pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda found: found.kind)
    def test_pads_stay_zero_behind_an_activation(self, backend, rng, activation, size):
        """A second convolution sees what an activation leaves beside the data."""
        first, second = masked(rng, MatrixShape(20, 18), BlockShape(8, 1), 0.5), np.ones((1, 180))
        pads = (1, 1, 1, 1)
        chain = (
            Conv(0, 0, (3, 3), pads=pads, epilogue=Epilogue(activation=activation)),
            Activate(1, activation),
            Add(2, 1, activation),
            Conv(3, 1, (3, 3), pads=pads),
        )
        weights = (first, Weight("ones", second.astype(np.float32)))
        program = RegionProgram((Planes(2, *size),), chain, (4,), weights, ())
        x = normal(rng, 2, 2, *size)
        (found,) = backend.run(program, [x])
        (expected,) = BACKENDS.create("reference").run(program, [x])
        np.testing.assert_allclose(found, expected, atol=0.01)  # a pad that leaks adds 0.05

    @pytest.mark.parametrize("samples", [1, 3])
    @pytest.mark.parametrize("block", ["8x1", "4x4"])
    def test_a_residual_network_equals_its_layers_one_by_one(self, backend, rng, block, samples):
        """Run as one region, and instruction by instruction with every value an input: rounding
        of each instruction is the same, so only the order of sums may differ."""
        program = residual_network(rng, BlockShape.parse(block), 0.4)
        x = normal(rng, samples, 3, 16, 16)
        found = backend.run(program, [x])
        everything = tuple(range(1, 1 + len(program.instructions)))
        wide = RegionProgram(
            program.inputs, program.instructions, everything, program.weights, program.biases
        )
        values = [x, *backend.run(wide, [x])]
        for number, array in zip(program.outputs, found, strict=True):
            np.testing.assert_allclose(
                array, values[number], rtol=1e-4, atol=1e-4 * np.abs(array).max()
            )

    def test_repeated_runs_give_the_same_bits(self, backend, rng):
        program = residual_network(rng, BlockShape(8, 1), 0.5)
        x = normal(rng, 2, 3, 16, 16)
        first = backend.run(program, [x])
        for again in (backend.run(program, [x]), backend.run(program, [x])):
            for a, b in zip(first, again, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_samples_do_not_see_each_other(self, backend, rng):
        program = residual_network(rng, BlockShape(8, 1), 0.5)
        x = normal(rng, 3, 3, 16, 16)
        together = backend.run(program, [x])
        alone = [backend.run(program, [x[s : s + 1]]) for s in range(3)]
        for index, array in enumerate(together):
            for s in range(3):  # another number of samples may take another kernel
                np.testing.assert_allclose(
                    array[s], alone[s][index][0], rtol=1e-4, atol=1e-4 * np.abs(array).max()
                )

    def test_not_a_number_passes_through_relu_and_pools(self, backend):
        x = np.full((1, 1, 2, 2), np.nan, np.float32)
        program = RegionProgram(
            (Planes(1, 2, 2),),
            (Activate(0, RELU), MaxPool(0, (2, 2), (1, 1)), GlobalAveragePool(0)),
            (1, 2, 3), (), (),
        )  # fmt: skip
        assert all(np.isnan(array).all() for array in backend.run(program, [x]))

    def test_infinity_does_not_leak_through_the_padding(self, backend):
        """Inf times the zero of a pad would be NaN one pixel beside the image."""
        x = np.zeros((1, 1, 5, 5), np.float32)
        x[0, 0, 0, 4] = np.inf
        weight = Weight("w", np.ones((1, 9), np.float32))
        program = RegionProgram(
            (Planes(1, 5, 5),),
            (Conv(0, 0, (3, 3), pads=(1, 1, 1, 1)), Conv(1, 0, (3, 3), pads=(1, 1, 1, 1))),
            (1, 2), (weight,), (),
        )  # fmt: skip
        first, second = backend.run(program, [x])
        assert not np.isnan(first).any()
        assert not np.isnan(second).any()
        assert np.isinf(first[0, 0]).sum() == 4  # the corner's 3 x 3 neighbourhood inside
        assert np.isinf(second[0, 0]).sum() == 9

    @pytest.mark.parametrize("include", [False, True])
    def test_average_pools_count_the_padding_only_when_asked(self, backend, include):
        x = np.ones((1, 2, 3, 3), np.float32)
        pool = AveragePool(0, (2, 2), (2, 2), (1, 1, 0, 0), include)
        (found,) = backend.run(RegionProgram((Planes(2, 3, 3),), (pool,), (1,), (), ()), [x])
        expected = [[0.25, 0.5], [0.5, 1.0]] if include else [[1.0, 1.0], [1.0, 1.0]]
        np.testing.assert_array_equal(found, np.broadcast_to(expected, (1, 2, 2, 2)))

    def test_a_value_may_leave_twice(self, backend, rng):
        x = normal(rng, 4, 6)
        program = RegionProgram((Rows(6),), (Activate(0, RELU),), (1, 1), (), ())
        first, second = backend.run(program, [x])
        np.testing.assert_array_equal(first, np.maximum(x, 0))
        np.testing.assert_array_equal(second, first)

    def test_no_samples_give_no_results(self, backend):
        program = RegionProgram((Rows(6),), (Activate(0, RELU),), (1,), (), ())
        assert backend.run(program, [np.zeros((0, 6), np.float32)])[0].shape == (0, 6)

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ([], "the region takes 1 inputs, got 0"),
            ([np.zeros((2, 5), np.float32)], r"input 0: expected float32 of shape \(2, 6\), got"),
            ([np.zeros((2, 6))], "got float64"),
        ],
        ids=["number", "shape", "dtype"],
    )
    def test_inputs_that_do_not_fit_are_refused(self, backend, inputs, message):
        program = RegionProgram((Rows(6),), (Activate(0, RELU),), (1,), (), ())
        with pytest.raises(ValueError, match=message):
            backend.run(program, inputs)

    def test_an_inconsistent_program_is_refused_with_its_instruction(self, backend):
        program = RegionProgram((Rows(6),), (GlobalAveragePool(0),), (1,), (), ())
        with pytest.raises(ValueError, match=r"instruction 0 \(GlobalAveragePool\): needs planes"):
            backend.run(program, [np.zeros((1, 6), np.float32)])

    def test_every_block_of_a_real_layer_is_served(self, backend):
        for block in BLOCKS:
            assert backend.why_unsupported(LinearGeometry(768, 3072, 128), block) is None
            conv = ConvGeometry(64, 3, (7, 7), (224, 224), (2, 2), (3, 3))
            assert backend.why_unsupported(conv, block) is None

    def test_the_fingerprint_names_what_a_measurement_depends_on(self, backend):
        assert backend.fingerprint().keys() == {"library", "version", "compiler", "isa", "digest"}

    def test_shapes_are_those_of_the_inference(self, backend, rng):
        program = residual_network(rng, BlockShape(8, 1), 0.5)
        shapes = value_shapes(program)
        for number, array in zip(
            program.outputs, backend.run(program, [normal(rng, 2, 3, 16, 16)]), strict=True
        ):
            shape = shapes[number]
            dims = (
                (shape.channels, shape.height, shape.width)
                if isinstance(shape, Planes)
                else (shape.features,)
            )
            assert array.shape == (2, *dims)


class TestReference(KernelConformance):
    name = "reference"


class TestNative(KernelConformance):
    name = "native"
