r"""How much pruned weights hurt: error of the layer's output, and expected rise of the loss.

With :math:`\Delta = \hat W - W`, H the second moment of the layer's inputs and G the curvature at
its outputs,

.. math:: \mathrm{output} = \frac{\mathrm{tr}\,\Delta H \Delta^T}{\mathrm{tr}\, W H W^T}
          \qquad\qquad
          \mathrm{loss} = \mathrm{tr}\, G \Delta H \Delta^T .

The first is a share of the layer's own output and knows nothing of what follows it. The second is
in the unit of the loss, so that harms of different layers can be added: half the quadratic form of
the Fisher information in the weights' change, with inputs and gradients taken as independent of
each other and from position to position.

References:
    Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature",
    ICML 2015; Grosse and Martens, "A Kronecker-factored Approximate Fisher Matrix for Convolution
    Layers", ICML 2016, for sums over positions. Theirs draws labels from the model; here gradients
    are those of the task's own loss (the empirical Fisher), which any loss has.
"""

from typing import Literal

import numpy as np

from pruneaug_cli.criteria.evidence import Floats

HarmMeasure = Literal["output", "loss"]


def output_error(weight: Floats, pruned: Floats, second_moment: Floats) -> float:
    """Share of the layer's mean squared output that ``pruned`` gets wrong; see the module.

    Args:
        weight: the dense weights, shape (M, K).
        pruned: the pruned weights, shape (M, K).
        second_moment: H, shape (K, K).

    Returns:
        0 for equal weights; 1 when everything is removed. 0 for a layer whose output is always
        zero.
    """
    total = output_power(weight, second_moment)
    return output_power(pruned - weight, second_moment) / total if total > 0.0 else 0.0


def output_power(weight: Floats, second_moment: Floats) -> float:
    """Mean squared output of a layer, summed over its rows: tr W H Wᵀ."""
    product = np.sum((weight @ second_moment) * weight, dtype=np.float64)
    return max(0.0, float(product))


def loss_rise(weight: Floats, pruned: Floats, second_moment: Floats, curvature: Floats) -> float:
    """Expected rise of a sample's loss, in the loss's unit; see the module.

    Args:
        weight: the dense weights, shape (M, K).
        pruned: the pruned weights, shape (M, K).
        second_moment: H, shape (K, K).
        curvature: G, shape (M, M).
    """
    change = pruned - weight
    product = np.sum((change @ second_moment) * (curvature @ change), dtype=np.float64)
    return max(0.0, float(product))
