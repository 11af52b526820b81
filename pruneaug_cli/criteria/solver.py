r"""Least squares with removed columns: the linear algebra under reconstruction.

With H = XᵀX / n + ridge and rows of weights W that share a set S of kept columns (R: the others),
the weights on S that change the layer's output least are, in two equal forms,

.. math:: \hat W_S = W H_{:,S} H_{SS}^{-1}
          \qquad\text{and}\qquad
          \hat W = W - W_R (P_{RR})^{-1} P_{R,:}, \quad P = H^{-1}

The first costs |S|³/3 operations for its Cholesky factor, the second |R|³/3: the smaller is taken.
Everything is computed in the precision of the given matrices; float32 loses nothing that matters
once the ridge bounds the condition number (at most K / ridge, 2e5 for K = 2304 and ridge 0.01).

References:
    Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS
    1992; Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022 (blocks of weights, the
    inverse on what is kept).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import get_lapack_funcs

from pruneaug_cli.criteria.evidence import Floats

Indices = npt.NDArray[np.intp]
_STRIP = 512


class MaskedLeastSquares:
    """Solves for rows of one weight matrix, given their kept columns.

    Args:
        weight: the dense weights W, shape (M, K).
        second_moment: XᵀX / n, shape (K, K), symmetric; its precision is the one computed in.
        ridge: added to the diagonal, as a fraction of the diagonal's mean.

    Raises:
        ValueError: the second moment is not positive semi-definite (or the ridge is too small for
            its rounding errors).
    """

    def __init__(self, weight: Floats, second_moment: Floats, ridge: float) -> None:
        dtype = second_moment.dtype
        routines = ("potrf", "potrs", "trtri")
        self._lapack = dict(zip(routines, get_lapack_funcs(routines, dtype=dtype), strict=True))
        self.weight = np.asarray(weight, dtype=dtype)
        self.moment = second_moment.copy()
        self.moment[np.diag_indices_from(self.moment)] += _ridge(second_moment, ridge)
        self._product = self.weight @ self.moment
        self._inverse: Floats | None = None

    @property
    def inverse(self) -> Floats:
        """P = H⁻¹, shape (K, K); computed once, in float64, when first asked for."""
        if self._inverse is None:
            potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=np.float64)
            factor, info = potrf(self.moment.astype(np.float64).T, lower=1, overwrite_a=1, clean=0)
            _check(info)
            lower, info = potri(factor, lower=1, overwrite_c=1)
            _check(info)
            self._inverse = _mirrored(lower, self.moment.dtype)
        return self._inverse

    def solve(self, rows: slice, kept: Indices, removed: Indices) -> Floats:
        """Best weights of ``rows`` on the kept columns, shape (rows, len(kept)).

        Args:
            rows: consecutive rows of the weight matrix.
            kept: ascending indices of the kept columns.
            removed: ascending indices of the other columns.
        """
        if len(kept) == 0 or len(removed) == 0:
            return self.weight[rows][:, kept]
        if len(kept) <= len(removed):
            return self._solve_kept(self._factor(self.moment, kept), rows, kept)
        # one product with all of P reads less memory than cutting P[R, S] out for every row
        spread = self.spread(rows, removed)
        result: Floats = (self.weight[rows] - spread @ self.inverse)[:, kept]
        return result

    def spread(self, rows: slice, removed: Indices) -> Floats:
        """W_R (P_RR)⁻¹, zero in the other columns, shape (rows, K): times P it is what changes."""
        factor = self._factor(self.inverse, removed)
        push, info = self._lapack["potrs"](factor, self.weight[rows][:, removed].T, lower=1)
        _check(info)
        result = np.zeros_like(self.weight[rows])
        result[:, removed] = push.T
        return result

    def solve_with_inverse(self, rows: slice, kept: Indices, width: int) -> tuple[Floats, Floats]:
        """Best weights as :meth:`solve` gives them, and the diagonal blocks of (H_SS)⁻¹.

        Args:
            rows: consecutive rows of the weight matrix.
            kept: ascending indices of the kept columns, in whole blocks of ``width``.
            width: columns of a block.

        Returns:
            Weights (rows, len(kept)) and blocks (len(kept) / width, width, width).
        """
        factor = self._factor(self.moment, kept)
        weights = self._solve_kept(factor, rows, kept)
        root, info = self._lapack["trtri"](factor, lower=1, overwrite_c=1)
        _check(info)
        return weights, gram_blocks(np.tril(root), width)

    def _solve_kept(self, factor: Floats, rows: slice, kept: Indices) -> Floats:
        solution, info = self._lapack["potrs"](factor, self._product[rows][:, kept].T, lower=1)
        _check(info)
        result: Floats = solution.T
        return result

    def _factor(self, matrix: Floats, index: Indices) -> Floats:
        # the transpose of a symmetric matrix in C order is itself in LAPACK's order: no copy
        part = matrix.take(index, axis=0).take(index, axis=1).T
        factor, info = self._lapack["potrf"](part, lower=1, overwrite_a=1, clean=0)
        _check(info)
        result: Floats = factor
        return result


def gram_blocks(root: Floats, width: int) -> Floats:
    """Diagonal blocks of rootᵀ root: ``root`` (n, b·width) gives (b, width, width)."""
    tiles = root.reshape(root.shape[0], -1, width)
    blocks: Floats = np.einsum("nbi,nbj->bij", tiles, tiles)
    return blocks


def diagonal_blocks(matrix: Floats, width: int) -> Floats:
    """Diagonal blocks of a square matrix (b·width, b·width), shape (b, width, width)."""
    count = matrix.shape[0] // width
    index = np.arange(count)
    return matrix.reshape(count, width, count, width)[index, :, index, :]


def _ridge(second_moment: Floats, ridge: float) -> float:
    mean = float(np.diagonal(second_moment).mean(dtype=np.float64))
    # a layer that saw only zeros has no scale of its own: any ridge keeps its weights
    return ridge * mean if mean > 0.0 else 1.0


def _mirrored(lower: Floats, dtype: np.dtype[Any]) -> Floats:
    """The symmetric matrix of a lower triangle, in C order; by strips, so little is held twice."""
    full = np.empty(lower.shape, dtype=dtype)
    for start in range(0, len(lower), _STRIP):
        stop = start + _STRIP
        square = np.tril(lower[start:stop, start:stop])
        full[start:stop, start:stop] = square + np.tril(square, -1).T
        full[stop:, start:stop] = lower[stop:, start:stop]
        full[start:stop, stop:] = full[stop:, start:stop].T
    return full


def _check(info: int) -> None:
    if info:
        raise ValueError(
            "the second moment of the inputs is not positive definite after the ridge; "
            "raise 'ridge'"
        )
