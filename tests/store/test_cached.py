"""What cannot be kept is served all the same, and said once."""

import logging
import os

import pytest

from cvfs.errors import StoreFull
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Wanted
from cvfs.store.cached import Cached, Streamed, Uncached
from cvfs.store.memory import MemoryStore
from cvfs.store.verified import Verified


class FullCache:
    """Keeps nothing; refuses after having taken `taken` pieces."""

    def __init__(self, taken):
        self.taken = taken
        self.refused = 0

    def open(self, content):
        return None

    def retrieve(self, content):
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


def test_the_warning_comes_again_after_an_hour(stored, caplog):
    wanted, data = stored(b"text")
    now = [0.0]
    contents = Cached(Verified(MemoryStore({wanted.path: data})), FullCache(0), clock=lambda: now[0])
    warned = []
    for now[0] in (0.0, 1800.0, 3599.0, 3600.0, 3700.0):
        caplog.clear()
        os.close(contents.open(wanted))
        warned.append(len(caplog.records))
    assert warned == [1, 0, 0, 1, 0]


class Late:
    """A cache that needs some work for what it has."""

    def __init__(self, content, data):
        self.content = content
        self.data = data
        self.inserted = []

    def open(self, content):
        return None

    def retrieve(self, content):
        if content != self.content:
            return None
        descriptor = os.memfd_create("late")
        os.write(descriptor, self.data)
        return descriptor

    def insert(self, content, pieces, size=None):
        self.inserted.append(b"".join(pieces))
        return os.memfd_create("inserted")


@pytest.mark.parametrize(("kept", "inserted"), [(b"text", []), (b"tex", [b"text"])], ids=["right", "another length"])
def test_what_a_cache_has_after_some_work_is_not_fetched(stored, kept, inserted):
    wanted, data = stored(b"text")
    cache = Late(wanted.content, kept)
    contents = Cached(Verified(MemoryStore({wanted.path: data})), cache)
    assert contents.open_present(wanted) is None
    os.close(contents.open(wanted))
    assert cache.inserted == inserted


@pytest.mark.parametrize(("kind", "passes"), [(kind, kind.value in ("", "P")) for kind in ObjectKind])
def test_data_is_streamed_catalogs_are_kept(kind, passes):
    class Named:
        def __init__(self, name):
            self.name = name

        def open(self, wanted):
            return self.name

        def open_present(self, wanted):
            return self.name

    contents = Streamed(Named("kept"), Named("passing"))
    wanted = Wanted(ContentHash.of(b"x", Algorithm.SHA1, kind))
    assert contents.open(wanted) == contents.open_present(wanted) == ("passing" if passes else "kept")


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
