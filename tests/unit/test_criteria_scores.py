"""Criteria and evidence: values from their formulas, and refusals."""

import numpy as np
import pytest

from pruneaug_cli.core import BlockGrid, BlockShape, MatrixShape
from pruneaug_cli.criteria import CRITERIA, LayerEvidence
from pruneaug_cli.errors import UnsupportedError

GRID = BlockGrid(MatrixShape(2, 2), BlockShape(2, 1))
WEIGHT = np.array([[3.0, 1.0], [4.0, 0.0]])
EYE = np.diag([4.0, 9.0])


def test_magnitude_is_the_root_mean_square():
    scores = CRITERIA.create("magnitude").scores(WEIGHT, GRID, LayerEvidence(EYE, 1))
    np.testing.assert_allclose(scores, [[np.sqrt(12.5), np.sqrt(0.5)]])


def test_hessian_diagonal_weighs_columns_by_the_size_of_their_inputs():
    scores = CRITERIA.create("hessian-diagonal").scores(WEIGHT, GRID, LayerEvidence(EYE, 1))
    np.testing.assert_allclose(scores, [[np.sqrt(4 * 12.5), np.sqrt(9 * 0.5)]])


def test_taylor_is_gradient_times_weight():
    gradient = np.array([[0.0, 1.0], [1.0, 0.0]])
    scores = CRITERIA.create("taylor").scores(WEIGHT, GRID, LayerEvidence(EYE, 1, gradient))
    np.testing.assert_allclose(scores, [[np.sqrt(8.0), np.sqrt(0.5)]])


def test_taylor_without_gradients_is_refused():
    with pytest.raises(UnsupportedError, match="criterion 'taylor' needs gradients") as refusal:
        CRITERIA.create("taylor").scores(WEIGHT, GRID, LayerEvidence(EYE, 1))
    assert "loss" in (refusal.value.hint or "")


def test_an_unknown_criterion_names_the_nearest():
    with pytest.raises(UnsupportedError, match="unknown criterion 'magnitud'") as refusal:
        CRITERIA.create("magnitud")
    assert refusal.value.hint == "did you mean 'magnitude'?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), 1), r"expected a square second moment, got shape \(2, 3\)"),
        ((np.eye(2), 0), "at least one sample, got 0"),
        ((np.eye(2), 1, np.ones((4, 3))), r"expected gradients of 2 columns, got \(4, 3\)"),
    ],
    ids=["square", "samples", "gradient"],
)
def test_malformed_evidence_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LayerEvidence(*arguments)


def test_evidence_of_another_layer_is_refused():
    with pytest.raises(ValueError, match="evidence of 2 columns does not fit a 2x3 matrix"):
        LayerEvidence(np.eye(2), 1).require(MatrixShape(2, 3))
    with pytest.raises(ValueError, match="gradients of 4 rows do not fit a 2x2 matrix"):
        LayerEvidence(np.eye(2), 1, np.ones((4, 2))).require(MatrixShape(2, 2))


def test_the_digest_covers_everything():
    plain = LayerEvidence(np.eye(2), 1)
    others = [
        LayerEvidence(np.eye(2) * 2, 1),
        LayerEvidence(np.eye(2), 2),
        LayerEvidence(np.eye(2), 1, np.ones((1, 2))),
    ]
    assert len({evidence.digest() for evidence in [plain, *others]}) == 4
    assert plain.digest() == LayerEvidence(np.eye(2), 1).digest()
