"""The contract of a criterion, and the normalisation all of them share."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, FloatMatrix
from pruneaug_cli.criteria.evidence import LayerEvidence


class Criterion(Protocol):
    """Scores blocks: higher means more worth keeping.

    A criterion is a pure function of the weight and of evidence. Scores must be finite and
    non-negative, and scaling the weight by a positive constant must not change their order.
    They are root mean squares over the real weights under a block, so that scores of grids of
    different block shapes can be compared. ``tests/conformance/test_criteria.py`` checks this for
    every registered criterion. Nothing is promised between different layers.
    """

    def scores(
        self, weight: FloatMatrix, grid: BlockGrid, evidence: LayerEvidence
    ) -> npt.NDArray[np.float64]:
        """Return one score per block, shape ``grid.shape``, for ``weight`` of shape (M, K).

        Raises:
            ValueError: weight, grid and evidence do not belong together.
            UnsupportedError: the evidence lacks what this criterion needs.
        """
        ...


def root_mean_square(energy: FloatMatrix, grid: BlockGrid) -> npt.NDArray[np.float64]:
    r"""Root of the mean energy of a block's weights.

    .. math:: s_{ij} = \sqrt{\frac{1}{|B_{ij}|} \sum_{(a,b) \in B_{ij}} e_{ab}}

    |B| counts the weights that exist: the overhang of an edge block is not divided by, so a block
    scores the same at the edge as inside (PAT, Niu et al., ASPLOS 2020, normalises its pattern
    scores alike).

    Args:
        energy: non-negative energy of every weight, shape (M, K).
        grid: the blocks.
    """
    return np.sqrt(grid.block_sums(energy) / grid.weights_per_block())
