"""Change of the layer's output when a weight goes: needs the inputs' second moments."""

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, FloatMatrix
from pruneaug_cli.criteria.criterion import root_mean_square
from pruneaug_cli.criteria.evidence import LayerEvidence


class HessianDiagonal:
    r"""Root mean square over a block of a weight times the size of its input.

    .. math:: s_{ij} = \sqrt{\frac{1}{|B_{ij}|} \sum_{(a,b) \in B_{ij}} H_{bb} w_{ab}^2}

    The Hessian of the layer's squared output error is H for every row of weights.

    References:
        LeCun, Denker and Solla, "Optimal Brain Damage", NIPS 1989, with the Hessian of the
        layer's output error in place of the loss's. For one weight alone it is the score of Sun
        et al., "Wanda", ICLR 2024.
    """

    def scores(
        self, weight: FloatMatrix, grid: BlockGrid, evidence: LayerEvidence
    ) -> npt.NDArray[np.float64]:
        """See :class:`~pruneaug_cli.criteria.criterion.Criterion`."""
        evidence.require(grid.matrix)
        energy = np.square(weight, dtype=np.float64) * evidence.mean_square
        return root_mean_square(energy, grid)
