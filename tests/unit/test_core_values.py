"""The values of core: how they are written, what they refuse."""

import numpy as np
import pytest

from pruneaug_cli.core import (
    DENSE,
    BlockGrid,
    BlockMask,
    BlockShape,
    BsrMatrix,
    ConvGeometry,
    LayerChoice,
    LinearGeometry,
    MatrixShape,
    Option,
    Plan,
    pareto_front,
    parse_geometry,
    undominated,
)


@pytest.mark.parametrize("text", ["8", "8x", "x8", "0x4", "4x0", "-1x2", "8 x 1", "8x1x1", "8X1"])
def test_a_block_is_written_rows_x_columns(text: str) -> None:
    with pytest.raises(ValueError, match="expected ROWSxCOLS such as 8x1, got"):
        BlockShape.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        "linear 768 3072 128",
        "conv 64 3 7 7 224 224 2 3",
        "conv 64 64 3 3 32 32 1 1 8",
        "conv 8 8 1 3 9 17 1x2 0x1",
        "conv 8 8 3 3 16 16 1 2 dilation=2",
        "conv 8 8 3 3 16 16 1 2 4 dilation=2x1",
    ],
)
def test_a_geometry_survives_its_line(line: str) -> None:
    assert str(parse_geometry(line)) == line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pool 1 2", "expected 'linear M K N' or 'conv Cout"),
        ("", "expected 'linear M K N' or 'conv Cout"),
        ("linear 1 2", "expected 'linear M K N', got 2 numbers"),
        ("linear 1 2 x", "invalid literal"),
        ("linear 0 2 1", "every size of LinearGeometry must be at least 1"),
        ("conv 1 2 3", "expected 'conv Cout Cin kh kw H W stride pad"),
        ("conv 8 8 5 5 3 3 1 0", "no output positions"),
    ],
)
def test_a_bad_geometry_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_geometry(line)


def test_macs_count_products() -> None:
    assert LinearGeometry(10, 20, 3).macs == 600
    assert ConvGeometry(4, 2, (3, 3), (8, 8), stride=(2, 2), padding=(1, 1)).macs == 4 * 18 * 16


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_sparsity_is_a_fraction_below_one(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\)"):
        LayerChoice(BlockShape(8, 1), sparsity)


@pytest.mark.parametrize(("block", "sparsity"), [(None, 0.5), (BlockShape(8, 1), 0.0)])
def test_a_block_and_a_sparsity_belong_together(block: BlockShape | None, sparsity: float) -> None:
    with pytest.raises(ValueError, match="belong together"):
        LayerChoice(block, sparsity)


def test_a_plan_survives_its_document() -> None:
    plan = Plan.of({"b": LayerChoice(BlockShape(8, 1), 0.75), "a": DENSE})
    document = plan.to_json()
    assert document == {"b": {"block": "8x1", "sparsity": 0.75}, "a": "dense"}
    assert Plan.from_json(document) == plan
    assert plan["a"].is_dense
    assert list(plan) == ["b", "a"]


def test_the_order_of_layers_does_not_change_a_plan() -> None:
    choice = LayerChoice(BlockShape(8, 1), 0.75)
    one, other = Plan.of({"a": DENSE, "b": choice}), Plan.of({"b": choice, "a": DENSE})
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "'layers' must be an object, got list"),
        ({"fc": {}}, r"layers\.fc: expected 'dense' or an object"),
        ({"fc": {"block": "8x1", "sparsity": 1.0}}, r"layers\.fc: sparsity must be in \[0, 1\)"),
        ({"fc": {"block": "8by1", "sparsity": 0.5}}, r"layers\.fc: expected ROWSxCOLS"),
        ({"fc": {"block": "8x1", "sparsity": "half"}}, r"layers\.fc: sparsity must be a number"),
    ],
)
def test_a_bad_plan_is_refused_with_its_place(document: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_json(document)


def test_dominated_options_go() -> None:
    def option(latency_s: float, harm: float) -> Option:
        return Option(DENSE, latency_s, harm)

    kept = undominated([option(3, 0), option(1, 5), option(2, 5), option(2, 2), option(4, 0)])
    assert [(o.latency_s, o.harm) for o in kept] == [(1, 5), (2, 2), (3, 0)]


def test_the_front_keeps_the_cheapest_of_equals() -> None:
    front = pareto_front([(2, 1, "b"), (1, 1, "a")], cost=lambda p: p[0], value=lambda p: p[1])
    assert front == [(1, 1, "a")]


def test_a_mask_refuses_padding_bits() -> None:
    grid = BlockGrid(MatrixShape(1, 3), BlockShape(1, 1))
    with pytest.raises(ValueError, match="padding bits of a mask must be zero"):
        BlockMask.unpack_bits(grid, np.array([0b00010000], dtype=np.uint8))
    with pytest.raises(ValueError, match="a mask of 3 blocks takes 1 bytes, got 2"):
        BlockMask.unpack_bits(grid, np.zeros(2, dtype=np.uint8))


def test_packing_refuses_another_shape() -> None:
    grid = BlockGrid(MatrixShape(2, 3), BlockShape(1, 1))
    mask = BlockMask(grid, np.ones((2, 3), dtype=np.bool_))
    with pytest.raises(ValueError, match="expected a 2x3 matrix"):
        BsrMatrix.pack(np.zeros((3, 2), dtype=np.float32), mask)
