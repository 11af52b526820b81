"""How much memory the building of a layer database may take, and what a piece of it needs."""

import os
from pathlib import Path

from pruneaug_cli.core import BlockGrid

_SHARE = 0.5
_COPIES_OF_MOMENT = 10
_COPIES_OF_WEIGHT = 12
_MEMORY = Path("/proc/meminfo")


def reconstruction_bytes(grid: BlockGrid, sparsities: int) -> int:
    """Most bytes that reconstructing one layer in one block shape holds at a time.

    Second moments in float32, their inverse, the factor of it in float64, and what is cut out of
    them for one block row: 10 x 4 x K². Weights, saliencies and what is kept of every sparsity:
    (12 + sparsities) x 4 x M x K. Measured: 8 and less of the first (a test holds it to this).

    Args:
        grid: the blocks of the layer; its matrix is (M, K).
        sparsities: how many are asked for.
    """
    rows, cols = grid.matrix.rows, grid.matrix.cols
    weights = _COPIES_OF_WEIGHT + sparsities
    return 4 * cols * (_COPIES_OF_MOMENT * cols + weights * rows)


def spare_bytes(meminfo: Path = _MEMORY) -> int:
    """Half of the memory that is free now: what building a database may use.

    Where the system does not say what is free (no ``/proc/meminfo``): half of what there is.
    """
    try:
        lines = meminfo.read_text("utf-8").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        free = int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_SHARE * free)
