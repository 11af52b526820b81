"""Memory that building a database is allowed, and what a path really takes."""

import tracemalloc

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockShape, MatrixShape
from pruneaug_cli.criteria import LayerEvidence, prune_path
from pruneaug_cli.evaluation.path_memory import reconstruction_bytes, spare_bytes

SPARSITIES = (0.25, 0.5, 0.75, 0.9)


@pytest.mark.parametrize(
    ("rows", "cols", "block"),
    [(32, 900, "8x1"), (256, 400, "8x1"), (700, 64, "4x1"), (64, 500, "1x1"), (64, 512, "16x16")],
)
def test_a_path_takes_no_more_than_is_reckoned(rows, cols, block):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, cols), dtype=np.float32)
    weight, moment = rng.standard_normal((rows, cols), dtype=np.float32), x.T @ x / np.float32(300)
    grid = BlockGrid(MatrixShape(rows, cols), BlockShape.parse(block))
    prune_path(weight, LayerEvidence(moment, 300), grid, [0.5])  # what is loaded once
    tracemalloc.start()
    try:
        prune_path(weight, LayerEvidence(moment, 300), grid, SPARSITIES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak + weight.nbytes + moment.nbytes <= reconstruction_bytes(grid, len(SPARSITIES))


def test_half_of_what_is_free_may_be_used(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:  600 kB\n", "utf-8")
    assert spare_bytes(meminfo) == 300 * 1024
    assert spare_bytes(tmp_path / "missing") > 0
