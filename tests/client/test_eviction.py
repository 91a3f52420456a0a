"""Who goes first: an order over kinds and last uses, exactly as many bytes as are needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.cache.books import Record
from cvfs.client.cache.eviction import departing


def _records(*rows):
    """`(name, size, last use)`; names that start with `v` are volatile, those that end with `C` catalogs."""
    return [(name, Record(size, time, volatile=name.startswith("v"))) for name, size, time in rows]


def _going(rows, excess, held=(), share=0):
    return list(departing(lambda: iter(rows), set(held), excess, share))


A, B, D = ("a", 10, 1), ("b", 10, 2), ("d", 10, 3)
OLD, NEW = ("oldC", 10, 0), ("newC", 10, 4)
V, W = ("v1", 10, 5), ("v2", 10, 6)


@pytest.mark.parametrize(
    ("rows", "excess", "held", "share", "gone"),
    [
        ([A, B, D], 0, (), 0, []),
        ([A, B, D], 1, (), 0, ["a"]),
        ([A, B, D], 10, (), 0, ["a"]),
        ([A, B, D], 11, (), 0, ["a", "b"]),
        ([D, B, A], 11, (), 0, ["b", "a"]),
        ([A, B, D], 99, (), 0, ["a", "b"]),
        ([A, B, D], 10, "a", 0, ["b"]),
        ([A, B, D], 99, "ab", 0, []),
        ([A, B, D], 99, "abd", 0, []),
        ([], 5, (), 0, []),
        ([A], 5, (), 0, []),
        ([A, B, V, W], 5, (), 0, ["v1"]),
        ([A, B, V, ("z", 10, 9)], 15, (), 0, ["a", "v1"]),
        # Within their share catalogs go at last, beyond it in their turn.
        ([OLD, A, B, D], 10, (), 10, ["a"]),
        ([OLD, A, B, D], 10, (), 9, ["oldC"]),
        ([OLD, NEW, A, B, D], 10, (), 10, ["oldC"]),
        ([OLD, NEW, A, B, D], 20, (), 20, ["a", "b"]),
        ([OLD, NEW, A, ("z", 10, 9)], 20, (), 20, ["oldC", "a"]),
        # A catalog that somebody uses takes no part of the share of the others.
        ([OLD, NEW, A, B, D], 10, ["newC"], 10, ["a"]),
        # Used at the same moment: only as many as are needed.
        ([("a", 10, 1), ("b", 10, 1), ("c", 10, 1), ("d", 10, 2)], 15, (), 0, ["a", "b"]),
        ([("a", 10, 1), ("b", 10, 1)], 15, (), 0, ["a"]),
        # Times out of range: a clock that was wrong.
        ([("a", 10, -5), ("b", 10, 2**63 - 1), ("c", 10, 7)], 5, (), 0, ["a"]),
    ],
)
def test_who_goes(rows, excess, held, share, gone):
    assert _going(_records(*rows), excess, held, share) == gone


SIZES = st.integers(0, 50)
ROWS = st.lists(
    st.tuples(st.sampled_from(["", "v"]), SIZES, st.integers(0, 5), st.sampled_from(["", "C"])), max_size=30
)


@given(ROWS, st.integers(0, 500), st.integers(0, 100), st.sets(st.integers(0, 29)))
def test_enough_goes_and_not_more(rows, excess, share, held):
    named = [(f"{start}{number:02}{end}", size, time) for number, (start, size, time, end) in enumerate(rows)]
    records = dict(_records(*named))
    kept = {name for number, name in enumerate(records) if number in held}
    gone = _going(list(records.items()), excess, kept, share)
    assert len(set(gone)) == len(gone)
    assert not set(gone) & kept
    free = sum(records[name].size for name in gone)
    candidates = [name for name in records if name not in kept]
    largest = max((records[name].size for name in candidates), default=0)
    if len(gone) < len(candidates) - 1:
        assert free >= excess or free + largest >= sum(records[name].size for name in candidates)
    if gone:
        assert free - max(records[name].size for name in gone) < excess
