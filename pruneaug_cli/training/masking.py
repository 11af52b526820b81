"""Masks at work on a model: removed weights are zero, and stay zero."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruneaug_cli.core import BlockGrid, BlockMask, keep_best
from pruneaug_cli.criteria import root_mean_square
from pruneaug_cli.errors import PlanError
from pruneaug_cli.layers import module_of


class WeightMasks:
    """The masks of a plan, as tensors beside the weights of one model.

    Layers without a mask are left alone. Nothing is attached to the model.

    Raises:
        PlanError: the model has no such layer, or its weight has another shape.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, BlockMask]) -> None:
        grids = {name: mask.grid for name, mask in masks.items()}
        self._removed: list[tuple[Tensor, Tensor]] = []
        for name, (weight, _) in planned_weights(model, grids).items():
            removed = torch.from_numpy(~masks[name].elements()).reshape(weight.shape)
            self._removed.append((weight, removed.to(weight.device)))

    @torch.no_grad()
    def apply(self) -> None:
        """Set the removed weights to zero."""
        for weight, removed in self._removed:
            weight.masked_fill_(removed, 0.0)

    @torch.no_grad()
    def apply_to_gradients(self) -> None:
        """Set the gradients of removed weights to zero, so that no momentum gathers behind them.

        Called before gradients are clipped, so removed weights take no share of the norm either.
        """
        for weight, removed in self._removed:
            if weight.grad is not None:
                weight.grad.masked_fill_(removed, 0.0)


def planned_weights(
    model: nn.Module, grids: Mapping[str, BlockGrid]
) -> dict[str, tuple[Tensor, BlockGrid]]:
    """The weights that a plan touches, with their grids.

    Raises:
        PlanError: the model has no such layer, or its weight has another shape.
    """
    found = {}
    for name, grid in grids.items():
        weight = module_of(model, name).weight
        rows, cols = weight.flatten(1).shape
        if (rows, cols) != (grid.matrix.rows, grid.matrix.cols):
            raise PlanError(
                f"layer {name!r}: the plan is for a {grid.matrix} matrix, the model's is "
                f"{rows}x{cols}"
            )
        found[name] = (weight, grid)
    return found


def masks_by_magnitude(model: nn.Module, masks: Mapping[str, BlockMask]) -> dict[str, BlockMask]:
    """Masks with the same grids and as many blocks, chosen anew by the RMS of the blocks now."""
    grids = {name: mask.grid for name, mask in masks.items()}
    chosen = {}
    for name, (weight, grid) in planned_weights(model, grids).items():
        matrix = weight.detach().flatten(1).double().cpu().numpy()
        removed = grid.size - masks[name].blocks
        kept = keep_best(root_mean_square(matrix * matrix, grid), removed / grid.size)
        chosen[name] = BlockMask(grid, kept)
    return chosen
