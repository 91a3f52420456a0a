"""Medians, how far repetitions lie apart, and what is beyond noise; knows nothing of benchmarks.

Repetitions are few, from three to seven, and their noise is that of shared machines: mostly small, now and then large, never
negative. So everything here is made of ranks: no mean, no standard deviation, nothing that one outlier moves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

CONFIDENCE = 0.95
"""How often an interval should hold the true median, if there are enough repetitions for that (six)."""
SMALLEST_CHANGE = 1.05
"""A factor below which nothing is called a change, however well it repeats: code moved in memory does as much."""
ENOUGH = 3
"""Repetitions without which nothing is judged."""
PLENTY = 5
"""Repetitions from which on intervals need not overlap, and that is all; fewer have to lie clearly apart."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the interval around it, of `count` repetitions."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Of one repetition or more. The interval goes from the least to the greatest where there are fewer than nine."""
    ordered = sorted(values)
    left_out = _left_out(len(ordered))
    return Spread(median(ordered), ordered[left_out], ordered[-1 - left_out], len(ordered))


def _left_out(count: int) -> int:
    """How many at each end the interval does without and still holds the true median: as often as heads are thrown, no more."""
    tail, left_out = 0.5**count, 0
    while 2 * (tail := tail + math.comb(count, left_out + 1) * 0.5**count) <= 1 - CONFIDENCE:
        left_out += 1
    return left_out


def ratio(values: Sequence[float], standard: Sequence[float], *, paired: bool = True) -> Spread | None:
    """How many times the standard; None where that was nothing.

    Contestants take turns, so repetitions of the same number lie side by side in time: each such pair gives a ratio, in which
    the drift of the machine cancels. (Who fails is out: what one of them has less is at the end.) Samples of two contests make
    no pairs (`paired` is False): it is the ratio of the medians, with the widest interval.
    """
    if not values or not standard or min(standard) <= 0:
        return None
    if paired:
        return spread([value / other for value, other in zip(values, standard, strict=False)])
    mine, theirs = spread(values), spread(standard)
    count = min(mine.count, theirs.count)
    return Spread(mine.median / theirs.median, mine.low / theirs.high, mine.high / theirs.low, count)


def apart(before: Spread, after: Spread) -> bool:
    """Whether two medians differ beyond noise.

    They do if they differ by a twentieth and their intervals do not overlap. Intervals of three or four repetitions are narrow
    by chance too often: those have to lie apart by half of the wider one. By simulation, with normal noise and with outliers in
    a tenth of all repetitions, equal medians are then told apart in 1.5 % of all cases of three repetitions, and in 0.5 % of
    those of five; a fifth is found in nine of ten with noise of 3 %.
    """
    if min(before.count, after.count) < ENOUGH or not _differ(before.median, after.median):
        return False
    gap = max(after.low - before.high, before.low - after.high)
    if min(before.count, after.count) >= PLENTY:
        return gap > 0
    return gap > 0 and gap >= max(before.high - before.low, after.high - after.low) / 2


def _differ(one: float, other: float) -> bool:
    return max(one, other) > min(one, other) * SMALLEST_CHANGE
