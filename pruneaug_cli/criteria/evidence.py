"""What was observed of one layer on calibration data: the input of every criterion."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import MatrixShape
from pruneaug_cli.files import digest_array, digest_text

Floats = npt.NDArray[np.floating[Any]]
"""A real matrix in float32 or float64."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerEvidence:
    """Second moments of a layer with a (M, K) weight matrix.

    Attributes:
        second_moment: H = Xᵀ X / n, shape (K, K), where the n rows of X are inputs of the product
            (for a convolution: image patches in the order of ``torch.nn.Unfold``). float32 is
            enough for reconstruction and half the memory; float64 makes it exact in tests.
        samples: n, how many input rows were seen.
        gradient_second_moment: mean of the squared gradient of the loss by each weight, shape
            (M, K), when a loss was available.
        output_curvature: G, shape (M, M), when a loss was available: half the mean over samples of
            g gᵀ summed over the layer's output positions, g the gradient of a sample's loss by the
            outputs at one position (:func:`pruneaug_cli.criteria.harm.loss_rise`).
    """

    second_moment: Floats
    samples: int
    gradient_second_moment: Floats | None = None
    output_curvature: Floats | None = None

    def __post_init__(self) -> None:
        shape = self.second_moment.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"expected a square second moment, got shape {shape}")
        if self.samples < 1:
            raise ValueError(f"evidence needs at least one sample, got {self.samples}")
        gradient = self.gradient_second_moment
        if gradient is not None and (gradient.ndim != 2 or gradient.shape[1] != shape[0]):
            raise ValueError(f"expected gradients of {shape[0]} columns, got {gradient.shape}")
        curvature = self.output_curvature
        if curvature is not None and curvature.shape != (len(curvature),) * 2:
            raise ValueError(f"expected a square output curvature, got shape {curvature.shape}")

    def require(self, matrix: MatrixShape) -> None:
        """Check that this is evidence of a layer with such a matrix.

        Raises:
            ValueError: the columns (or the rows of the gradients) differ.
        """
        if self.second_moment.shape[0] != matrix.cols:
            found = self.second_moment.shape[0]
            raise ValueError(f"evidence of {found} columns does not fit a {matrix} matrix")
        gradient = self.gradient_second_moment
        if gradient is not None and gradient.shape[0] != matrix.rows:
            raise ValueError(f"gradients of {gradient.shape[0]} rows do not fit a {matrix} matrix")
        curvature = self.output_curvature
        if curvature is not None and len(curvature) != matrix.rows:
            raise ValueError(
                f"curvature of {len(curvature)} outputs does not fit a {matrix} matrix"
            )

    @property
    def mean_square(self) -> Floats:
        """Mean square of every input column: diag(H), shape (K,)."""
        return np.diagonal(self.second_moment)

    def load(self) -> Self:
        """Itself: it is in memory already (see :class:`EvidenceSource`)."""
        return self

    def digest(self) -> str:
        """SHA-256 of all that can decide a reconstruction: not of the output curvature."""
        gradient = self.gradient_second_moment
        return digest_text(
            digest_array(self.second_moment),
            str(self.samples),
            "" if gradient is None else digest_array(gradient),
        )

    def curvature_digest(self) -> str | None:
        """SHA-256 of the output curvature; None without one."""
        return None if self.output_curvature is None else digest_array(self.output_curvature)


class EvidenceSource(Protocol):
    """Where evidence of one layer comes from: memory, or a file that is read when it is needed."""

    def load(self) -> LayerEvidence:
        """The evidence."""
        ...
