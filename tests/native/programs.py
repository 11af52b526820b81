"""Region programs for tests of the C engine: every instruction, and geometries nobody chose."""

import numpy as np

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import KINDS, NONE, NUMBERS, RELU, Activation
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
    LayerNorm,
    Linear,
    MaxPool,
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    Weight,
)

BLOCKS = ("1x1", "4x1", "8x1", "3x2", "16x1", "32x1", "12x3", "dense")
_NUMBERS = {"clip": (0.0, 6.0), "hard_sigmoid": (0.2, 0.5), "leaky_relu": (0.1,)}
ACTIVATIONS = tuple(
    Activation(kind, *_NUMBERS.get(kind, ())[: NUMBERS.get(kind, 0)]) for kind in KINDS
)


def numbers(rng: np.random.Generator, *shape: int, positive: bool = False) -> Floats:
    found = rng.uniform(0.5, 1.0, shape) if positive else rng.standard_normal(shape)
    return found.astype(np.float32)


def weight(
    rng: np.random.Generator, rows: int, cols: int, block: str, *, positive: bool = False
) -> Weight:
    """Density between none and all."""
    dense = numbers(rng, rows, cols, positive=positive) / np.float32(cols)
    if block == "dense":
        return Weight("w", dense)
    grid = BlockGrid(MatrixShape(rows, cols), BlockShape.parse(block))
    mask = BlockMask(grid, rng.random(grid.shape) < rng.choice([0.1, 0.5, 0.9, 1.0]))
    return Weight("w", BsrMatrix.pack(dense, mask))


def network(rng: np.random.Generator, block: str, *, positive: bool = False) -> RegionProgram:
    """Every instruction and every activation, residuals that die, outputs of both kinds.

    With ``positive`` numbers nothing cancels; a LayerNorm would, and is left out.
    """
    pads = (1, 1, 1, 1)
    ends = iter(ACTIVATIONS)

    def end(bias: int | None = None, residual: int | None = None) -> Epilogue:
        return Epilogue(bias, residual, next(ends))

    instructions: tuple[Instruction, ...] = (
        Conv(0, 0, (3, 3), pads=pads, epilogue=end(0)),  # 1
        Conv(1, 1, (3, 3), pads=pads, epilogue=end()),  # 2
        Conv(2, 1, (3, 3), pads=pads, epilogue=end(None, 1)),  # 3
        Conv(3, 2, (3, 3), (2, 2), pads, epilogue=end()),  # 4
        Conv(3, 3, (1, 1), (2, 2), epilogue=end()),  # 5
        Conv(4, 4, (3, 3), pads=(2, 2, 2, 2), dilation=(2, 2), epilogue=end(None, 5)),  # 6
        MaxPool(6, (3, 3), (2, 2), pads),  # 7
        Subsample(6, (2, 2), 2, 2),  # 8
        Conv(7, 5, (3, 3), pads=pads, epilogue=Epilogue(None, 8, RELU)),  # 9
        Add(9, 8, next(ends)),  # 10
        AveragePool(10, (2, 2), (2, 2)),  # 11
        GlobalAveragePool(10),  # 12
        Linear(12, 6, end(1)),  # 13
        Flatten(11),  # 14
        Linear(14, 7, end(1, 13)),  # 15
        Add(13, 15, next(ends)),  # 16
        Activate(16, next(ends)),  # 17
        Conv(10, 8, (3, 3), pads=pads, groups=16),  # 18: depthwise
        Conv(10, 9, (3, 3), pads=pads, epilogue=Epilogue(0), groups=2),  # 19
        Concat((18, 19, 10)),  # 20
        GlobalAveragePool(20),  # 21
        Concat((13, 21)),  # 22
        *(() if positive else (LayerNorm(22, 2, 3),)),  # 23
    )
    shapes = [
        (8, 27),
        (8, 72),
        (12, 72),
        (12, 8),
        (12, 108),
        (16, 108),
        (10, 16),
        (10, 64),
        (16, 9),
        (8, 72),
    ]
    return RegionProgram(
        (Planes(3, 16, 16),), instructions, (10, 17, 15, 20, 22 if positive else 23),
        tuple(weight(rng, *shape, block, positive=positive) for shape in shapes),
        tuple(numbers(rng, size, positive=positive) for size in (8, 10, 50, 50)),
    )  # fmt: skip


def convolution(rng: np.random.Generator) -> RegionProgram:
    """One convolution of any geometry, with a bias and a residual now and then."""
    kernel, stride, dilation = (tuple(rng.integers(1, 4, 2)) for _ in range(3))
    channels, outputs = int(rng.integers(1, 12)), int(rng.integers(1, 20))
    pads = tuple(int(pad) for pad in rng.integers(0, 4, 4))
    image = [int(d * (k - 1) + rng.integers(1, 24)) for k, d in zip(kernel, dilation, strict=True)]
    sizes = [
        (size + pads[axis] + pads[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1)
        // stride[axis] + 1
        for axis, size in enumerate(image)
    ]  # fmt: skip
    same = sizes == image and channels == outputs
    end = Epilogue(*_maybe(rng, 0), *_maybe(rng, 0 if same else None), rng.choice([NONE, RELU]))
    conv = Conv(
        0, 0, _pair(kernel), _pair(stride), (pads[0], pads[1], pads[2], pads[3]), _pair(dilation),
        end,
    )  # fmt: skip
    matrix = weight(rng, outputs, channels * int(np.prod(kernel)), str(rng.choice(BLOCKS)))
    return RegionProgram(
        (Planes(channels, *image),), (conv,), (1,), (matrix,), (numbers(rng, outputs),)
    )


def product(rng: np.random.Generator) -> RegionProgram:
    """One linear layer of any size."""
    rows, cols = int(rng.integers(1, 150)), int(rng.integers(1, 130))
    end = Epilogue(*_maybe(rng, 0), *_maybe(rng, 1), rng.choice([NONE, RELU]))
    matrix = weight(rng, rows, cols, str(rng.choice(BLOCKS)))
    return RegionProgram(
        (Rows(cols), Rows(rows)), (Linear(0, 0, end), Add(2, 1)), (2, 3), (matrix,),
        (numbers(rng, rows),),
    )  # fmt: skip


def normalisation(rng: np.random.Generator) -> RegionProgram:
    """One LayerNorm of 50 features."""
    scale, bias = numbers(rng, 50), numbers(rng, 50)
    return RegionProgram((Rows(50),), (LayerNorm(0, 0, 1),), (1,), (), (scale, bias))


def large_layers(rng: np.random.Generator) -> tuple[RegionProgram, RegionProgram]:
    """Layers with enough work to be shared between threads."""
    conv = RegionProgram(
        (Planes(32, 32, 32),), (Conv(0, 0, (3, 3), pads=(1, 1, 1, 1)),), (1,),
        (weight(rng, 64, 288, "8x1"),), (),
    )  # fmt: skip
    linear = RegionProgram(
        (Rows(768),), (Linear(0, 0),), (1,), (weight(rng, 768, 768, "dense"),), ()
    )
    return conv, linear


def _maybe(rng: np.random.Generator, value: int | None) -> list[int | None]:
    return [value if rng.random() < 0.5 else None]


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return (int(sizes[0]), int(sizes[1]))
