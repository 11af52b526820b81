"""In ONNX Runtime our operators answer as its own do: NaN, infinities, repeats, many callers."""

import threading

import numpy as np
import pytest

from pruneaug_cli.export import region_model
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
    ValueShape,
    Weight,
)
from pruneaug_cli.runtime import Session, open_session
from tests.native.programs import ACTIVATIONS, large_layers, network, numbers

ODD = np.array([np.nan, np.inf, -np.inf, 1e-40, -1e-40, 0.0, -0.0], np.float32)
PLANES, ROWS, PADS = Planes(6, 9, 11), Rows(37), (1, 1, 1, 1)
OPERATIONS: dict[str, tuple[ValueShape, Instruction]] = {
    **{f"conv {a.kind}": (PLANES, Conv(0, 0, (1, 1), epilogue=Epilogue(0, None, a)))
       for a in ACTIVATIONS},
    **{f"linear {a.kind}": (ROWS, Linear(0, 1, Epilogue(0, None, a))) for a in ACTIVATIONS},
    **{f"planes {a.kind}": (PLANES, Activate(0, a)) for a in ACTIVATIONS},
    "conv 3x3": (PLANES, Conv(0, 2, (3, 3), pads=PADS)),
    "conv 3x3 stride 2": (PLANES, Conv(0, 2, (3, 3), (2, 2), PADS)),
    "depthwise": (PLANES, Conv(0, 3, (3, 3), pads=PADS, groups=6)),
    "average pool": (PLANES, AveragePool(0, (3, 3), (2, 2), PADS)),
    "global average pool": (PLANES, GlobalAveragePool(0)),
    "add": (PLANES, Add(0, 1)),
    "subsample": (PLANES, Subsample(0, (2, 2), 2, 2)),
    "concat": (PLANES, Concat((0, 1))),
    "flatten": (PLANES, Flatten(0)),
    "layer norm": (ROWS, LayerNorm(0, 1, 2)),
}  # fmt: skip


def dims(shape: ValueShape) -> tuple[int, ...]:
    if isinstance(shape, Planes):
        return (shape.channels, shape.height, shape.width)
    return (shape.features,)


def odd_numbers(rng: np.random.Generator, *shape: int) -> Floats:
    found = numbers(rng, *shape)
    places = rng.random(shape) < 0.08
    found[places] = rng.choice(ODD, places.sum())
    return found


def one_instruction(shape: ValueShape, op: Instruction) -> RegionProgram:
    """Dense weights: what a mask removes, ONNX Runtime's dense product multiplies by zero."""
    rng = np.random.default_rng(1)
    weights = [Weight("w", numbers(rng, *size)) for size in ((8, 6), (8, 37), (8, 54), (6, 9))]
    biases = (numbers(rng, 8), numbers(rng, 37), numbers(rng, 37))
    return RegionProgram((shape, shape), (op,), (2,), tuple(weights), biases)


@pytest.mark.parametrize("name", OPERATIONS)
def test_not_a_number_and_infinity_come_out_where_they_do_in_onnx_runtime(library, name):
    shape, op = OPERATIONS[name]
    model = region_model(one_instruction(shape, op), batch=8).SerializeToString()
    rng = np.random.default_rng(2)
    inputs = [odd_numbers(rng, 8, *dims(shape)) for _ in range(2)]
    (ours,) = open_session(model, library=library).run(inputs)
    (stock,) = open_session(model).run(inputs)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(stock))
    infinite = np.isinf(stock)
    np.testing.assert_array_equal(np.isinf(ours), infinite)
    np.testing.assert_array_equal(ours[infinite], stock[infinite])
    assert not np.isfinite(stock).all(), "the case has something to show"


def test_a_maximum_is_not_a_number_where_its_window_holds_one(library):
    """As in torch. ONNX Runtime's answer depends on the place of NaN in the window."""
    program = one_instruction(PLANES, MaxPool(0, (2, 2), (1, 1)))
    x = odd_numbers(np.random.default_rng(3), 8, *dims(PLANES))
    (found,) = open_session(
        region_model(program, batch=8).SerializeToString(), library=library
    ).run([x, x])
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    np.testing.assert_array_equal(found, windows.max(axis=(4, 5)))


@pytest.fixture(scope="module")
def sessions(library):
    """Of a whole network and of layers that are shared between threads; two of each."""
    rng = np.random.default_rng(4)
    found: list[tuple[Session, Session, list[Floats]]] = []
    for program in (network(rng, "8x1"), *large_layers(rng)):
        model = region_model(program, batch=2).SerializeToString()
        inputs = [numbers(rng, 2, *dims(shape)) for shape in program.inputs]
        two = [open_session(model, library=library, threads=2) for _ in range(2)]
        found.append((two[0], two[1], inputs))
    return found


def test_repeated_runs_give_the_same_bits(sessions):
    for session, other, inputs in sessions:
        first = [array.tobytes() for array in session.run(inputs)]
        for again in (session, session, other):
            assert [array.tobytes() for array in again.run(inputs)] == first


def test_many_callers_of_one_session_get_the_same_bits(sessions):
    wrong: list[str] = []

    def call(number: int) -> None:
        for repeat in range(10):
            session, other, inputs = sessions[(number + repeat) % len(sessions)]
            expected = truth[(number + repeat) % len(sessions)]
            for asked in (session, other):
                found = [array.tobytes() for array in asked.run(inputs)]
                if found != expected:
                    wrong.append(f"caller {number}, repeat {repeat}")

    truth = [[array.tobytes() for array in session.run(inputs)] for session, _, inputs in sessions]
    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
