"""Region programs for tests of the C engine: every instruction, and geometries nobody chose."""

from dataclasses import replace

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


SIZES = ((20, 40), (8, 8), (9, 11))


def branches(
    rng: np.random.Generator, block: str, size: tuple[int, int], *, positive: bool = False
) -> RegionProgram:
    """Values in more places than one: a shortcut that is a phase of a split, joins that hold one
    another and joins that copy, an activation whose source lives on; pools of every kind.

    The first size is wider than vectors, the second narrower, the third odd.
    """
    pads = (1, 1, 1, 1)
    relu, gelu = Epilogue(activation=RELU), Activation("gelu")
    instructions: tuple[Instruction, ...] = (
        Conv(0, 0, (3, 3), pads=pads, epilogue=Epilogue(0, None, RELU)),  # 1
        Subsample(1, (2, 2), 3, 5),  # 2: only added to a product
        Conv(1, 1, (3, 3), (2, 2), pads, epilogue=relu),  # 3
        Conv(3, 2, (3, 3), pads=pads, epilogue=Epilogue(None, 2, RELU)),  # 4
        Activate(4, gelu),  # 5
        Conv(4, 3, (1, 1)),  # 6
        Concat((4, 6)),  # 7
        Conv(7, 4, (3, 3), pads=pads, epilogue=relu),  # 8
        Concat((4, 6, 8)),  # 9: begins as 7 does
        Concat((5, 5)),  # 10
        MaxPool(10, (2, 4), (1, 3)),  # 11
        AveragePool(9, (3, 3), (3, 3), pads, count_include_pad=True),  # 12
        MaxPool(1, (2, 2), (2, 2)),  # 13
        AveragePool(1, (4, 2), (1, 2)),  # 14
        MaxPool(1, (3, 3), (1, 1), pads),  # 15
        GlobalAveragePool(9),  # 16
        Linear(16, 5, Epilogue(None, None, RELU)),  # 17
        *(() if positive else (LayerNorm(17, 1),)),  # 18
    )
    first = 1 + len(instructions)  # the number of what follows
    instructions += (
        Conv(1, 7, (3, 3), pads=pads, epilogue=Epilogue(None, None, gelu), groups=8),
        Add(first, 1),  # both may be written over what they read
        Activate(first + 1, Activation("tanh")),
        Conv(first + 2, 6, (1, 1)),
        Conv(13, 6, (1, 1), (1, 2)),
        Subsample(13, (1, 2), 0, 1),  # also an output: made on its own
    )
    shapes = [(8, 54), (16, 72), (16, 144), (5, 16), (5, 189), (100, 26), (5, 8), (8, 9)]
    outputs = (10, 11, 12, 14, 15, first - 1, first + 3, first + 4, first + 5)
    return RegionProgram(
        (Planes(6, *size),), instructions, outputs,
        tuple(weight(rng, *shape, block, positive=positive) for shape in shapes),
        tuple(numbers(rng, size, positive=positive) for size in (8, 100)),
    )  # fmt: skip


def small_maps(
    rng: np.random.Generator, block: str, *, positive: bool = False
) -> tuple[RegionProgram, ...]:
    """Planes of which vectors leave one position: 7 x 7 in every kind of convolution, a row of 97,
    a convolution alone, whose planes are the caller's; and depthwise layers of stride 2."""
    pads, relu = (1, 1, 1, 1), Epilogue(activation=RELU)
    maps: tuple[Instruction, ...] = (
        Conv(0, 0, (3, 3), (2, 2), pads, epilogue=Epilogue(0, None, RELU)),  # 1
        Conv(1, 1, (1, 1), epilogue=Epilogue(0, None, Activation("gelu"))),  # 2
        Conv(2, 2, (3, 3), pads=pads, epilogue=Epilogue(None, 1, RELU)),  # 3
        Conv(3, 3, (3, 3), pads=pads, epilogue=relu, groups=24),  # 4: depthwise
        Conv(4, 1, (1, 1), epilogue=Epilogue(None, 3)),  # 5
        Concat((3, 5)),  # 6
        Conv(6, 4, (3, 3), pads=pads, epilogue=relu),  # 7
        Add(7, 7),  # 8
    )
    shapes = [(24, 54), (24, 24), (24, 216), (24, 9), (24, 432)]
    row = (Conv(0, 0, (1, 1), epilogue=relu), Conv(1, 0, (1, 1), epilogue=Epilogue(None, 1)))
    alone = (Conv(0, 0, (1, 1), epilogue=Epilogue(0, None, RELU)),)
    halves = Conv(0, 0, (3, 3), (2, 2), pads, epilogue=Epilogue(0, None, RELU), groups=40)
    strided = (halves, Conv(1, 1, (1, 1), epilogue=relu), replace(halves, source=2))
    inputs = Planes(6, 14, 14), Planes(20, 1, 97), Planes(9, 7, 7), Planes(40, 27, 25)
    sizes = shapes, [(20, 20)], [(28, 9)], [(40, 9), (40, 40)]
    return tuple(
        RegionProgram(
            (source,), body, (len(body),),
            tuple(weight(rng, *shape, block, positive=positive) for shape in matrices),
            (numbers(rng, matrices[0][0], positive=positive),),
        )
        for source, body, matrices in zip(
            inputs, (maps, row, alone, strided), sizes, strict=True
        )
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


def packed_layers(rng: np.random.Generator) -> RegionProgram:
    """Linear layers whose samples are packed, some of the same rows. From 188 samples on the first
    one's outputs do not stay near."""
    sources, heights = (0, 0, 1, 0, 0), (700, 70, 64, 45, 128)
    blocks = ("32x1", "16x1", "64x1", "32x1", "dense")
    return RegionProgram(
        (Rows(700), Rows(700)),
        tuple(
            Linear(source, i, Epilogue(activation=RELU if i % 2 else NONE))
            for i, source in enumerate(sources)
        ),
        tuple(range(2, 7)),
        tuple(weight(rng, rows, 700, block) for rows, block in zip(heights, blocks, strict=True)),
        (),
    )


def long_strips(rng: np.random.Generator) -> RegionProgram:
    """Dense linear layers whose strips are made in parts, for every length of a vector; one pads,
    one adds rows in its last part, one has weights of more than a huge page."""
    return RegionProgram(
        (Rows(2800), Rows(192)),
        (
            Linear(0, 0),
            Linear(0, 1, Epilogue(residual=1, activation=RELU)),
        ),
        (2, 3),
        tuple(weight(rng, rows, 2800, "dense") for rows in (100, 192)),
        (),
    )


def _maybe(rng: np.random.Generator, value: int | None) -> list[int | None]:
    return [value if rng.random() < 0.5 else None]


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return (int(sizes[0]), int(sizes[1]))
