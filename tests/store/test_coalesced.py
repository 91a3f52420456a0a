"""Many askers and one fetch; every step waits for an event, none for a clock."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cvfs.errors import MissingObject, Unreachable
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import Wanted
from cvfs.store.coalesced import Coalesced

WANTED = Wanted(ContentHash.of(b"a", Algorithm.SHA1))
OTHER = Wanted(ContentHash.of(b"b", Algorithm.SHA1))


class Gated:
    """Contents that are handed out when `gate` opens; `error` is raised instead if set."""

    def __init__(self):
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.opened = []
        self.error = None
        self.present = None

    def open(self, wanted):
        self.opened.append(wanted)
        self.begun.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        descriptor = os.memfd_create("test")
        os.write(descriptor, wanted.path.encode())
        return descriptor

    def open_present(self, wanted):
        return self.present


def _until(true):
    """Spin on a condition that other threads are about to make true."""
    while not true():
        os.sched_yield()


def _outcome(contents, wanted=WANTED):
    try:
        descriptor = contents.open(wanted)
    except Exception as error:
        return error
    return descriptor


def _crowd(contents, inner, count, pool):
    """One leader and `count` - 1 followers, all of them waiting."""
    leader = pool.submit(_outcome, contents)
    assert inner.begun.wait(30)
    followers = [pool.submit(_outcome, contents) for _ in range(count - 1)]
    _until(lambda: contents.waiting() == count - 1)
    return leader, followers


def test_sixty_four_askers_one_fetch():
    inner = Gated()
    contents = Coalesced(inner)
    with ThreadPoolExecutor(64) as pool:
        leader, followers = _crowd(contents, inner, 64, pool)
        inner.gate.set()
        descriptors = [asker.result() for asker in [leader, *followers]]
    assert inner.opened == [WANTED]
    assert len(set(descriptors)) == 64
    for descriptor in descriptors:
        assert os.pread(descriptor, 99, 0) == WANTED.path.encode()
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    assert contents.waiting() == 0


@pytest.mark.parametrize("error", [MissingObject("gone"), Unreachable("down")])
def test_the_leaders_error_reaches_everybody_and_nobody_later(error):
    inner = Gated()
    inner.error = error
    contents = Coalesced(inner)
    with ThreadPoolExecutor(8) as pool:
        leader, followers = _crowd(contents, inner, 8, pool)
        inner.gate.set()
        assert [asker.result() for asker in [leader, *followers]] == [error] * 8
    inner.error = None
    os.close(contents.open(WANTED))
    assert len(inner.opened) == 2


def test_followers_of_an_abandoned_fetch_are_released():
    inner = Gated()
    inner.error = RuntimeError("a defect")
    contents = Coalesced(inner)
    with ThreadPoolExecutor(3) as pool:
        leader, followers = _crowd(contents, inner, 3, pool)
        inner.gate.set()
        assert leader.result() is inner.error
        assert [type(follower.result()) for follower in followers] == [Unreachable] * 2


def test_other_objects_do_not_wait():
    inner = Gated()
    contents = Coalesced(inner)
    with ThreadPoolExecutor(2) as pool:
        askers = [pool.submit(_outcome, contents, WANTED), pool.submit(_outcome, contents, OTHER)]
        _until(lambda: len(inner.opened) == 2)
        inner.gate.set()
        for asker in askers:
            os.close(asker.result())


def test_a_follower_gives_up_after_its_patience():
    inner = Gated()
    contents = Coalesced(inner, patience=0)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(_outcome, contents)
        assert inner.begun.wait(30)
        with pytest.raises(Unreachable, match=WANTED.path):
            contents.open(WANTED)
        assert contents.waiting() == 0
        inner.gate.set()
        os.close(leader.result())


def test_without_descriptors_followers_get_an_error(monkeypatch):
    inner = Gated()
    contents = Coalesced(inner)
    duplicate, left = os.dup, [1]

    def dup(descriptor):
        if not left.pop() if left else True:
            raise OSError(24, "Too many open files")
        return duplicate(descriptor)

    monkeypatch.setattr(os, "dup", dup)
    with ThreadPoolExecutor(4) as pool:
        leader, followers = _crowd(contents, inner, 4, pool)
        inner.gate.set()
        outcomes = [follower.result() for follower in followers]
        os.close(leader.result())
    served = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(served) == 1
    assert sum(isinstance(outcome, Unreachable) for outcome in outcomes) == 2
    os.close(served[0])


def test_what_is_present_is_asked_of_the_inner_contents():
    inner = Gated()
    assert Coalesced(inner).open_present(WANTED) is None
    inner.present = 5
    assert Coalesced(inner).open_present(WANTED) == 5
