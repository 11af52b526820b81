"""Every registered criterion keeps the promises of the contract."""

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockShape, MatrixShape
from pruneaug_cli.criteria import CRITERIA, LayerEvidence

BLOCKS = [BlockShape(1, 1), BlockShape(4, 1), BlockShape(3, 4), BlockShape(8, 1), BlockShape(7, 10)]


@pytest.fixture
def weight():
    return np.random.default_rng(0).standard_normal((7, 10)).astype(np.float32)


@pytest.fixture
def evidence():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, 10))
    gradient = rng.random((7, 10)).astype(np.float32)
    return LayerEvidence((x.T @ x / 50).astype(np.float32), 50, gradient)


@pytest.mark.parametrize("name", list(CRITERIA))
@pytest.mark.parametrize("block", BLOCKS, ids=str)
class TestCriterion:
    def test_gives_one_finite_non_negative_score_per_block(self, name, block, weight, evidence):
        grid = BlockGrid(MatrixShape(7, 10), block)
        scores = CRITERIA.create(name).scores(weight, grid, evidence)
        assert scores.shape == grid.shape
        assert np.isfinite(scores).all()
        assert (scores >= 0.0).all()

    def test_scaling_the_weight_keeps_the_order(self, name, block, weight, evidence):
        grid = BlockGrid(MatrixShape(7, 10), block)
        criterion = CRITERIA.create(name)
        small = criterion.scores(weight, grid, evidence)
        large = criterion.scores(weight * np.float32(256), grid, evidence)
        np.testing.assert_array_equal(np.argsort(small, axis=None), np.argsort(large, axis=None))

    def test_zero_weights_score_zero(self, name, block, weight, evidence):
        grid = BlockGrid(MatrixShape(7, 10), block)
        assert not CRITERIA.create(name).scores(np.zeros_like(weight), grid, evidence).any()

    def test_leaves_its_arguments_alone(self, name, block, weight, evidence):
        before, digest = weight.copy(), evidence.digest()
        CRITERIA.create(name).scores(weight, BlockGrid(MatrixShape(7, 10), block), evidence)
        np.testing.assert_array_equal(weight, before)
        assert evidence.digest() == digest

    def test_equal_weights_score_equally_at_the_edge_and_inside(self, name, block, evidence):
        flat = LayerEvidence(np.eye(10, dtype=np.float32), 1, np.ones((7, 10), np.float32))
        grid = BlockGrid(MatrixShape(7, 10), block)
        scores = CRITERIA.create(name).scores(np.full((7, 10), -2.0), grid, flat)
        np.testing.assert_allclose(scores, 2.0, rtol=1e-12)
