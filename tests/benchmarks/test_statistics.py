"""Medians, intervals, and what is called a change, by numbers worked out by hand."""

import random

import pytest

from benchmarks.report.statistics import Spread, apart, ratio, spread

SPREADS = [
    ([3.0], Spread(3.0, 3.0, 3.0, 1)),
    ([3.0, 1.0], Spread(2.0, 1.0, 3.0, 2)),
    ([3.0, 1.0, 9.0], Spread(3.0, 1.0, 9.0, 3)),
    ([5.0, 1.0, 2.0, 4.0, 3.0, 6.0, 7.0], Spread(4.0, 1.0, 7.0, 7)),
    # Order statistics of the binomial distribution: nine values hold the median between the second and the eighth in 96 %.
    (range(1, 9), Spread(4.5, 1, 8, 8)),
    (range(1, 10), Spread(5, 2, 8, 9)),
    (range(1, 13), Spread(6.5, 3, 10, 12)),
    (range(1, 21), Spread(10.5, 6, 15, 20)),
]


@pytest.mark.parametrize(("values", "expected"), SPREADS)
def test_spread(values, expected):
    assert spread(values) == expected


def test_one_outlier_moves_no_median():
    assert spread([1.0, 1.1, 1.2, 1.1, 60.0]).median == 1.1


RATIOS = [
    # The machine is three times as slow in the last round: pairs do not notice.
    ([2.0, 2.0, 6.0], [1.0, 1.0, 3.0], Spread(2.0, 2.0, 2.0, 3)),
    ([2.0, 3.0, 5.0], [1.0, 2.0, 2.0], Spread(2.0, 1.5, 2.5, 3)),
    # Who failed in the third round has no third sample.
    ([2.0, 3.0, 4.0], [1.0, 2.0], Spread(1.75, 1.5, 2.0, 2)),
    ([2.0], [0.0], None),
    ([], [1.0], None),
    ([1.0], [], None),
]


def test_what_was_measured_at_different_times_makes_no_pairs():
    assert ratio([2.0, 2.0, 6.0], [1.0, 1.0, 3.0], paired=False) == Spread(2.0, 2.0 / 3, 6.0, 3)


@pytest.mark.parametrize(("values", "standard", "expected"), RATIOS)
def test_ratio(values, standard, expected):
    assert ratio(values, standard) == expected


APART = [
    ("the same", [1.0, 1.1, 1.2], [1.0, 1.1, 1.2], False),
    ("overlapping", [1.0, 1.1, 1.3], [1.2, 1.4, 1.5], False),
    ("clearly faster", [1.0, 1.1, 1.2], [0.5, 0.6, 0.7], True),
    ("clearly slower", [1.0, 1.1, 1.2], [2.0, 2.1, 2.2], True),
    ("three that do not overlap, but nearly", [1.0, 1.1, 1.2], [1.25, 1.35, 1.45], False),
    ("five that do not overlap", [1.0, 1.1, 1.1, 1.1, 1.2], [1.25, 1.35, 1.35, 1.35, 1.45], True),
    ("less than a twentieth, however well repeated", [1.0] * 7, [1.04] * 7, False),
    ("exactly repeated", [100.0] * 3, [110.0] * 3, True),
    ("two are not enough", [1.0, 1.0], [2.0, 2.0], False),
    ("two against many", [1.0] * 5, [2.0, 2.0], False),
    ("from nothing to something", [0.0] * 3, [4.0] * 3, True),
    ("nothing twice", [0.0] * 3, [0.0] * 3, False),
]


@pytest.mark.parametrize(("before", "after", "expected"), [row[1:] for row in APART], ids=[row[0] for row in APART])
def test_apart(before, after, expected):
    assert apart(spread(before), spread(after)) is expected
    assert apart(spread(after), spread(before)) is expected


@pytest.mark.parametrize(("count", "at_most"), [(3, 30), (5, 10)])
def test_equal_work_is_seldom_called_changed(count, at_most):
    """What apart's docstring promises, for 1,000 pairs with outliers (drawn the same way each time)."""
    chance = random.Random(6)

    def sample():
        return 1 + abs(chance.gauss(0, 0.03)) + (chance.expovariate(5) if chance.random() < 0.1 else 0)

    pairs = [(spread([sample() for _ in range(count)]), spread([sample() for _ in range(count)])) for _ in range(1000)]
    assert sum(apart(one, other) for one, other in pairs) <= at_most
