"""Confidence intervals over repetitions, and tables of rows.

A repetition is a new network with new samples.  Samples of one network are not independent of each other, so intervals
are over repetitions: Student's t for the mean of a figure of each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyfirstorder.experiments.experiment import Row
    from pyfirstorder.problem import Array

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and the ends of its interval; infinite ends where one repetition tells nothing about spread."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.mean):
            return "none" if math.isnan(self.mean) else "∞"
        return f"{_short(self.mean)} [{_short(self.low)}, {_short(self.high)}]"

    def below(self, other: Interval) -> bool:
        """Whether the mean is smaller beyond both intervals."""
        return self.high < other.low


def _short(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def mean_interval(values: Iterable[float]) -> Interval:
    """The mean of the numbers, NaN left out, with Student's t interval at the level `CONFIDENCE`.

    An infinite one, such as the loss of a training that diverged, makes all of it infinite.  Of numbers that are never
    negative, such as steps, losses and distances, neither is the mean.
    """
    numbers = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    if not len(numbers):
        return Interval(math.nan, -math.inf, math.inf)
    mean = float(numbers.mean())
    if math.isinf(mean):
        return Interval(mean, mean, mean)
    if len(numbers) == 1:
        return Interval(mean, -math.inf, math.inf)
    try:
        from scipy.stats import t
    except ImportError as error:
        raise ImportError('experiments need scipy: pip install "pyfirstorder[lab]"') from error
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers)))
    low = mean - half
    return Interval(mean, max(low, 0.0) if numbers.min() >= 0 else low, mean + half)


def share_interval(values: Iterable[float]) -> Interval:
    """`mean_interval` of shares, which are at most 1."""
    found = mean_interval(values)
    return found._replace(high=min(found.high, 1.0))


def slope_of_logs(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent p of ``value ~ size^p`` by least squares of the logarithms; NaN with fewer than two sizes."""
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(values, np.float64))
    kept = np.isfinite(x) & np.isfinite(y)
    if len(np.unique(x[kept])) < 2:
        return math.nan
    return float(np.polyfit(x[kept], y[kept], 1)[0])


def where(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def column(rows: Iterable[Row], name: str) -> list[float]:
    """One figure of each row; NaN where it is missing.

    A median of steps that is missing, because more than half of the samples needed more, counts as all steps.
    """
    if name == "median_steps":
        return [float(row["steps"] if row[name] is None else row[name]) for row in rows]
    return [math.nan if row.get(name) is None else float(row[name]) for row in rows]


def steps_in_words(rows: Sequence[Row]) -> str:
    """The mean of the median steps; in how many networks the median was beyond all steps, and so is counted too low."""
    beyond = sum(row["median_steps"] is None for row in rows)
    told = f"{mean_interval(column(rows, 'median_steps'))}"
    return f"{told}; more than {rows[0]['steps']} in {beyond} of {len(rows)} networks" if beyond else told


def distinct(rows: Iterable[Row], name: str) -> list[Any]:
    """The values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[name] for row in rows if name in row))


def repetitions_in_words(rows: Iterable[Row]) -> str:
    """How many repetitions there were, and which: what every interval is over."""
    found = sorted(distinct(rows, "repetition"))
    return f"{len(found)} (repetitions r = {found[0]} to {found[-1]})"


def median_of(values: Array, missing: Array) -> float | None:
    """The median with those that are missing above all others; None where it is one of them."""
    if not len(values):
        return None
    middle = float(np.median(np.where(missing, np.inf, values)))
    return middle if math.isfinite(middle) else None
