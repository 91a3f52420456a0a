"""What is called better or worse between two made-up reports."""

import pytest

from benchmarks.model import ClientCosts, Key, Link, Report, Result, Sample, State
from benchmarks.report.compare import Change, compared, got_worse, told

FIND = Key("find", State.HOT)
COLD = Key("find", State.COLD, Link(20.0))
LOCAL = [1.0, 1.1, 1.2]


def samples(seconds, client=None):
    return tuple(Sample(each, each, client) for each in seconds)


def costs(cpu_seconds=1.0, memory=50_000_000, requests=100, wire_bytes=1_000_000, fuse=1000):
    return ClientCosts(cpu_seconds, memory, memory, 10, requests, wire_bytes, {"READ": fuse})


def report(results, **setting):
    found = tuple(
        Result(
            key,
            {name: taken if taken and isinstance(taken[0], Sample) else samples(taken) for name, taken in by.items()},
        )
        for key, by in results.items()
    )
    return Report("a command", 0.0, 1.0, setting, found)


def changes(before, after):
    return {(str(each.key), each.contestant, each.measure.name): each.change for each in compared(before, after)}


TIMES = [
    ("the same", LOCAL, LOCAL, LOCAL, LOCAL, Change.SAME),
    ("slower", LOCAL, LOCAL, LOCAL, [2.0, 2.2, 2.4], Change.WORSE),
    ("faster", LOCAL, [2.0, 2.2, 2.4], LOCAL, LOCAL, Change.BETTER),
    ("on a machine of half the speed", LOCAL, LOCAL, [2.0, 2.2, 2.4], [2.0, 2.2, 2.4], Change.SAME),
    ("on a machine of half the speed as fast as before", LOCAL, LOCAL, [2.0, 2.2, 2.4], LOCAL, Change.BETTER),
    ("within noise", LOCAL, [1.0, 1.3, 1.6], LOCAL, [1.4, 1.7, 1.9], Change.SAME),
    ("too few", [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [9.0, 9.0], Change.UNKNOWN),
    ("less than a clock shows", [0.001] * 3, [0.001] * 3, [0.001] * 3, [0.002] * 3, Change.SAME),
]


@pytest.mark.parametrize(
    ("local", "ours", "local_after", "ours_after", "change"), [r[1:] for r in TIMES], ids=[r[0] for r in TIMES]
)
def test_time(local, ours, local_after, ours_after, change):
    before, after = (
        report({FIND: {"local": local, "cvfs": ours}}),
        report({FIND: {"local": local_after, "cvfs": ours_after}}),
    )
    assert changes(before, after) == {("find, hot", "cvfs", "time"): change}
    assert got_worse(compared(before, after)) is (change is Change.WORSE)


COSTS = [
    ("client CPU", {"cpu_seconds": 2.0}, Change.WORSE),
    ("client CPU", {"cpu_seconds": 1.02}, Change.SAME),
    ("client memory", {"memory": 90_000_000}, Change.WORSE),
    ("HTTP requests", {"requests": 20}, Change.BETTER),
    ("HTTP requests", {"requests": 101}, Change.SAME),
    ("bytes on the wire", {"wire_bytes": 2_000_000}, Change.WORSE),
    ("FUSE requests", {"fuse": 300}, Change.BETTER),
]


@pytest.mark.parametrize(("name", "after", "change"), COSTS)
def test_costs_of_the_client(name, after, change):
    one = report({FIND: {"local": LOCAL, "cvfs": samples(LOCAL, costs())}})
    other = report({FIND: {"local": LOCAL, "cvfs": samples(LOCAL, costs(**after))}})
    found = changes(one, other)
    assert found.pop(("find, hot", "cvfs", name)) is change
    assert set(found.values()) == {Change.SAME}


def test_a_slower_processor_is_nobody_s_fault():
    one = report({FIND: {"local": LOCAL, "cvfs": samples(LOCAL, costs(cpu_seconds=1.0))}})
    twice = [2 * each for each in LOCAL]
    other = report({FIND: {"local": twice, "cvfs": samples(twice, costs(cpu_seconds=2.0))}})
    assert set(changes(one, other).values()) == {Change.SAME}


def test_without_a_local_directory_others_are_the_standard_and_else_seconds_are():
    others = report({Key("publish"): {"cp -a": LOCAL, "cvfs zlib": LOCAL}, Key("mount"): {"cvfs": LOCAL}})
    (publish, mount) = compared(others, others)
    assert (publish.contestant, publish.relative_to) == ("cvfs zlib", "cp -a")
    assert (mount.contestant, mount.relative_to) == ("cvfs", "")


def test_behind_a_link_the_local_directory_without_one_is_the_standard():
    both = report({Key("find", State.COLD): {"local": LOCAL}, COLD: {"cvfs": LOCAL}})
    (one,) = compared(both, both)
    assert (one.key, one.relative_to) == (COLD, "local")


def test_what_is_not_ours_makes_no_failure():
    before = report({FIND: {"local": LOCAL, "nfs": LOCAL}})
    after = report({FIND: {"local": LOCAL, "nfs": [5.0, 5.1, 5.2]}})
    assert changes(before, after) == {("find, hot", "nfs", "time"): Change.WORSE}
    assert not got_worse(compared(before, after))


def test_told():
    before = report(
        {FIND: {"local": [1.0] * 3, "cvfs": [1.0] * 3}, COLD: {"cvfs": [8.0] * 3}}, kernel="6.17", machine="a"
    )
    after = report(
        {FIND: {"local": [1.0] * 3, "cvfs": [2.0, 2.5, 2.6]}, Key("find"): {"cvfs": [1.0]}}, kernel="6.18", machine="a"
    )
    assert told(before, after).splitlines() == [
        "kernel: 6.17 -> 6.18",
        "worse: find, hot, cvfs: time 1.00 [1.00-1.00] times local -> 2.50 [2.00-2.60] times local (x 2.50)",
        "only before: find, cold, 20 ms, cvfs",
        "only after: find, cvfs",
    ]


def test_told_of_nothing_in_common():
    assert told(report({FIND: {"cvfs": LOCAL}}), report({})).splitlines() == [
        "only before: find, hot, cvfs",
        "nothing that both have",
    ]
    assert (
        told(report({FIND: {"local": LOCAL, "cvfs": LOCAL}}), report({FIND: {"local": LOCAL, "cvfs": LOCAL}}))
        == "same: 1\n"
    )
