"""Once a minute: every chore is done, whatever becomes of the others."""

import gc
import logging
import weakref

from cvfs.client.upkeep import Upkeep


class Volume:
    """As much of a volume as upkeep asks for."""

    def __init__(self, cache=None, known=0, replaced=()):
        self.repository = self
        self.plane = self
        self.cache = cache
        self.known = known
        self._replaced = replaced

    def known_inodes(self):
        return self.known

    def oldest_files(self, count):
        return list(range(count)) if count > 0 else []

    def replaced(self):
        return list(self._replaced)


class Cache:
    def __init__(self, error=None):
        self.error = error
        self.flushed = 0

    def flush(self):
        self.flushed += 1
        if self.error:
            raise self.error


class Pruner:
    def __init__(self):
        self.pruned = []

    def prune(self, nodes):
        self.pruned.append(nodes)


def test_books_are_written_and_numbers_given_back():
    cache, pruner = Cache(), Pruner()
    upkeep = Upkeep(Volume(cache, known=13), pruner, max_inodes=10)
    upkeep.work()
    assert cache.flushed == 1
    assert pruner.pruned == [[0, 1, 2]]


def test_numbers_that_no_path_leads_to_are_given_back_at_once():
    pruner = Pruner()
    Upkeep(Volume(known=10, replaced=(7, 8)), pruner, max_inodes=10).work()
    assert pruner.pruned == [[7, 8]]


def test_what_failures_hold_on_to_is_let_go_of():
    def fail():
        witness, failures = Pruner(), []
        try:
            int("x")
        except ValueError as error:
            failures.append(error)  # as whoever tries something else before he gives up
        return weakref.ref(witness)

    gc.disable()
    try:
        found = fail()
        assert found() is not None
        Upkeep(Volume(), Pruner()).work()
        assert found() is None
    finally:
        gc.enable()


def test_nothing_to_do():
    pruner = Pruner()
    Upkeep(Volume(known=10), pruner, max_inodes=10).work()
    assert pruner.pruned == []


def test_a_chore_that_fails_holds_up_no_other(caplog):
    done = []
    cache, pruner = Cache(ValueError("broken")), Pruner()
    chores = (lambda: done.append(1), lambda: 1 // 0, lambda: done.append(2))
    upkeep = Upkeep(Volume(cache, known=11), pruner, max_inodes=10, chores=chores)
    with caplog.at_level(logging.ERROR):
        upkeep.work()
        upkeep.work()
    assert done == [1, 2, 1, 2]
    assert cache.flushed == 2
    assert len(pruner.pruned) == 2
    assert len(caplog.records) == 4
