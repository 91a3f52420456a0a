"""What a reader counts: the objects opened, and those among them that were not at hand."""

from collections.abc import Callable

import pytest

from cvfs.client.inodes import ROOT
from cvfs.client.open_files import OpenFiles
from cvfs.client.presentation import View
from cvfs.client.reading import Reader
from cvfs.client.volume import Volume
from cvfs.errors import StoreFull


@pytest.fixture
def reads(opened, fixture_repository) -> Callable[[], tuple[Reader, Callable[[], bytes]]]:
    """A new reader over one cache, and what reads a file of one object with it, waiting only where it has to."""
    repository = opened(fixture_repository("tiny.example.org"))

    def make():
        reader = Reader(OpenFiles())
        volume = Volume(repository, View(), reader)
        ino = volume.lookup(volume.lookup(ROOT, b"files").ino, b"hello.txt").ino

        def read() -> bytes:
            try:
                return bytes(volume.read(ino, 0, 100, wait=False))
            except BlockingIOError:
                return bytes(volume.read(ino, 0, 100, wait=True))

        return reader, read

    return make


def test_only_what_had_to_be_fetched_is_missed(reads):
    reader, read = reads()
    content = read()
    assert (reader.opens, reader.misses) == (1, 1)
    assert read() == content
    assert (reader.opens, reader.misses) == (1, 1)
    again, read = reads()
    assert read() == content
    assert (again.opens, again.misses) == (1, 0)


def test_who_may_wait_is_served_without_a_cache_that_is_full(reads, opened, fixture_repository, monkeypatch):
    repository = opened(fixture_repository("tiny.example.org"))
    volume = Volume(repository, View())
    ino = volume.lookup(volume.lookup(ROOT, b"files").ino, b"hello.txt").ino
    expected = reads()[1]()

    def full(content):
        raise StoreFull(f"{content}: no descriptor left")

    monkeypatch.setattr(repository.plane.cache, "open", full)
    assert bytes(volume.read(ino, 0, 100, wait=True)) == expected
