"""What is too large for the engine is known before it: the planner's reasons, the engine's word."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.export.nodes import TOO_MANY_AXES
from pruneaug_cli.export.planner import TOO_LONG, TOO_MANY_PORTS
from pruneaug_cli.kernels import limits
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.limits import MOST_ELEMENTS, MOST_SIZE, MOST_WINDOW, why_too_large
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.native.compiler import SOURCES
from pruneaug_cli.kernels.program import (
    Activate,
    AveragePool,
    Conv,
    Instruction,
    Linear,
    MaxPool,
    Planes,
    RegionProgram,
    Rows,
    Subsample,
    ValueShape,
    Weight,
)
from tests.unit.test_export_planner import floats, graph, node, plan, reasons

ACTIVATE = Activate(0, RELU)
WINDOW = "kernel, stride, padding and dilation end at 4096"
# an instruction, the value it reads, and the reason when there is one
CASES: list[tuple[Instruction, ValueShape, str | None]] = [
    (ACTIVATE, Rows(MOST_SIZE), None),
    (ACTIVATE, Rows(MOST_SIZE + 1), "rows of 16777217: an axis exceeds 16777216"),
    (ACTIVATE, Planes(16, 1 << 12, 1 << 12), None),
    (ACTIVATE, Planes(16, 1 << 12, (1 << 12) + 1), "16x4096x4097 planes: more than 268435456 numb"),
    (MaxPool(0, (1, 1), (MOST_WINDOW, 1)), Planes(1, 9, 9), None),
    (MaxPool(0, (1, 1), (1, MOST_WINDOW + 1)), Planes(1, 9, 9), WINDOW),
    (AveragePool(0, (MOST_WINDOW + 1, 1), (1, 1)), Planes(1, MOST_WINDOW + 1, 1), WINDOW),
    (MaxPool(0, (2, 3), (1, 1), (1, 2, 1, 2)), Planes(1, 9, 9), None),
    (MaxPool(0, (2, 3), (1, 1), (2, 2, 1, 2)), Planes(1, 9, 9), "padding is as large as its kern"),
    (Conv(0, 0, (1, 1), (1, 1), (0, 0, 0, MOST_WINDOW)), Planes(1, 2, 2), None),
    (Conv(0, 0, (1, 1), (1, 1), (0, 0, 0, MOST_WINDOW + 1)), Planes(1, 2, 2), WINDOW),
    (Conv(0, 0, (1, 2), dilation=(1, MOST_WINDOW + 1)), Planes(1, 1, 5000), WINDOW),
    (Conv(0, 0, (64, 64), (64, 64)), Planes(1, 64, 64), None),
    (Conv(0, 0, (64, 65), (64, 65)), Planes(1, 64, 65), "its stride has more than 4096 phases"),
    (Subsample(0, (MOST_WINDOW, 1)), Planes(1, 9, 9), None),
    (Subsample(0, (MOST_WINDOW + 1, 1)), Planes(1, 9, 9), "its steps end at 4096"),
    (Subsample(0, (1, 1), MOST_SIZE), Planes(1, 1, 1), "16777217x1x1 planes: an axis exceeds"),
]  # fmt: skip


def program_of(op: Instruction, source: ValueShape) -> RegionProgram:
    weights = ()
    if isinstance(op, Conv):
        weights = (Weight("w", np.zeros((1, source.channels * op.kernel[0] * op.kernel[1]), "f")),)
    return RegionProgram((source,), (op,), (1,), weights, ())


@pytest.mark.parametrize(("op", "source", "reason"), CASES)
def test_a_limit_is_told_before_the_engine_would_refuse(op, source, reason):
    program = program_of(op, source)
    result = value_shapes(program)[-1]
    found = why_too_large(op, [source], result, *program.weights)
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(("op", "source", "reason"), CASES)
def test_the_engine_has_the_same_limits(op, source, reason):
    native = NativeBackend()
    if why := native.why_unavailable():
        pytest.skip(why)
    encoded = encode(program_of(op, source))
    if reason is None:
        native.library.open_region(encoded).close()
        return
    with pytest.raises(ValueError, match=r"^(input|instruction) 0"):
        native.library.open_region(encoded)


def test_numbers_of_the_sources_are_those_here():
    """C has no way to read them from Python."""
    text = "".join(path.read_text() for path in sorted(SOURCES.glob("*.[ch]")))
    for name, ours in (
        ("MOST_SIZE", limits.MOST_SIZE), ("MOST_WINDOW", limits.MOST_WINDOW),
        ("MOST_ELEMENTS", limits.MOST_ELEMENTS), ("MOST_PHASES", limits.MOST_PHASES),
        ("MOST_POSITIONS", limits.MOST_POSITIONS), ("MAX_PORTS", limits.MOST_PORTS),
        ("MOST_RECORDS", limits.MOST_RECORDS), ("MAX_RANK", limits.MOST_AXES),
    ):  # fmt: skip
        found = re.search(rf"(?:#define {name} |\b{name} = )([^/,\n]+)", text)
        assert found is not None, name
        number = found[1].replace("(int64_t)", "")
        assert eval(number, {}) == ours, name  # noqa: S307 - our own sources: 1 << 24


def test_a_matrix_may_be_too_large():
    """The arrays behind it are views of one number: no memory is taken."""
    tall = np.broadcast_to(np.float32(1), (MOST_SIZE + 1, 1))
    reason = why_too_large(Linear(0, 0), [Rows(1)], Rows(1), Weight("w", tall))
    assert reason == "a 16777217x1 matrix exceeds 16777216 rows or columns"
    grid = BlockGrid(MatrixShape(1, 1), BlockShape(MOST_SIZE + 1, 1))
    mask = BlockMask(grid, np.zeros((1, 1), np.bool_))
    empty = Weight("w", BsrMatrix.pack(np.zeros((1, 1), np.float32), mask))
    reason = why_too_large(Linear(0, 0), [Rows(1)], Rows(1), empty)
    assert reason == "blocks of 16777217x1 exceed 16777216 rows or columns"


@pytest.mark.parametrize(
    ("op", "source", "reason"),
    [
        (
            Conv(0, 0, (1, 3), dilation=(1, 4000)),
            Planes(1, 1 << 17, 1 << 11),
            "one exceeds 1073741824 numbers with the",
        ),
        (
            Conv(0, 0, (1, 3), dilation=(1, 4000)),
            Planes(1000, 1 << 8, 1 << 9),
            "more than 2147418112 numbers with the",
        ),
    ],
)
def test_padding_counts(op, source, reason):
    """Far larger than what a test should open; the engine refuses them as well, or has room."""
    result = replace(source, channels=1, width=source.width)
    assert source.channels * source.height * source.width <= MOST_ELEMENTS
    assert reason in (why_too_large(op, [source], result) or "")


def test_what_is_too_large_is_left_outside_and_its_neighbours_are_not():
    found = graph(
        [node("a = Conv x w"), node("y = Conv a w", strides=[MOST_WINDOW + 1, 1])],
        {"w": floats(4, 4, 1, 1)},
    )
    result = plan(found, ["w"])
    assert [[n.op_type for n in region.nodes] for region in result.regions] == [["Conv"]]
    assert reasons(result) == {"Conv": WINDOW}


def test_rows_of_more_axes_than_the_engine_keeps_stay_outside():
    shape = ("N", 1, 1, 1, 1, 1, 2)
    constants = {"w": floats(4, 4)}
    eight, nine = ((*shape, *more, 4) for more in ((), (1,)))
    (region,) = plan(graph([node("y = MatMul x w")], constants, x=eight), ["w"]).regions
    assert region.program.inputs == (Rows(4),)
    result = plan(graph([node("y = MatMul x w")], constants, x=nine), ["w"])
    assert reasons(result) == {"MatMul": TOO_MANY_AXES}


@pytest.mark.parametrize("count", [64, 65])
def test_a_part_with_more_outputs_than_the_engine_binds_stays_outside(count):
    names = [f"y{index}" for index in range(count)]
    found = graph(
        [node(f"{name} = MatMul x w") for name in names], {"w": floats(4, 4)}, x=("N", 4),
        outputs=names,
    )  # fmt: skip
    result = plan(found, ["w"])
    assert len(result.regions) == (count <= limits.MOST_PORTS)
    assert reasons(result) == ({} if result.regions else {"MatMul": TOO_MANY_PORTS})


@pytest.mark.parametrize("count", [64, 65])
def test_a_part_with_more_inputs_than_the_engine_binds_stays_outside(count):
    names = [f"x{index}" for index in range(1, count)]
    found = graph(
        [node(f"j = Concat x {' '.join(names)}", axis=-1), node("y = MatMul j w")],
        {"w": floats(4 * count, 4 * count)}, x=("N", 4), more=dict.fromkeys(names, ("N", 4)),
    )  # fmt: skip
    result = plan(found, ["w"])
    assert len(result.regions) == (count <= limits.MOST_PORTS)
    assert set(reasons(result).values()) == (set() if result.regions else {TOO_MANY_PORTS})


@pytest.mark.parametrize(("most", "inside"), [(3, True), (2, False)])
def test_a_part_with_more_than_the_engine_reads_stays_outside(monkeypatch, most, inside):
    """Three values are joined by one of two instructions."""
    monkeypatch.setattr("pruneaug_cli.export.planner.MOST_RECORDS", most)
    found = graph(
        [node("j = Concat x x x", axis=-1), node("y = MatMul j w")], {"w": floats(12, 12)},
        x=("N", 4),
    )  # fmt: skip
    result = plan(found, ["w"])
    assert reasons(result) == ({} if inside else dict.fromkeys(("Concat", "MatMul"), TOO_LONG))
