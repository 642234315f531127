"""A few statistics; not a number where there are too few values for one."""

from collections.abc import Iterable


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def standard_error(values: Iterable[float]) -> float:
    """The standard deviation, with n - 1, by the root of n."""
    values = list(values)
    if len(values) < 2:
        return float("nan")
    middle = mean(values)
    return (sum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values)) ** 0.5


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value with at least about this share of the others below it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
