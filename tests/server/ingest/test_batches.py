"""Batches of files: what travels is what was asked for, and a storage behind a network gets many objects at a time."""

import os
import pickle
import threading
from dataclasses import dataclass

import pytest

from cvfs.errors import Unpublishable
from cvfs.format.dirent import Chunk
from cvfs_server.ingest.batches import BatchReader, pack_places, read_packed, start_worker, unpack_contents
from cvfs_server.ingest.content import Content, StorageForm
from cvfs_server.sources.base import Part, Place

FORM = StorageForm(compression="none")
PARALLEL = 4
DEADLINE = 60


@pytest.fixture
def files(tmp_path):
    """So many files; each holds its number."""

    def make(count):
        paths = [os.fsencode(tmp_path / str(number)) for number in range(count)]
        for number, path in enumerate(paths):
            (tmp_path / str(number)).write_text(str(number))
            os.utime(path, ns=(0, number))
        return [Place(path) for path in paths]

    return make


def test_another_process_reads_the_same(storage, files):
    places = [*files(3), None, Place(files(3)[2].path, Part(0, 1, 5, b"\1"))]
    start_worker(storage, FORM)
    answer = unpack_contents(pickle.loads(pickle.dumps(read_packed(pickle.loads(pickle.dumps(pack_places(places)))))))
    stored = [content._replace(objects=0, stored=0) for content in answer]
    again = BatchReader(storage, FORM).read(places)
    assert stored == again
    assert [(content.size, content.mtime_ns, content.xattr) for content in again] == [
        (1, 0, None),
        (1, 1, None),
        (1, 2, None),
        (0, 0, None),
        (1, 5, b"\1"),
    ]


def test_contents_come_back_whole():
    content = Content(None, (Chunk(0, 5, b"x" * 20), Chunk(5, 6, b"y" * 20)), b"\1", 11, 12, 2, 9)
    assert unpack_contents(pickle.loads(pickle.dumps([tuple(content)]))) == [content]


@dataclass(frozen=True)
class _Distant:
    """A storage where several objects have to be on their way before one arrives."""

    plain: object
    together: threading.Barrier
    parallel: int = PARALLEL

    def put(self, path, data):
        self.together.wait(DEADLINE)
        return self.plain.put(path, data)


def test_a_storage_behind_a_network_gets_many_at_a_time(storage, files):
    distant, before = _Distant(storage, threading.Barrier(PARALLEL)), threading.active_count()
    contents = BatchReader(distant, FORM).read(files(PARALLEL * 3))
    assert [content.mtime_ns for content in contents] == list(range(PARALLEL * 3))
    assert threading.active_count() == before


def test_the_first_failure_is_told(storage, files):
    places = files(20)
    os.unlink(places[7].path)
    before = threading.active_count()
    with pytest.raises(Unpublishable, match="/7: No such file"):
        BatchReader(_Distant(storage, threading.Barrier(1)), FORM).read(places)
    assert threading.active_count() == before
