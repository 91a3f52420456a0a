"""When a mount asks next: after the time to live, sooner after failures, never all mounts together."""

import random
from types import SimpleNamespace

import pytest

from cvfs.client.schedule import LONGEST, NEVER, Schedule


@pytest.fixture
def clock():
    return SimpleNamespace(now=5000.0)


@pytest.fixture
def make(clock):
    return lambda ttl=240, max_ttl=None: Schedule(ttl, max_ttl, lambda: clock.now, lambda low, high: 1.0)


@pytest.mark.parametrize(
    ("ttl", "max_ttl", "interval"),
    [
        (240, None, 240),
        (240, 0, 240),
        (900, 180.0, 180),
        (60, 180.0, 60),
        (0, None, 10),
        (-5, None, 10),
        (240, 1.0, 10),
        (2**63, None, LONGEST),
        (10**400, None, LONGEST),
        (10**400, 60.0, 60),
    ],
)
def test_how_often(make, ttl, max_ttl, interval):
    assert make(ttl, max_ttl).remaining() == interval


@pytest.mark.parametrize(
    ("ttl", "waits"),
    [(240, [30, 60, 120, 180, 180]), (100, [30, 60, 100, 100]), (20, [20, 20]), (86400, [30, 60, 120, 180, 180])],
)
def test_patience_grows_with_failures_and_a_success_ends_it(make, clock, ttl, waits):
    schedule = make(ttl)
    for wait in waits:
        schedule.failed()
        assert schedule.remaining() == wait
        clock.now += wait
        assert schedule.remaining() == 0
    schedule.succeeded(ttl)
    assert schedule.remaining() == ttl
    schedule.failed()
    assert schedule.remaining() == waits[0]


def test_failing_for_a_year(make):
    schedule = make()
    for _ in range(5000):
        schedule.failed()
    assert schedule.remaining() == 180


def test_ten_thousand_mounts_do_not_ask_together(clock):
    spread = random.Random(1).uniform
    moments = sorted(Schedule(1000, None, lambda: clock.now, spread).remaining() for _ in range(10_000))
    assert moments[0] >= 900
    assert moments[-1] <= 1100
    assert max(sum(1 for moment in moments if second <= moment < second + 1) for second in range(900, 1100)) < 100


def test_a_limit_shortens_the_present_wait_and_never_prolongs_it(make, clock):
    schedule = make(240)
    clock.now += 100
    schedule.limit(60)
    assert schedule.remaining() == 60
    schedule.limit(None)
    assert schedule.remaining() == 60
    clock.now += 60
    schedule.succeeded(240)
    assert schedule.remaining() == 240
    clock.now += 230
    schedule.limit(60)
    assert schedule.remaining() == 10


def test_held_until_something_is_checked(make, clock):
    schedule = make()
    schedule.hold()
    clock.now += 100 * 86400
    schedule.limit(60)
    assert schedule.held
    assert schedule.remaining() == NEVER - 100 * 86400
    schedule.succeeded(240)
    assert (schedule.held, schedule.remaining()) == (False, 60)
    schedule.hold()
    schedule.failed()
    assert not schedule.held
    schedule.hurry()
    assert schedule.remaining() == 0
