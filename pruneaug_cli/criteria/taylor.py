"""Expected change of the loss when a weight goes: needs gradients."""

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockGrid, FloatMatrix
from pruneaug_cli.criteria.criterion import root_mean_square
from pruneaug_cli.criteria.evidence import LayerEvidence
from pruneaug_cli.errors import UnsupportedError


class Taylor:
    r"""Root mean square over a block of gradient times weight.

    .. math:: s_{ij} = \sqrt{\frac{1}{|B_{ij}|}
              \sum_{(a,b) \in B_{ij}} \mathrm{E}\!\left[g_{ab}^2\right] w_{ab}^2}

    References:
        Molchanov, Mallya, Tyree, Frosio and Kautz, "Importance Estimation for Neural Network
        Pruning", CVPR 2019, equation 8: the squared first-order term. Theirs sums gradient times
        weight over a filter before squaring; here the square is taken per weight, so one table of
        evidence serves every block shape.
    """

    def scores(
        self, weight: FloatMatrix, grid: BlockGrid, evidence: LayerEvidence
    ) -> npt.NDArray[np.float64]:
        """See :class:`~pruneaug_cli.criteria.criterion.Criterion`."""
        evidence.require(grid.matrix)
        if evidence.gradient_second_moment is None:
            raise UnsupportedError(
                "criterion 'taylor' needs gradients, and the evidence has none",
                hint="the task needs train_batches and loss; or choose another criterion",
            )
        energy = np.square(weight, dtype=np.float64) * evidence.gradient_second_moment
        return root_mean_square(energy, grid)
