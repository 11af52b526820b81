"""Size of the weights: needs no data."""

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, FloatMatrix
from pruneaug_cli.criteria.criterion import root_mean_square
from pruneaug_cli.criteria.evidence import LayerEvidence


class Magnitude:
    r"""Root mean square of the weights of a block; looks at no evidence.

    .. math:: s_{ij} = \sqrt{\frac{1}{|B_{ij}|} \sum_{(a,b) \in B_{ij}} w_{ab}^2}

    References:
        Narang, Undersander and Diamos, "Block-Sparse Recurrent Neural Networks",
        arXiv:1711.02782, 2017. Theirs is the largest weight of a block; the mean square here
        follows group lasso.
    """

    def scores(
        self, weight: FloatMatrix, grid: BlockGrid, evidence: LayerEvidence
    ) -> npt.NDArray[np.float64]:
        """See :class:`~pruneaug_cli.criteria.criterion.Criterion`."""
        del evidence
        return root_mean_square(np.square(weight, dtype=np.float64), grid)
