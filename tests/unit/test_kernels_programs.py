"""What the native engine refuses, and that no damaged program crashes it."""

import dataclasses
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import Activation
from pruneaug_cli.kernels.decoding import decode
from pruneaug_cli.kernels.encoding import EncodedRegion, encode
from pruneaug_cli.kernels.program import (
    Activate,
    Concat,
    Conv,
    Epilogue,
    LayerNorm,
    Linear,
    Planes,
    RegionProgram,
    Rows,
    Weight,
)

HEADER, INPUT, OUTPUT, WEIGHT = 0, 6, 10, 11
INSTRUCTION = 18


@pytest.fixture(scope="module")
def library(native):
    return native.library


def small_conv() -> EncodedRegion:
    """One input, one output, one block-sparse weight (4, 18), one 3x3 convolution with a bias."""
    grid = BlockGrid(MatrixShape(4, 18), BlockShape(4, 3))
    mask = BlockMask(grid, np.array([[True, False, True, False, True, False]]))
    weight = Weight("w", BsrMatrix.pack(np.ones((4, 18), np.float32), mask))
    conv = Conv(0, 0, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(0))
    program = RegionProgram(
        (Planes(2, 5, 5),), (conv,), (1,), (weight,), (np.zeros(4, np.float32),)
    )
    return encode(program)


def changed(encoded: EncodedRegion, position: int, value: int) -> EncodedRegion:
    integers = list(encoded.program)
    integers[position] = value
    return dataclasses.replace(encoded, program=tuple(integers))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (HEADER, 1, "program version 1 is not the supported 2: export the model again"),
        (HEADER + 1, 0, "header: count 0 at position 1 is out of range"),
        (HEADER + 4, 1 << 40, "header: count 1099511627776 at position 4 is out of range"),
        (HEADER + 4, 16385, "header: count 16385 at position 4 is out of range"),
        (INPUT, 3, "input 0: bad shape 3: 2 x 5 x 5"),
        (INPUT + 1, 1 << 62, "input 0: bad shape"),
        (OUTPUT, 0, "output 0 is not the result of an instruction"),
        (WEIGHT, -1, "weight 0: bad matrix -1x18"),
        (WEIGHT + 2, 0, "weight 0: bad block 0x3"),
        (WEIGHT + 4, 4, "weight 0: mask keeps 3 blocks, the record says 4"),
        (WEIGHT + 5, 10, "weight 0: values lie outside the blob of 40 floats"),
        (WEIGHT + 5, -1, "weight 0: values lie outside the blob"),
        (WEIGHT + 6, 1 << 60, "weight 0: mask lies outside the blob of 1 bytes"),
        (INSTRUCTION, 12, r"instruction 0 \(\?\): unknown opcode 12"),
        (INSTRUCTION, 10, r"instruction 0 \(Concat\): operands 3 to 6 of 0"),
        (INSTRUCTION, 11, r"instruction 0 \(LayerNorm\): needs rows, value 0 is planes"),
        (HEADER + 5, 1, "operand 0: value 4 does not exist"),
        (INSTRUCTION + 1, 1, r"instruction 0 \(Conv\): value 1 does not exist yet"),
        (INSTRUCTION + 2, 1, r"instruction 0 \(Conv\): weight 1 does not exist"),
        (INSTRUCTION + 3, 37, r"instruction 0 \(Conv\): bias lies outside the blob of 40 floats"),
        (INSTRUCTION + 4, 0, r"instruction 0 \(Conv\): value 0 does not have the shape"),
        (INSTRUCTION + 5, 11, r"instruction 0 \(Conv\): unknown activation 11"),
        (INSTRUCTION + 6, 1, r"instruction 0 \(Conv\): bad numbers 1, 0 of activation 0"),
        (INSTRUCTION + 7, 1 << 32, r"instruction 0 \(Conv\): bad numbers 0, 4294967296 of"),
        (INSTRUCTION + 8, 2, r"instruction 0 \(Conv\): 12 inputs per output do not fit a 4x18"),
        (INSTRUCTION + 10, 0, r"instruction 0 \(Conv\): bad window sizes"),
        (INSTRUCTION + 18, 0, r"instruction 0 \(Conv\): 0 groups do not divide 2 channels"),
        (INSTRUCTION + 18, 1 << 40, r"instruction 0 \(Conv\): 1099511627776 groups do not"),
        (INSTRUCTION + 16, 9, r"instruction 0 \(Conv\): no output positions"),
    ],
)
def test_a_damaged_program_is_refused_with_the_record(library, position, value, message):
    with pytest.raises(ValueError, match=message):
        library.open_region(changed(small_conv(), position, value))


def test_padding_that_would_overflow_an_index_is_refused(library):
    """2^24 rows of one column, and a kernel that looks 4094 columns beyond."""
    weight = Weight("w", np.ones((1, 4095), np.float32))
    conv = Conv(0, 0, (1, 4095), pads=(0, 4094, 0, 4094), dilation=(1, 2))
    program = RegionProgram((Planes(1, 1 << 24, 1),), (conv,), (1,), (weight,), ())
    with pytest.raises(ValueError, match=r"too large"):
        library.open_region(encode(program))


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_program_of_another_length_is_refused(library, extra):
    encoded = small_conv()
    integers = encoded.program[:extra] if extra < 0 else (*encoded.program, 0)
    with pytest.raises(ValueError, match=r"program ends after|1 integers behind the end"):
        library.open_region(dataclasses.replace(encoded, program=integers))


def test_padding_bits_of_a_mask_must_be_zero(library):
    encoded = small_conv()
    masks = encoded.masks | np.uint8(1)
    with pytest.raises(ValueError, match="weight 0: padding bits of a mask must be zero"):
        library.open_region(dataclasses.replace(encoded, masks=masks))


def test_memory_grows_with_the_kept_weights(library):
    def weights_bytes(kept: int) -> int:
        grid = BlockGrid(MatrixShape(64, 640), BlockShape(64, 1))
        mask = BlockMask(grid, np.arange(640).reshape(1, 640) < kept)
        weight = Weight("w", BsrMatrix.pack(np.ones((64, 640), np.float32), mask))
        program = RegionProgram((Rows(640),), (Linear(0, 0),), (1,), (weight,), ())
        with library.open_region(encode(program)) as region:
            return region.memory_bytes[0]

    per_column = (weights_bytes(640) - weights_bytes(64)) / (640 - 64)
    assert per_column == 64 * 4 + 2 * 4  # 64 weights; its index, of rows and of packed samples


def joined_rows() -> EncodedRegion:
    """A concat of two inputs, normalised; its operands are integers 14 and 15."""
    vectors = (np.ones(5, np.float32), np.zeros(5, np.float32))
    instructions = (Concat((0, 1)), LayerNorm(2, 0, 1, 1e-5), Activate(3, Activation("clip", 0, 6)))
    return encode(RegionProgram((Rows(2), Rows(3)), instructions, (4,), (), vectors))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (15, 2, r"instruction 0 \(Concat\): value 0 is not the first of its operands"),
        (15, -1, r"operand 0: value -1 does not exist"),
        (16, 1 << 40, r"operand 1: value 1099511627776 does not exist"),
        (16, 2, r"instruction 0 \(Concat\): value 2 does not exist yet"),
        (15, 1, r"instruction 0 \(Concat\): value 0 is not the first of its operands"),
        (17 + 8, 1, r"instruction 0 \(Concat\): operands 1 to 3 of 2"),
        (17 + 9, 1, r"instruction 0 \(Concat\): operands 0 to 1 of 2"),
        (17 + 9, (1 << 63) - 1, r"instruction 0 \(Concat\): operands 0 to 9223372036854775807"),
        (37 + 8, 6, r"instruction 1 \(LayerNorm\): scale or bias lies outside the blob of 10"),
        (37 + 3, -2, r"instruction 1 \(LayerNorm\): scale or bias lies outside the blob of 10"),
        (37 + 9, 0x7FC00000, r"instruction 1 \(LayerNorm\): bad epsilon 2143289344"),
        (37 + 9, -1, r"instruction 1 \(LayerNorm\): bad epsilon -1"),
        (37 + 10, 4, r"instruction 1 \(LayerNorm\): a scale of 4 numbers does not fit 5 features"),
        (37 + 5, 1, r"instruction 1 \(LayerNorm\): takes no activation, got 1"),
        (57 + 6, 0x7FC00000, r"instruction 2 \(Activate\): bad numbers 2143289344, 1086324736 of"),
        (57 + 6, 0x41000000, r"instruction 2 \(Activate\): bad numbers 1090519040, 1086324736 of"),
    ],
)
def test_lists_vectors_and_numbers_are_checked(library, position, value, message):
    with library.open_region(joined_rows()) as region:
        assert len(region.run([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])) == 1
    with pytest.raises(ValueError, match=message):
        library.open_region(changed(joined_rows(), position, value))


def test_no_two_joins_share_a_list(library):
    """Else a short program could join more values than it has integers."""
    program = RegionProgram((Rows(2),), (Concat((0, 0)), Concat((0, 0))), (1, 2), (), ())
    encoded = encode(program)
    second = 6 + 4 + 2 + 4 + 20 + 8  # behind header, input, outputs, operands, first instruction
    assert encoded.program[second] == 2
    shared = changed(encoded, second, 0)
    message = "its operands start at 0, expected 2"
    with pytest.raises(ValueError, match=rf"instruction 1 \(Concat\): {message}"):
        library.open_region(shared)
    with pytest.raises(ValueError, match=message):
        decode(shared)


def test_products_that_share_a_weight_may_not_take_all_memory(library):
    """A file of a few megabytes would have become 32 GiB of packed weights."""
    weight = Weight("w", np.ones((1024, 1024), np.float32))
    program = RegionProgram(
        (Rows(1024),), tuple(Linear(0, 0) for _ in range(8192)), (8192,), (weight,), ()
    )
    message = r"instruction 4096 \(Linear\): the weights up to here exceed 4294967296 floats"
    with pytest.raises(ValueError, match=message):
        library.open_region(encode(program))


_MUTATE = textwrap.dedent(
    """
    import dataclasses, json, sys
    import numpy as np
    from pruneaug_cli.core import *
    from pruneaug_cli.kernels.activation import RELU, Activation
    from pruneaug_cli.kernels.encoding import encode
    from pruneaug_cli.kernels.native import NativeBackend
    from pruneaug_cli.kernels.program import *

    CLIP = Activation("clip", 0.0, 6.0)
    rng = np.random.default_rng(int(sys.argv[1]))
    library = NativeBackend().library

    def weight(rows, cols, block):
        grid = BlockGrid(MatrixShape(rows, cols), BlockShape.parse(block))
        mask = BlockMask(grid, rng.random(grid.shape) < 0.5)
        return Weight("w", BsrMatrix.pack(rng.standard_normal((rows, cols)), mask))

    pads = (1, 1, 1, 1)
    program = RegionProgram(
        (Planes(2, 6, 6),),
        (Conv(0, 0, (3, 3), pads=pads, epilogue=Epilogue(0, None, RELU)),
         Conv(1, 1, (3, 3), (2, 2), pads), Subsample(1, (2, 2), 1, 1), MaxPool(1, (2, 2), (2, 2)),
         Add(2, 3, RELU), GlobalAveragePool(5), Linear(6, 2, Epilogue(0)), Flatten(4),
         AveragePool(4, (2, 2), (1, 1), pads), Linear(7, 3),
         Conv(3, 4, (3, 3), pads=pads, epilogue=Epilogue(activation=CLIP), groups=6),
         Conv(11, 5, (1, 1), groups=2), Concat((3, 11, 12)), LayerNorm(8, 1, 2, 1e-5),
         Concat((6, 7))),
        (7, 8, 9, 5, 10, 13, 14, 15),
        (weight(4, 18, "4x1"), weight(6, 36, "3x2"), weight(4, 6, "8x4"), weight(9, 4, "2x2"),
         weight(6, 9, "1x3"), weight(4, 3, "3x1")),
        (np.ones(4, np.float32), np.ones(36, np.float32), np.ones(36, np.float32)),
    )
    good = encode(program)
    interesting = [0, 1, 2, 3, -1, -2, 7, 8, 9, 100, 4096, 4097, 1 << 24, (1 << 24) + 1, 1 << 31,
                   (1 << 31) - 1, 1 << 32, 1 << 62, -(1 << 63), (1 << 63) - 1]
    counts = {"refused": 0, "ran": 0, "large": 0}
    for _ in range(int(sys.argv[2])):
        integers = list(good.program)
        for _ in range(rng.integers(1, 4)):
            position = rng.integers(len(integers))
            change = interesting[rng.integers(len(interesting))]
            near = int(integers[position]) + int(rng.integers(-2, 3))
            integers[position] = change if rng.random() < 0.7 else near
        integers = [min(max(v, -(1 << 63)), (1 << 63) - 1) for v in integers]
        masks = good.masks.copy()
        if rng.random() < 0.2:
            masks[rng.integers(masks.size)] ^= 1 << rng.integers(8)
        bad = dataclasses.replace(good, program=tuple(integers), masks=masks)
        try:
            region = library.open_region(bad)
        except ValueError as error:
            assert str(error), "a refusal says why"
            counts["refused"] += 1
            continue
        sizes = [int(np.prod(d)) for d in region.input_dims + region.output_dims]
        if max([*sizes, region.memory_bytes[1] // 4]) > 1 << 20:
            counts["large"] += 1
        else:
            region.run([rng.standard_normal((2, *d)).astype(np.float32) for d in region.input_dims])
            counts["ran"] += 1
        region.close()
    print(json.dumps(counts))
    """
)


def mutate(seed: int, cases: int) -> dict[str, int]:
    """In a process of its own: a crash is a failed test, not the end of the run."""
    done = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", _MUTATE, str(seed), str(cases)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_mutated_programs_are_refused_or_run(library):
    counts = mutate(seed=1, cases=600)
    assert sum(counts.values()) == 600
    assert counts["refused"] > 300
    assert counts["ran"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_mutated_programs_are_refused_or_run(library, seed):
    assert sum(mutate(seed, cases=3000).values()) == 3000
