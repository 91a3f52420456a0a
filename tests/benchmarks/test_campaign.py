"""Contests: whose turn it is, who is out, and what is told of it."""

import contextlib

import pytest

from benchmarks.campaign import held, rotated, run, told
from benchmarks.model import Failed, Key, Link, Sample, State, Unavailable


class Fake:
    """A contest that notes whose turn it was."""

    key = Key("fake")

    def __init__(self, contestants, opening=None):
        self._contestants = contestants
        self._opening = opening
        self.turns = []
        self.closed = False

    @contextlib.contextmanager
    def opened(self):
        if self._opening:
            raise self._opening
        try:
            yield {name: self._noted(name, take) for name, take in self._contestants.items()}
        finally:
            self.closed = True

    def _noted(self, name, take):
        def noted():
            self.turns.append(name)
            return take()

        return take if isinstance(take, Exception) else noted


def steady():
    return Sample(1.0, 0.5)


def failing(error, after=0):
    left = [steady()] * after

    def take():
        if left:
            return left.pop()
        raise error

    return take


def test_everybody_has_turns_and_each_begins_as_often():
    contest = Fake({"a": steady, "b": steady, "c": steady})
    result = held(contest, 3)
    assert "".join(contest.turns) == "abcbcacab"
    assert {name: len(samples) for name, samples in result.samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert not result.troubles
    assert contest.closed


@pytest.mark.parametrize(
    "error", [Failed("no  luck\nat all"), Unavailable("no luck at all"), OSError("no luck at all")]
)
def test_who_fails_is_out_and_the_others_go_on(error):
    contest = Fake({"a": failing(error, after=1), "b": steady})
    result = held(contest, 3)
    assert {name: len(samples) for name, samples in result.samples.items()} == {"a": 1, "b": 3}
    assert result.troubles == {"a": "no luck at all"}
    assert contest.turns.count("a") == 2


def test_who_cannot_take_part_says_why():
    result = held(Fake({"a": Unavailable("not here"), "b": steady}), 2)
    assert list(result.samples) == ["b"]
    assert result.troubles == {"a": "not here"}


def test_a_contest_that_does_not_open_is_not_the_end():
    results = list(run([Fake({}, opening=Failed("no disk")), Fake({"a": steady})], 1, lambda _line: None))
    assert results[0].troubles == {"-": "no disk"}
    assert list(results[1].samples) == ["a"]


def test_an_interrupt_is_the_end_and_closes_the_contest():
    contest = Fake({"a": failing(KeyboardInterrupt())})
    with pytest.raises(KeyboardInterrupt):
        held(contest, 3)
    assert contest.closed


def test_people_who_wait_hear_of_each_contest():
    lines = []
    list(run([Fake({"a": steady, "b": Unavailable("not here")})], 2, lines.append))
    assert lines == ["[1/1] fake", "    a: 1.000 s at best of 2", "    b: not here"]


@pytest.mark.parametrize(
    ("names", "by", "expected"),
    [([], 5, []), (["a"], 3, ["a"]), (["a", "b"], 0, ["a", "b"]), (["a", "b"], 3, ["b", "a"])],
)
def test_rotation(names, by, expected):
    assert rotated(names, by) == expected


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (Key("publish"), "publish"),
        (Key("find", State.HOT), "find, hot"),
        (Key("find", State.COLD, Link(20)), "find, cold, rtt 20 ms"),
        (Key("find", State.COLD, Link(0, 100)), "find, cold, rtt 0 ms, 100 Mbit/s"),
    ],
)
def test_names_of_contests(key, name):
    assert told(key) == name
