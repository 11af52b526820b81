"""Step times: recorded only while somebody watches, one row per run, named after the program."""

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.program import (
    Conv,
    Epilogue,
    Flatten,
    Linear,
    Planes,
    RegionProgram,
    Weight,
)
from pruneaug_cli.kernels.steps import step_macs, step_name

NAMES = [
    "load input 0: 8x9x9",
    "0 Conv 8x9x9 <- 8x9x9 3x3/1 8x1 @ 0.5 relu",
    "split for 1 Conv 8x5x5 <- 8x9x9 3x3/2 8x1 @ 0.5",
    "1 Conv 8x5x5 <- 8x9x9 3x3/2 8x1 @ 0.5",
    "2 Flatten 200 <- 8x5x5",
    "3 Linear 4 <- 200 dense",
]


@pytest.fixture
def program():
    rng = np.random.default_rng(0)
    grid = BlockGrid(MatrixShape(8, 72), BlockShape(8, 1))
    mask = BlockMask(grid, np.arange(72).reshape(1, 72) % 2 == 0)
    conv = Weight("c", BsrMatrix.pack(rng.standard_normal((8, 72)), mask))
    dense = Weight("d", rng.standard_normal((4, 200)).astype(np.float32))
    return RegionProgram(
        (Planes(8, 9, 9),),
        (
            Conv(0, 0, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(None, None, RELU)),
            Conv(1, 0, (3, 3), (2, 2), pads=(1, 1, 1, 1)), Flatten(2), Linear(3, 1),
        ),
        (4,), (conv, dense), (),
    )  # fmt: skip


@pytest.fixture(scope="module")
def library(native):
    return native.library


def test_each_run_gives_one_row_of_named_steps(library, program):
    x = np.ones((2, 8, 9, 9), np.float32)
    with library.open_region(encode(program)) as region:
        with library.watch() as watch:
            for _ in range(3):
                region.run([x])
            (times,) = watch.times()
        region.run([x])  # nobody watches: nothing is recorded
        (after,) = watch.times()
    assert [step_name(program, *step) for step in times.steps] == NAMES
    assert times.seconds.shape == after.seconds.shape == (3, len(NAMES))
    assert (times.seconds > 0).all()


def test_regions_are_told_apart_and_what_does_not_fit_is_left_out(library, program):
    x = np.ones((1, 8, 9, 9), np.float32)
    a, b = (library.open_region(encode(program)) for _ in range(2))
    room = 4 * (3 + len(NAMES)) - 1
    with a, b, library.watch(room) as watch:
        for region in (b, a, b, a):
            region.run([x])
        assert [len(times.seconds) for times in watch.times()] == [1, 2], "in order of creation"
        watch.clear()
        assert watch.times() == []


def test_macs_count_kept_blocks_at_every_position(program):
    assert [step_macs(program, "compute", i) for i in range(4)] == [288 * 81, 288 * 25, 0, 800]
    assert step_macs(program, "split", 1) == 0
