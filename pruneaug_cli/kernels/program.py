"""A region: the connected part of a network that runs as one node, written as data.

The program says *what* is computed, never how: layouts, buffers, tiles and loop order are the
back end's business, so one file serves every instruction set. The authority for the integer
encoding is :mod:`pruneaug_cli.kernels.encoding`; its C readers are
``native/src/program.c`` and ``instruction.c``.

Conventions:
    A region runs on S *samples*. A value is ``Planes(C, H, W)``: per sample C planes of H x W
    (an ONNX tensor (S, C, H, W)), or ``Rows(F)``: one row of F features per sample (an ONNX
    tensor (..., F), S the product of the leading sizes).
    Values are numbered: first the inputs, then the result of each instruction, in order. An
    instruction reads only values with smaller numbers (static single assignment).
    All numbers are float32.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pruneaug_cli.core import BlockMask, BsrMatrix, MatrixShape
from pruneaug_cli.kernels.activation import NONE, Activation

Floats = npt.NDArray[np.float32]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right: the order of ONNX ``pads``."""


@dataclass(frozen=True, slots=True)
class Planes:
    """Per sample, ``channels`` planes of ``height`` x ``width``."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width} planes"


@dataclass(frozen=True, slots=True)
class Rows:
    """Per sample, one row of ``features``."""

    features: int

    def __str__(self) -> str:
        return f"rows of {self.features}"


ValueShape = Planes | Rows


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A weight matrix (M, K) of a region: block-sparse, or dense when it has no mask.

    Attributes:
        name: the layer it came from; for people, not for the kernels.
        matrix: what is multiplied; a dense weight is a ``Floats`` matrix (M, K).
    """

    name: str
    matrix: BsrMatrix | Floats

    @property
    def shape(self) -> MatrixShape:
        """Rows and columns."""
        if isinstance(self.matrix, BsrMatrix):
            return self.matrix.grid.matrix
        return MatrixShape(*self.matrix.shape)

    @property
    def mask(self) -> BlockMask | None:
        """Which blocks are kept; None when the weight is dense."""
        return self.matrix.mask if isinstance(self.matrix, BsrMatrix) else None

    def dense(self) -> Floats:
        """The matrix (M, K) with its zeros."""
        return self.matrix.unpack() if isinstance(self.matrix, BsrMatrix) else self.matrix


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What happens to a product before it is stored: ``act(product + bias + residual)``.

    ``bias`` indexes ``RegionProgram.biases``; ``residual`` is the number of a value of the same
    shape as the result.
    """

    bias: int | None = None
    residual: int | None = None
    activation: Activation = NONE


@dataclass(frozen=True, slots=True)
class Conv:
    """2-D convolution; the weight's columns are (Cin / groups, kh, kw), kw fastest.

    Group g makes its M / groups outputs from its Cin / groups channels alone, as in ONNX; with
    one channel and one output per group the convolution is depthwise.
    """

    source: int
    weight: int
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    epilogue: Epilogue = field(default_factory=Epilogue)
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Linear:
    """Rows times the transposed weight: (S, K) to (S, M)."""

    source: int
    weight: int
    epilogue: Epilogue = field(default_factory=Epilogue)


@dataclass(frozen=True, slots=True)
class Add:
    """``act(left + right)`` of two values of one shape (a sum no product could take in)."""

    left: int
    right: int
    activation: Activation = NONE


@dataclass(frozen=True, slots=True)
class Activate:
    """An activation alone."""

    source: int
    activation: Activation


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over windows; padding counts as minus infinity."""

    source: int
    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class AveragePool:
    """Mean over windows; ``count_include_pad`` as in ONNX."""

    source: int
    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)
    count_include_pad: bool = False


@dataclass(frozen=True, slots=True)
class GlobalAveragePool:
    """Mean of every plane: ``Planes(C, H, W)`` to ``Rows(C)``."""

    source: int


@dataclass(frozen=True, slots=True)
class Flatten:
    """``Planes(C, H, W)`` to ``Rows(C * H * W)``, channel slowest."""

    source: int


@dataclass(frozen=True, slots=True)
class Subsample:
    """Every ``stride``-th row and column, between ``before`` and ``after`` channels of zeros.

    The parameter-free shortcut ("option A") of CIFAR ResNets. The first row and column stay.
    """

    source: int
    stride: Pair
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Concat:
    """The channels of two or more values behind each other; of rows: their features."""

    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Each row less its mean, over its deviation: ``(x - mean) / sqrt(var + eps) * scale + bias``.

    ``scale`` and ``bias`` index ``RegionProgram.biases``; the variance is that of all features.
    """

    source: int
    scale: int
    bias: int | None = None
    epsilon: float = 1e-5


Instruction = (
    Conv
    | Linear
    | Add
    | Activate
    | MaxPool
    | AveragePool
    | GlobalAveragePool
    | Flatten
    | Subsample
    | Concat
    | LayerNorm
)


@dataclass(frozen=True, slots=True, eq=False)
class RegionProgram:
    """Everything a region computes.

    Attributes:
        inputs: shapes of values 0 .. len(inputs) - 1, planes and rows in any order.
        instructions: each makes the next value.
        outputs: numbers of the values that leave the region.
        weights, biases: what the instructions refer to; a bias is a vector of M floats, and so is
            the scale of a normalisation.
    """

    inputs: tuple[ValueShape, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]
    weights: tuple[Weight, ...]
    biases: tuple[Floats, ...]
