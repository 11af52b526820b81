"""The geometry of a layer: everything that decides its cost, and nothing else.

Written as one line, the same in profiles, benchmark files and messages::

    linear M K N                                  N = rows of input (tokens x batch)
    conv Cout Cin kh kw H W stride pad [batch] [dilation=D]

``stride``, ``pad`` and ``dilation`` are one number, or two as ``2x1`` (vertical x horizontal).
Padding is symmetric. Two layers with equal geometry share their measurements.
"""

from dataclasses import dataclass
from typing import Literal

from pruneaug_cli.core.shapes import MatrixShape

Op = Literal["conv", "linear"]
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, order=True)
class LinearGeometry:
    """A product of a (M, K) weight with N rows of K inputs.

    Example:
        >>> str(LinearGeometry(768, 3072, 128))
        'linear 768 3072 128'
    """

    out_features: int
    in_features: int
    rows: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, self.out_features, self.in_features, self.rows)

    def __str__(self) -> str:
        return f"linear {self.out_features} {self.in_features} {self.rows}"

    @property
    def op(self) -> Op:
        """``"linear"``."""
        return "linear"

    @property
    def matrix(self) -> MatrixShape:
        """Shape of the weight matrix (M, K)."""
        return MatrixShape(self.out_features, self.in_features)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense layer."""
        return self.matrix.size * self.rows


@dataclass(frozen=True, slots=True, order=True)
class ConvGeometry:
    """An ungrouped 2-D convolution of ``batch`` images of (Cin, H, W).

    The weight (Cout, Cin, kh, kw) is the matrix (Cout, Cin·kh·kw), kernel position fastest: the
    row order of ``torch.nn.Unfold``.

    Example:
        >>> str(ConvGeometry(64, 32, (3, 3), (8, 8), stride=(2, 2), padding=(1, 1)))
        'conv 64 32 3 3 8 8 2 1'
        >>> ConvGeometry(64, 32, (3, 3), (8, 8), stride=(2, 2), padding=(1, 1)).output
        (4, 4)
    """

    out_channels: int
    in_channels: int
    kernel: Pair
    image: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    batch: int = 1

    def __post_init__(self) -> None:
        _require_positive(
            self, self.out_channels, self.in_channels, self.batch,
            *self.kernel, *self.image, *self.stride, *self.dilation,
        )  # fmt: skip
        if min(self.padding) < 0 or min(self.output) < 1:
            raise ValueError(f"no output positions: {self}")

    def __str__(self) -> str:
        parts = [
            "conv", str(self.out_channels), str(self.in_channels),
            *map(str, self.kernel), *map(str, self.image),
            _write_pair(self.stride), _write_pair(self.padding),
        ]  # fmt: skip
        if self.batch != 1:
            parts.append(str(self.batch))
        if self.dilation != (1, 1):
            parts.append(f"dilation={_write_pair(self.dilation)}")
        return " ".join(parts)

    @property
    def op(self) -> Op:
        """``"conv"``."""
        return "conv"

    @property
    def matrix(self) -> MatrixShape:
        """Shape of the weight matrix (Cout, Cin·kh·kw)."""
        return MatrixShape(self.out_channels, self.in_channels * self.kernel[0] * self.kernel[1])

    @property
    def output(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.image, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return (height, width)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense layer."""
        return self.matrix.size * self.output[0] * self.output[1] * self.batch


Geometry = ConvGeometry | LinearGeometry


def parse_geometry(line: str) -> Geometry:
    """Read a geometry from its line.

    Raises:
        ValueError: the line is neither form; the message says what was expected.

    Example:
        >>> parse_geometry("conv 64 3 7 7 224 224 2 3").output
        (112, 112)
    """
    op, *words = line.split() or [""]
    try:
        if op == "linear":
            return _parse_linear(words)
        if op == "conv":
            return _parse_conv(words)
    except (ValueError, IndexError) as error:
        raise ValueError(f"bad geometry {line!r}: {error}") from error
    raise ValueError(
        f"bad geometry {line!r}: expected 'linear M K N' or "
        "'conv Cout Cin kh kw H W stride pad [batch] [dilation=D]'"
    )


def _parse_linear(words: list[str]) -> LinearGeometry:
    if len(words) != 3:
        raise ValueError(f"expected 'linear M K N', got {len(words)} numbers")
    return LinearGeometry(*map(int, words))


def _parse_conv(words: list[str]) -> ConvGeometry:
    dilation: Pair = (1, 1)
    if words and words[-1].startswith("dilation="):
        dilation = _read_pair(words.pop().removeprefix("dilation="))
    if not 8 <= len(words) <= 9:
        raise ValueError(
            f"expected 'conv Cout Cin kh kw H W stride pad [batch]', got {len(words)} numbers"
        )
    cout, cin, kh, kw, height, width = map(int, words[:6])
    return ConvGeometry(
        cout, cin, (kh, kw), (height, width),
        stride=_read_pair(words[6]), padding=_read_pair(words[7]), dilation=dilation,
        batch=int(words[8]) if len(words) == 9 else 1,
    )  # fmt: skip


def _read_pair(text: str) -> Pair:
    first, _, second = text.partition("x")
    return (int(first), int(second or first))


def _write_pair(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _require_positive(owner: object, *numbers: int) -> None:
    if min(numbers) < 1:
        raise ValueError(f"every size of {type(owner).__name__} must be at least 1, got {numbers}")
