"""The nearest falling sequence: latency can only fall as blocks go, noise may say otherwise.

References:
    Barlow, Bartholomew, Bremner and Brunk, "Statistical Inference under Order Restrictions", 1972:
    pooling adjacent violators.
"""

from collections.abc import Sequence


def isotonic_falling(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    r"""The non-increasing sequence :math:`y` with the least :math:`\sum_i w_i (y_i - v_i)^2`.

    Example:
        >>> isotonic_falling([5.0, 2.0, 4.0, 1.0], [1.0, 1.0, 1.0, 1.0])
        [5.0, 3.0, 3.0, 1.0]
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] < pool[0]:
            pool = _pooled(pools.pop(), pool)
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]


def _pooled(
    first: tuple[float, float, int], second: tuple[float, float, int]
) -> tuple[float, float, int]:
    weight = first[1] + second[1]
    mean = (first[0] * first[1] + second[0] * second[1]) / weight
    return (mean, weight, first[2] + second[2])
