"""A region may be shared between threads, and a layer spread over them: same bits either way."""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.native.library import _pointers
from pruneaug_cli.kernels.program import (
    Conv,
    Epilogue,
    Flatten,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Planes,
    RegionProgram,
    Rows,
    Weight,
)  # fmt: skip

TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)
RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Parallel(ctypes.Structure):
    """``pa_parallel`` of region.h."""

    _fields_ = (("state", ctypes.c_void_p), ("run", RUN))


@pytest.fixture
def region(native):
    rng = np.random.default_rng(3)

    def weight(rows: int, cols: int) -> Weight:
        grid = BlockGrid(MatrixShape(rows, cols), BlockShape(8, 1))
        mask = BlockMask(grid, rng.random(grid.shape) < 0.5)
        return Weight("w", BsrMatrix.pack(rng.standard_normal((rows, cols)), mask))

    program = RegionProgram(
        (Planes(32, 32, 32),),
        (
            Conv(0, 0, (3, 3), pads=(1, 1, 1, 1)),
            Conv(1, 0, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(None, 0, RELU)),
            MaxPool(2, (8, 8), (8, 8)), Flatten(3), Linear(4, 1),
        ),
        (2, 5), (weight(32, 288), weight(512, 512)), (),
    )  # fmt: skip
    with native.library.open_region(encode(program)) as opened:
        yield opened


@pytest.fixture
def x():
    return np.random.default_rng(4).standard_normal((3, 32, 32, 32)).astype(np.float32)


def test_threads_that_share_a_region_do_not_disturb_each_other(region, x):
    expected = region.run([x])
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: region.run([x]), range(12)):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)


def run_on(region, x, offer):
    """Run a region with ``offer(call)`` in place of a pool: ``call(i)`` is task i."""
    counts = []

    @RUN
    def run(_state, task, context, count):
        counts.append(count)
        offer(lambda index: TASK(task)(context, index), range(count))

    outputs = [np.empty((len(x), *dims), np.float32) for dims in region.output_dims]
    error = ctypes.create_string_buffer(64)
    failed = region._functions.pa_region_run(
        region._handle, len(x), _pointers([x]), _pointers(outputs),
        ctypes.byref(Parallel(None, run)), error, 64,
    )  # fmt: skip
    assert not failed, error.value
    return outputs, counts


def one_after_the_other(call, places):
    for place in places:
        call(place)


def backwards(call, places):
    one_after_the_other(call, reversed(places))


def on_threads(call, places):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(call, places))


def one_comes_late(call, places):
    """The first place is taken at once, the others when the work may be under way or done."""
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(call, places[0])
        time.sleep(0.001)
        list(pool.map(call, places[1:]))
        first.result()


@pytest.mark.skipif(os.cpu_count() < 2, reason="a machine with one processor has no crew")
@pytest.mark.parametrize(
    "offer", [one_after_the_other, backwards, on_threads, one_comes_late], ids=lambda f: f.__name__
)
def test_a_run_shared_by_a_crew_gives_the_same_bits(region, x, offer):
    expected = region.run([x])
    for _ in range(5):  # later runs know how many came before
        found, counts = run_on(region, x, offer)
        assert len(counts) == 1, "the pool is asked once per run"
        assert counts[0] >= 2
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_work_too_small_for_a_crew_asks_no_pool(x):
    program = RegionProgram((Planes(32, 32, 32),), (GlobalAveragePool(0),), (1,), (), ())
    library = NativeBackend().library
    with library.open_region(encode(program)) as region:
        _, counts = run_on(region, x, one_after_the_other)
    assert counts == []


@pytest.mark.skipif(os.cpu_count() < 2, reason="a machine with one processor has no crew")
@pytest.mark.parametrize("offer", [one_after_the_other, on_threads], ids=lambda f: f.__name__)
def test_planes_of_the_caller_that_end_within_a_vector_are_shared(offer):
    """The last tile makes positions again that the one before has made: never another thread's."""
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((64, 90)).astype(np.float32)
    program = RegionProgram(
        (Planes(90, 29, 31),), (Conv(0, 0, (1, 1)),), (1,), (Weight("w", matrix),), ()
    )
    x = rng.standard_normal((1, 90, 29, 31)).astype(np.float32)
    with NativeBackend().library.open_region(encode(program)) as region:
        (expected,) = region.run([x])
        for _ in range(5):
            (found,), counts = run_on(region, x, offer)
            assert len(counts) == 1
            np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(os.cpu_count() < 2, reason="a machine with one processor has no crew")
@pytest.mark.parametrize("samples", [30, 37, 100])
@pytest.mark.parametrize("block", [BlockShape(8, 1), BlockShape(32, 1)], ids=str)
@pytest.mark.parametrize("offer", [one_after_the_other, on_threads], ids=lambda f: f.__name__)
def test_samples_of_linear_layers_are_shared(offer, block, samples):
    """Tiles of samples that are cut otherwise for more threads give the same bits."""
    rng = np.random.default_rng(6)

    def weight(rows: int, cols: int) -> Weight:
        grid = BlockGrid(MatrixShape(rows, cols), block)
        mask = BlockMask(grid, rng.random(grid.shape) < 0.25)
        return Weight("w", BsrMatrix.pack(rng.standard_normal((rows, cols)), mask))

    program = RegionProgram(
        (Rows(700),),
        (Linear(0, 0, epilogue=Epilogue(None, None, RELU)), Linear(1, 1, Epilogue(None, 0))),
        (1, 2), (weight(1000, 700), weight(700, 1000)), (),
    )  # fmt: skip
    x = rng.standard_normal((samples, 700)).astype(np.float32)
    with NativeBackend().library.open_region(encode(program)) as region:
        expected = region.run([x])
        for _ in range(5):
            found, counts = run_on(region, x, offer)
            assert len(counts) == 1
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(os.cpu_count() < 2, reason="a machine with one processor has no crew")
@pytest.mark.parametrize(("kept", "asks"), [(0.1, 0), (0.75, 1)])
def test_a_crew_is_asked_for_steps_that_it_would_share(kept, asks):
    """Steps of a few microseconds are one thread's, however many they are; longer ones are not."""
    rng = np.random.default_rng(7)
    grid = BlockGrid(MatrixShape(16, 144), BlockShape(8, 1))
    count = grid.shape[0] * grid.shape[1]
    mask = BlockMask(grid, (rng.permutation(count) < kept * count).reshape(grid.shape))
    weight = Weight("w", BsrMatrix.pack(rng.standard_normal((16, 144)), mask))
    steps = tuple(Conv(value, 0, (3, 3), pads=(1, 1, 1, 1)) for value in range(30))
    program = RegionProgram((Planes(16, 32, 32),), steps, (30,), (weight,), ())
    x = rng.standard_normal((1, 16, 32, 32)).astype(np.float32)
    with NativeBackend().library.open_region(encode(program)) as region:
        _, counts = run_on(region, x, one_after_the_other)
    assert len(counts) == asks
