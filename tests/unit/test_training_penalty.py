"""The reweighted group penalty, against closed forms."""

import math

import pytest
import torch
from torch import nn

from pruneaug_cli.core import BlockGrid, BlockShape, MatrixShape
from pruneaug_cli.training.penalty import ReweightedGroupPenalty, block_norms, vanished_share


def grid(matrix: str, block: str) -> BlockGrid:
    rows, cols = map(int, matrix.split("x"))
    return BlockGrid(MatrixShape(rows, cols), BlockShape.parse(block))


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(3)))


def penalty(*pairs: tuple[nn.Parameter, BlockGrid], **settings: float) -> ReweightedGroupPenalty:
    values = {"strength": 1.0, "epsilon": 0.0, **settings}
    return ReweightedGroupPenalty({str(i): pair for i, pair in enumerate(pairs)}, **values)


@pytest.mark.parametrize("block", ["1x1", "2x3", "4x1", "5x7", "8x8"])
def test_fresh_coefficients_count_the_blocks(block: str) -> None:
    """With alpha = 1 / norm every block contributes 1, edge blocks too, whatever the scale."""
    blocks = grid("5x7", block)
    found = penalty((weight(5, 7), blocks), strength=0.5)
    assert found().item() == pytest.approx(0.5 * blocks.size, rel=1e-5)


def test_layers_of_any_scale_weigh_alike() -> None:
    small, large = weight(4, 6), nn.Parameter(1e4 * weight(8, 2, 3, 3).detach())
    found = penalty((small, grid("4x6", "2x2")), (large, grid("8x18", "8x1")))
    assert found().item() == pytest.approx(6 + 18, rel=1e-5)


def test_halving_a_weight_halves_the_penalty_until_the_next_reweighting() -> None:
    tensor = weight(4, 4)
    found = penalty((tensor, grid("4x4", "2x2")))
    with torch.no_grad():
        tensor.mul_(0.5)
    assert found().item() == pytest.approx(2.0)
    found.reweight()
    assert found().item() == pytest.approx(4.0)


def test_the_gradient_is_the_unit_vector_over_the_norm() -> None:
    """d/dW of alpha ||W_g|| with alpha = 1 / ||W_g|| is W_g / ||W_g||^2."""
    tensor = weight(2, 6)
    penalty((tensor, grid("2x6", "2x6")), strength=0.3)().backward()
    expected = 0.3 * tensor.detach() / tensor.detach().square().sum()
    torch.testing.assert_close(tensor.grad, expected)


def test_a_block_of_zeros_has_a_zero_gradient() -> None:
    tensor = weight(4, 4)
    with torch.no_grad():
        tensor[:2] = 0.0
    penalty((tensor, grid("4x4", "2x2")), epsilon=1e-3)().backward()
    assert tensor.grad is not None
    assert torch.isfinite(tensor.grad).all()
    assert not tensor.grad[:2].any()
    assert tensor.grad[2:].all()


def test_epsilon_bounds_the_coefficient_of_a_vanished_block() -> None:
    found = penalty((nn.Parameter(torch.zeros(2, 2)), grid("2x2", "2x2")), epsilon=0.01)
    assert found.coefficients["0"].item() == pytest.approx(100.0)
    assert found().item() == 0.0


def test_a_conv_weight_is_grouped_as_its_matrix() -> None:
    """An 8x1 block of a 3x3 convolution is one kernel position of 8 outputs."""
    tensor = nn.Parameter(torch.zeros(8, 2, 3, 3))
    with torch.no_grad():
        tensor[:, 1, 0, 2] = 1.0
    norms = block_norms(tensor.flatten(1), grid("8x18", "8x1"))
    assert norms[0].nonzero().tolist() == [[1 * 9 + 0 * 3 + 2]]
    assert norms.max().item() == pytest.approx(math.sqrt(8))


def test_kernels_in_channels_last_order_have_the_same_penalty() -> None:
    plain = weight(8, 4, 3, 3)
    ordered = nn.Parameter(plain.detach().contiguous(memory_format=torch.channels_last))
    blocks = grid("8x36", "4x2")
    torch.testing.assert_close(
        penalty((plain, blocks), epsilon=0.1)(), penalty((ordered, blocks), epsilon=0.1)()
    )


def test_without_layers_nothing_is_penalised() -> None:
    assert penalty()().item() == 0.0


def test_given_coefficients_replace_the_computed_ones() -> None:
    found = penalty((nn.Parameter(torch.ones(2, 2)), grid("2x2", "1x1")))
    found.coefficients = {"0": torch.full((2, 2), 3.0)}
    assert found().item() == pytest.approx(12.0)


def test_vanished_blocks_are_those_far_below_their_layer() -> None:
    tensor = nn.Parameter(torch.tensor([[1.0, 1.0, 1e-4, 0.0]]))
    blocks = grid("1x4", "1x1")
    assert vanished_share({"a": (tensor, blocks)}) == 0.5
    assert vanished_share({"a": (nn.Parameter(torch.zeros(1, 4)), blocks)}) == 1.0
    assert vanished_share({}) == 0.0
