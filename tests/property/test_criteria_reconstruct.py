"""Laws of least-squares reconstruction, for layers nobody chose."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape
from pruneaug_cli.criteria import LayerEvidence, gradual, least_squares

RIDGE = 1e-2


@st.composite
def layers(draw):
    rows, cols = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    block = BlockShape(draw(st.integers(1, 10)), draw(st.integers(1, 13)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((draw(st.integers(1, 30)), cols))
    grid = BlockGrid(MatrixShape(rows, cols), block)
    return rng.standard_normal((rows, cols)), x.T @ x / len(x), grid, rng


@st.composite
def masked_layers(draw):
    weight, moment, grid, rng = draw(layers())
    kept = rng.random(grid.shape) < draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    return weight, moment, BlockMask(grid, kept)


def ridged(moment):
    return moment + np.eye(len(moment)) * RIDGE * np.diagonal(moment).mean()


@given(masked_layers())
@settings(max_examples=60)
def test_the_error_that_is_left_is_orthogonal_to_every_kept_input(case):
    weight, moment, mask = case
    found = least_squares(weight, moment, mask, ridge=RIDGE)
    gradient = (found - weight) @ ridged(moment)
    scale = np.abs(weight).max() * np.abs(moment).max() * len(moment)
    # backward error of a Cholesky solve: n eps |A||x| (Higham, theorem 10.4), x up to 1/ridge
    bound = len(moment) ** 2 / RIDGE * np.finfo(np.float64).eps * scale + 1e-12
    assert np.abs(gradient[mask.elements()]).max(initial=0.0) <= bound
    assert not found[~mask.elements()].any()


@given(masked_layers())
@settings(max_examples=60)
def test_equals_least_squares_row_by_row(case):
    weight, moment, mask = case
    found = least_squares(weight, moment, mask, ridge=RIDGE)
    root = np.linalg.cholesky(ridged(moment)).T
    for row, kept in enumerate(mask.elements()):
        expected = np.zeros(len(kept))
        expected[kept] = np.linalg.lstsq(root[:, kept], root @ weight[row], rcond=None)[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-8)


@given(layers())
@settings(max_examples=60)
def test_removing_more_never_harms_less(case):
    """Masks are nested, so the ridged error rises; the plain one by more than the ridge hides."""
    weight, moment, grid, _ = case
    found = gradual(weight, LayerEvidence(moment, 1), grid, [0.0, 0.3, 0.6, 0.9])
    full = ridged(moment)
    errors = [np.trace((one.weight - weight) @ full @ (one.weight - weight).T) for one in found]
    slack = 1e-9 * np.trace(weight @ full @ weight.T)
    assert all(a <= b + slack for a, b in itertools.pairwise(errors))
