"""Durations as people write them: a number with its unit, ``2ms``, ``60s``, ``1.5h``.

A number without a unit is refused: 2 could be milliseconds or minutes.
"""

import re

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
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
    number, unit = match.groups()
    # 0.1 ms must be 0.0001, not 0.1 * 0.001: let the decimal parser place the point
    seconds = float(f"{number}e-3") if unit == "ms" else float(number) * _UNITS_S[unit]
    if seconds <= 0.0:
        raise ValueError(f"expected a duration above zero, got {text!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds so that :func:`parse_duration` gives exactly the same number.

    Example:
        >>> format_duration(0.002), format_duration(60)
        ('2ms', '60s')
    """
    text = f"{seconds * 1e3:g}ms" if seconds < 1.0 else f"{seconds:g}s"
    return text if _reads_back(text, seconds) else f"{seconds:.25f}".rstrip("0") + "s"


def _reads_back(text: str, seconds: float) -> bool:
    return _DURATION.fullmatch(text) is not None and parse_duration(text) == seconds
