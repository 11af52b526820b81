"""The activations a region knows, and the numbers they stand for in a file.

With x the sum of a product, its bias and its residual, and a, b the activation's two numbers::

    none          x
    relu          max(x, 0)
    clip          min(max(x, a), b)                     a <= b, either may be infinite
    gelu          x / 2 * (1 + erf(x / sqrt(2)))
    gelu_tanh     x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
    silu          x / (1 + exp(-x))
    sigmoid       1 / (1 + exp(-x))
    tanh          tanh(x)
    hard_swish    x * min(max(x / 6 + 1 / 2, 0), 1)
    hard_sigmoid  min(max(a * x + b, 0), 1)
    leaky_relu    x where x >= 0, a * x elsewhere

NaN stays NaN in all of them, as in ONNX Runtime and torch.

References:
    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016 (both
    forms); Howard et al., "Searching for MobileNetV3", ICCV 2019 (hard_swish); the operators of
    these names in ONNX, opset 20.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

ActivationKind = Literal[
    "none", "relu", "clip", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "hard_swish",
    "hard_sigmoid", "leaky_relu",
]  # fmt: skip
KINDS: tuple[ActivationKind, ...] = get_args(ActivationKind)  # the position is the code in a file
NUMBERS: dict[ActivationKind, int] = {"clip": 2, "hard_sigmoid": 2, "leaky_relu": 1}
"""How many numbers a kind takes; 0 when it is not named."""


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation; ``low`` and ``high`` are a and b above, rounded to float32, else 0.

    Raises:
        ValueError: an unknown kind, a number it does not take or that is NaN, an empty range.

    Example:
        >>> Activation("clip", 0.0, 6.0)
        Activation(kind='clip', low=0.0, high=6.0)
    """

    kind: ActivationKind = "none"
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown activation {self.kind!r}, expected one of {', '.join(KINDS)}"
            )
        for name in ("low", "high"):
            object.__setattr__(self, name, float(np.float32(getattr(self, name))))
        unused = (self.low, self.high)[NUMBERS.get(self.kind, 0) :]
        if any(unused):
            raise ValueError(f"{self.kind} takes {NUMBERS.get(self.kind, 0)} numbers, got {unused}")
        if math.isnan(self.low) or math.isnan(self.high):
            raise ValueError(f"{self.kind} with NaN")
        if self.kind == "clip" and self.low > self.high:
            raise ValueError(f"clip to {self.low} .. {self.high}, an empty range")
        if self.kind != "clip" and not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"{self.kind} with infinite numbers")

    @property
    def code(self) -> int:
        """The kind's number in a file."""
        return KINDS.index(self.kind)


NONE = Activation()
RELU = Activation("relu")
