"""One layer in one block shape, pruned to several sparsities, by the criterion a user names.

``obs`` removes blocks in rounds by the exact rise of the output error, ``gradual`` in the same
rounds by the energy that blocks have after each re-solve (both :func:`gradual`). Every other name
is a criterion of the catalogue: blocks are ranked once, on the dense weights. Either way the blocks
that stay are re-solved by least squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pruneaug_cli.core import BlockGrid, BlockMask, FloatMatrix, keep_best
from pruneaug_cli.criteria.catalogue import CRITERIA
from pruneaug_cli.criteria.evidence import LayerEvidence
from pruneaug_cli.criteria.harm import output_error
from pruneaug_cli.criteria.reconstruct import (
    Reconstruction,
    ReconstructionSettings,
    gradual,
    least_squares,
)
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.registry import nearest

OBS = "obs"
GRADUAL = "gradual"
_SALIENCY: dict[str, Literal["rise", "energy"]] = {OBS: "rise", GRADUAL: "energy"}


@dataclass(frozen=True, slots=True)
class PruningMethod:
    """Which blocks go, and how the others are re-solved.

    Attributes:
        criterion: ``obs``, ``gradual`` or a name in ``CRITERIA``.
        reconstruction: settings of the least squares.
    """

    criterion: str = OBS
    reconstruction: ReconstructionSettings = ReconstructionSettings()  # noqa: RUF009 - frozen


def require_criterion(name: str) -> None:
    """Refuse a criterion that does not exist.

    Raises:
        UnsupportedError: the nearest name is the hint.
    """
    known = [*_SALIENCY, *CRITERIA]
    if name not in known:
        raise UnsupportedError(f"unknown criterion {name!r}", hint=nearest(name, known))


def prune_path(
    weight: FloatMatrix,
    evidence: LayerEvidence,
    grid: BlockGrid,
    sparsities: Sequence[float],
    method: PruningMethod | None = None,
) -> list[Reconstruction]:
    """Prune a layer to every sparsity asked for.

    Args:
        weight: the dense weights, shape (M, K).
        evidence: second moments of the layer's inputs; gradients where the criterion needs them.
        grid: the blocks.
        sparsities: fractions of blocks to remove, rising.
        method: see :class:`PruningMethod`.

    Returns:
        One reconstruction per sparsity: exactly ``floor(sparsity * grid.size)`` blocks removed,
        each mask inside the one before.

    Raises:
        ValueError: shapes do not fit, or the criterion lacks its evidence.
        UnsupportedError: there is no such criterion.
    """
    method = method or PruningMethod()
    require_criterion(method.criterion)
    if method.criterion in _SALIENCY:
        settings = replace(method.reconstruction, saliency=_SALIENCY[method.criterion])
        return gradual(weight, evidence, grid, sparsities, settings)
    scores = CRITERIA.create(method.criterion).scores(weight, grid, evidence)
    moment = evidence.second_moment
    found = []
    for sparsity in sparsities:
        mask = BlockMask(grid, keep_best(scores, sparsity))
        kept = least_squares(weight, moment, mask, ridge=method.reconstruction.ridge)
        kept = kept if sparsity > 0.0 else np.asarray(weight, dtype=kept.dtype)
        found.append(Reconstruction(mask, kept, output_error(weight, kept, moment)))
    return found
