"""How quantities are shown: seconds as ms or µs, fractions as %, bytes as MB. Converted only here.

What is missing or not finite is shown as a dash, never as a number.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

Kind = Literal[
    "text", "count", "metric", "harm", "ms", "us", "more_us", "percent", "more_percent", "times",
    "mb", "difference",
]  # fmt: skip
Value = str | float | int | None

MISSING = "–"

_FORMATS: Mapping[Kind, Callable[[float], str]] = {
    "text": str,
    "count": lambda value: f"{value:,.0f}",
    "metric": lambda value: f"{value:.4f}",
    "harm": lambda value: f"{value:.3g}",
    "ms": lambda value: f"{value * 1e3:.{3 if abs(value) >= 1e-4 or not value else 5}f}",
    "us": lambda value: f"{value * 1e6:,.1f}",
    "more_us": lambda value: f"{value * 1e6:+,.1f}",
    "percent": lambda value: f"{value * 100:.1f}%",
    "more_percent": lambda value: f"{value * 100:+.1f}%",
    "times": lambda value: f"{value:.2f}×",
    "mb": lambda value: f"{value / 1e6:.3f}",
    "difference": lambda value: f"{value:.1e}",
}
_UNITS: Mapping[str, str] = {"ms": " (ms)", "us": " (µs)", "more_us": " (µs)", "mb": " (MB)"}


def show(kind: Kind, value: Value) -> str:
    """Write one value.

    Example:
        >>> show("ms", 0.00125), show("ms", 2.034e-5), show("ms", float("nan"))
        ('1.250', '0.02034', '–')
    """
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    return _FORMATS[kind](value) if math.isfinite(value) else MISSING


def unit(kind: Kind) -> str:
    """What a column's heading adds: ``" (ms)"``; nothing where the cells carry the unit."""
    return _UNITS.get(kind, "")


def number(value: object) -> float | None:
    """Return a finite number from a document, or ``None``.

    Example:
        >>> number(3), number(float("inf")), number("3"), number(True)
        (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def ratio(above: object, below: object) -> float | None:
    """``above / below``; ``None`` unless both are finite numbers and ``below`` is positive."""
    numerator, denominator = number(above), number(below)
    if numerator is None or denominator is None or denominator <= 0.0:
        return None
    return numerator / denominator
