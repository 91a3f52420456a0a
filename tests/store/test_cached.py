"""What cannot be kept is served all the same, and said once."""

import logging
import os

import pytest

from cvfs.errors import StoreFull
from cvfs.store.base import Wanted
from cvfs.store.cached import Cached, Uncached
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import Verified


class FullCache:
    """Keeps nothing; refuses after having taken `taken` pieces."""

    def __init__(self, taken):
        self.taken = taken
        self.refused = 0

    def open(self, content):
        return None

    def insert(self, content, pieces, size=None):
        for _ in range(self.taken):
            next(pieces)
        self.refused += 1
        raise StoreFull("disk full")


class Counting(MemoryStore):
    def __init__(self, files):
        super().__init__(files)
        self.fetched = 0

    def fetch(self, path, **how):
        self.fetched += 1
        return super().fetch(path, **how)


@pytest.mark.parametrize(("taken", "fetched"), [(0, 1), (1, 2)])
def test_a_full_cache_is_warned_of_once(stored, caplog, taken, fetched):
    wanted, data = stored(b"text" * 100)
    store, cache = Counting({wanted.path: data}), FullCache(taken)
    contents = Cached(Verified(store), cache)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            descriptor = contents.open(wanted)
            assert os.pread(descriptor, 9999, 0) == b"text" * 100
            os.close(descriptor)
    assert cache.refused == 3
    assert store.fetched == 3 * fetched
    assert [record.getMessage() for record in caplog.records] == ["objects are served without being kept: disk full"]


@pytest.mark.parametrize(("size", "memory"), [(100, True), (None, False)])
def test_small_contents_wait_in_memory_others_in_the_directory(stored, tmp_path, size, memory):
    wanted, data = stored(b"x" * 100)
    contents = Uncached(Verified(MemoryStore({wanted.path: data})), str(tmp_path))
    descriptor = contents.open(Wanted(wanted.content, size=size))
    where = os.readlink(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)
    assert ("memfd" in where) == memory
    assert where.startswith(str(tmp_path)) != memory
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_gone_does_not_stop_a_reader(stored, tmp_path):
    wanted, data = stored(b"x" * 100)
    contents = Uncached(Verified(MemoryStore({wanted.path: data})), str(tmp_path / "gone"))
    descriptor = contents.open(Wanted(wanted.content))
    assert os.pread(descriptor, 999, 0) == b"x" * 100
    os.close(descriptor)
