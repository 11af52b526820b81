"""Values that take turns in the same memory: regions of many geometries, run again and again."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneaug_cli.kernels.activation import RELU, Activation
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    Instruction,
    MaxPool,
    Planes,
    RegionProgram,
    Subsample,
    Weight,
)
from pruneaug_cli.kernels.reference import ReferenceBackend

EPS = float(np.finfo(np.float32).eps)
MOST_CHANNELS = 40


def halved(shape: Planes) -> tuple[int, int]:
    return (shape.height + 1) // 2, (shape.width + 1) // 2


def grow(draw, rng, shapes: list[Planes], weights: list[Weight]) -> Instruction:
    """One more instruction on what there is; its shape and weight are appended."""
    source = draw(st.integers(max(0, len(shapes) - 3), len(shapes) - 1))
    shape = shapes[source]
    like = [v for v, other in enumerate(shapes) if other == shape]
    kind = draw(st.sampled_from(["conv", "conv", "strided", "pool", "add", "skip", "concat"]))
    if kind in ("conv", "strided"):
        kernel, stride = draw(st.sampled_from([1, 3])), 2 if kind == "strided" else 1
        size = halved(shape) if stride == 2 else (shape.height, shape.width)
        channels = draw(st.integers(1, 20)) if draw(st.booleans()) else shape.channels
        matrix = rng.uniform(0.5, 1.0, (channels, shape.channels * kernel**2)) / kernel**2
        weights.append(Weight("w", (matrix / shape.channels).astype(np.float32)))
        shapes.append(Planes(channels, *size))
        same = [v for v, other in enumerate(shapes[:-1]) if other == shapes[-1]]
        residual = draw(st.sampled_from([None, *same]))
        return Conv(
            source, len(weights) - 1, (kernel, kernel), (stride, stride), (kernel // 2,) * 4,
            epilogue=Epilogue(None, residual, RELU),
        )  # fmt: skip
    if kind == "pool":
        shapes.append(Planes(shape.channels, *halved(shape)))
        return MaxPool(source, (3, 3), (2, 2), (1, 1, 1, 1))
    if kind == "skip" and shape.channels < MOST_CHANNELS:
        shapes.append(Planes(shape.channels + 3, *halved(shape)))
        return Subsample(source, (2, 2), 1, 2)
    if kind == "concat" and shape.channels < MOST_CHANNELS:
        shapes.append(Planes(2 * shape.channels, shape.height, shape.width))
        return Concat((source, draw(st.sampled_from(like))))
    shapes.append(shape)
    return Add(source, draw(st.sampled_from(like)))


@st.composite
def networks(draw):
    """Instructions on instructions; the last value and some others leave the region."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = [Planes(draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 40)))]
    weights: list[Weight] = []
    instructions = tuple(grow(draw, rng, shapes, weights) for _ in range(draw(st.integers(1, 12))))
    last = len(shapes) - 1
    others = draw(st.sets(st.integers(1, last), max_size=2)) - {last}
    program = RegionProgram((shapes[0],), instructions, (last, *sorted(others)), tuple(weights), ())
    size = (draw(st.integers(1, 2)), shapes[0].channels, shapes[0].height, shapes[0].width)
    return program, [rng.uniform(0.0, 1.0, size).astype(np.float32) for _ in range(2)]


@settings(max_examples=300)
@given(networks())
def test_runs_leave_nothing_behind_for_the_next(native, case):
    program, inputs = case
    terms = sum(weight.shape.cols + 4 for weight in program.weights) + 20
    expected = [ReferenceBackend().run(program, [x]) for x in inputs]
    with native.library.open_region(encode(program)) as region:
        runs = [region.run([inputs[turn % 2]]) for turn in range(4)]
    for turn, found in enumerate(runs):
        for ours, again, theirs in zip(found, runs[turn % 2], expected[turn % 2], strict=True):
            np.testing.assert_array_equal(ours, again)
            np.testing.assert_allclose(ours, theirs, rtol=terms * EPS, atol=0)


@st.composite
def bare_products(draw):
    """A 1x1 convolution, perhaps with a residual: all its planes are the caller's."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    image = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    matrix = rng.uniform(0.5, 1.0, (outputs, channels)).astype(np.float32)
    epilogue = Epilogue(
        None, draw(st.sampled_from([None, 1])), draw(st.sampled_from([RELU, Activation("silu")]))
    )
    program = RegionProgram(
        (Planes(channels, *image), Planes(outputs, *image)),
        (Conv(0, 0, (1, 1), epilogue=epilogue),), (2,), (Weight("w", matrix),), (),
    )  # fmt: skip
    samples = draw(st.integers(1, 3))
    return program, [
        rng.uniform(0.0, 1.0, (samples, count, *image)).astype(np.float32)
        for count in (channels, outputs)
    ]


@settings(max_examples=300)
@given(bare_products())
def test_no_kernel_writes_beyond_the_callers_planes(native, case):
    program, inputs = case
    (expected,) = ReferenceBackend().run(program, inputs)
    room = np.full(expected.size + 64, np.nan, np.float32)
    result = room[: expected.size].reshape(expected.shape)
    with native.library.open_region(encode(program)) as region:
        region.run_into(inputs, [result])
    np.testing.assert_allclose(result, expected, rtol=40 * EPS, atol=0)
    assert np.isnan(room[expected.size :]).all()
