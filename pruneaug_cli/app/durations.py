"""Durations as people write them: a number with its unit, ``2ms``, ``60s``, ``1.5h``.

A number without a unit is refused: 2 could be milliseconds or minutes.
"""

import math
import re
from decimal import Decimal

_UNITS_S = {
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|min|h)")


def parse_duration(text: str) -> float:
    """Read a duration as seconds.

    Raises:
        ValueError: no number with a unit, or zero.

    Example:
        >>> parse_duration("2ms"), parse_duration("1.5h")
        (0.002, 5400.0)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected a duration such as 2ms, 60s, 10min or 1h, got {text!r}")
    # in decimal, so that 0.1ms is the float nearest to 0.0001, not 0.1 * 0.001
    seconds = float(Decimal(match[1]) * _UNITS_S[match[2]])
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"expected a duration above zero, got {text!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds so that :func:`parse_duration` gives exactly the same number.

    Example:
        >>> format_duration(0.002), format_duration(60)
        ('2ms', '60s')
    """
    exact = Decimal(repr(seconds))
    return f"{_plain(exact * 1000)}ms" if seconds < 1.0 else f"{_plain(exact)}s"


def _plain(number: Decimal) -> str:
    """Without an exponent, and without zeros at the end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
