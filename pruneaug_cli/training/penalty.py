"""The reweighted group penalty that drives whole blocks towards zero."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from pruneaug_cli.core import BlockGrid


def block_norms(matrix: Tensor, grid: BlockGrid) -> Tensor:
    """Euclidean norm of every block of ``matrix`` (M, K); shape ``grid.shape``.

    The overhang of edge blocks counts as zeros. Differentiable: the gradient of the norm of a
    block of zeros is zero.
    """
    (block_rows, block_cols), block = grid.shape, grid.block
    right = block_cols * block.cols - grid.matrix.cols
    below = block_rows * block.rows - grid.matrix.rows
    padded = F.pad(matrix, (0, right, 0, below)) if right or below else matrix
    tiles = padded.reshape(block_rows, block.rows, block_cols, block.cols)
    # vector_norm's own derivative at zero is the subgradient zero, not the 0/0 of sqrt(sum(x^2))
    norms: Tensor = torch.linalg.vector_norm(tiles, dim=(1, 3))
    return norms


class ReweightedGroupPenalty:
    r"""Group lasso over blocks, each with a coefficient that follows the size of its block.

    .. math::
        P(W) = \lambda \sum_l \sum_{g \in G_l} \alpha_g \lVert W_g \rVert_2, \qquad
        \alpha_g \leftarrow \frac{1}{\lVert W_g \rVert_2 + \varepsilon}

    A small block is pushed harder than a large one, so blocks part into those that vanish and
    those that stay, without a threshold per layer: with fresh coefficients and ε = 0 every block
    that is not zero adds exactly λ, whatever its size and its layer's scale.

    Coefficients are constants between two calls of :meth:`reweight`; the constructor computes
    them once.

    Args:
        weights: per layer, the weight (M, …), seen as the matrix ``weight.flatten(1)``, and the
            grid whose blocks are its groups.
        strength: λ.
        epsilon: ε; a block of zeros then has the coefficient 1/ε.

    References:
        Ma et al., "BLK-REW: A Unified Block-based DNN Pruning Framework using Reweighted
        Regularization Method", arXiv:2001.08357, 2020; reweighting after Candès, Wakin and Boyd,
        J. Fourier Anal. Appl. 14, 2008. Their groups are columns or rows of a strip; here any
        block, edge blocks included. Their λ differs by layer; one serves all here.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[Tensor, BlockGrid]],
        *,
        strength: float,
        epsilon: float,
    ) -> None:
        self._weights = dict(weights)
        self._strength = strength
        self._epsilon = epsilon
        self._coefficients: dict[str, Tensor] = {}
        self.reweight()

    def __call__(self) -> Tensor:
        """The penalty of the weights as they are: a scalar."""
        sums = [(self._coefficients[name] * norms).sum() for name, norms in self._norms()]
        return self._strength * torch.stack(sums).sum() if sums else torch.zeros(())

    @torch.no_grad()
    def reweight(self) -> None:
        """Compute the coefficients from the weights as they are."""
        self._coefficients = {n: 1.0 / (norms + self._epsilon) for n, norms in self._norms()}

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """The coefficient of every block, shape of the grid, by layer."""
        return dict(self._coefficients)

    @coefficients.setter
    def coefficients(self, values: Mapping[str, Tensor]) -> None:
        self._coefficients = {
            name: values[name].to(weight.device) for name, (weight, _) in self._weights.items()
        }

    def _norms(self) -> list[tuple[str, Tensor]]:
        return [(n, block_norms(w.flatten(1), grid)) for n, (w, grid) in self._weights.items()]


@torch.no_grad()
def vanished_share(
    weights: Mapping[str, tuple[Tensor, BlockGrid]], *, below: float = 0.01
) -> float:
    """Fraction of all blocks whose norm is under ``below`` times the RMS norm of their layer's.

    A block of zeros always counts; 0.0 without layers.
    """
    vanished = total = 0
    for weight, grid in weights.values():
        norms = block_norms(weight.flatten(1), grid)
        scale = norms.square().mean().sqrt()
        vanished += int(((norms < below * scale) | (norms == 0)).sum())
        total += grid.size
    return vanished / total if total else 0.0
