"""The contract of every storage: objects appear whole or not at all, equal names are written once, mutable files are
switched, and what was put is there when `sync` returns."""

import os
import pickle
import time

import pytest

from cvfs.errors import MissingObject, UsageError
from cvfs_server.storage.local import LocalStorage

PATH = "data/ab/cdef"


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("new_s3")(BATCH_DELETE_SIZE=2)
    made = LocalStorage(str(tmp_path / "repository"))
    made.create()
    return made


def _read(storage, path, span=None):
    return b"".join(storage.fetch(path, span=span))


def test_a_new_one_is_empty(storage):
    assert list(storage.objects()) == []
    storage.create()
    assert not storage.has(".cvmfspublished")
    assert storage.place
    assert storage.parallel >= 1


def test_an_object_is_written_once(storage):
    assert not storage.has(PATH)
    assert storage.put(PATH, b"content") is True
    assert storage.put(PATH, b"content") is False
    assert storage.has(PATH)
    assert _read(storage, PATH) == b"content"
    assert list(storage.objects()) == [(PATH, 7)]


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"array"), memoryview(b"view")])
def test_whatever_holds_bytes(storage, data):
    storage.put(PATH, data)
    assert _read(storage, PATH) == bytes(data)


def test_a_part(storage):
    storage.put(PATH, b"0123456789")
    assert _read(storage, PATH, (3, 4)) == b"3456"
    assert _read(storage, PATH, (3, 0)) == b""


def test_what_is_not_there(storage):
    with pytest.raises(MissingObject):
        _read(storage, PATH)
    with pytest.raises(MissingObject):
        _read(storage, PATH, (1, 1))


def test_an_upload_is_invisible_until_it_is_committed(storage):
    upload = storage.start_upload()
    for piece in (b"one", bytearray(b"two"), memoryview(b"three"), b""):
        upload.write(piece)
    assert not storage.has(PATH)
    assert list(storage.objects()) == []
    assert upload.commit(PATH) is True
    upload.abort()
    assert _read(storage, PATH) == b"onetwothree"


def test_a_large_upload(storage):
    upload, block = storage.start_upload(), bytes(range(256)) * 4096
    for _ in range(3):
        upload.write(block)
    upload.commit(PATH)
    assert _read(storage, PATH) == block * 3
    storage.sync()


def test_two_uploads_of_the_same_object(storage):
    first, second = storage.start_upload(), storage.start_upload()
    for upload in (first, second):
        upload.write(b"same")
    assert (first.commit(PATH), second.commit(PATH)) == (True, False)
    assert _read(storage, PATH) == b"same"


def test_an_aborted_upload_leaves_nothing(storage):
    upload = storage.start_upload()
    upload.write(b"x" * 2_000_000)
    upload.abort()
    upload.abort()
    assert list(storage.objects()) == []


def test_a_mutable_file_is_switched(storage):
    storage.replace(".cvmfspublished", b"old")
    storage.replace(".cvmfspublished", b"new")
    assert _read(storage, ".cvmfspublished") == b"new"
    storage.replace(".cvmfspublished", b"")
    assert _read(storage, ".cvmfspublished") == b""
    assert list(storage.objects()) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "data/../../outside", ".."])
def test_nothing_outside(storage, path):
    for act in (storage.replace, storage.discard, storage.discard_many):
        with pytest.raises(UsageError, match="no place inside"):
            act(*{storage.replace: (path, b""), storage.discard_many: ([path],)}.get(act, (path,)))


def test_discard(storage):
    storage.put(PATH, b"content")
    storage.discard(PATH)
    storage.discard(PATH)
    assert not storage.has(PATH)


def test_many_are_discarded(storage):
    paths = [f"data/{number:02x}/object" for number in range(5)]
    for path in (*paths, PATH):
        storage.put(path, b"content")
    storage.discard_many(iter([*paths, "data/ff/never"]))
    assert list(storage.objects()) == [(PATH, 7)]
    storage.discard_many([])


def test_what_was_written_since(storage):
    storage.put(PATH, b"content")
    assert list(storage.objects(time.time() - 3600)) == [(PATH, 7)]
    assert list(storage.objects(time.time() + 3600)) == []


def test_staging_is_each_publishers_own(storage):
    dead, living = storage.staged_by("dead"), storage.staged_by("living")
    dead.start_upload().write(b"left over" * 1_000_000)
    upload = living.start_upload()
    upload.write(b"content")
    storage.clear_staging("dead")
    storage.clear_staging("dead")
    upload.commit(PATH)
    living.sync()
    living.clear_staging("living")
    storage.clear_staging("nobody")
    assert list(storage.objects()) == [(PATH, 7)]


def test_copies_work_elsewhere(storage):
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.put(PATH, b"content") is True
    assert storage.has(PATH)


def test_a_forked_process_works_beside_this_one(storage):
    """The client of this one is in use already: the copy of it must not be."""
    mine = storage.staged_by("one")
    mine.put(PATH, b"content")
    child = os.fork()
    if not child:
        upload = mine.start_upload()
        upload.write(b"more")
        os._exit(0 if mine.put("data/cd/child", b"content") and upload.commit("data/cd/large") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(mine.objects()) == [(PATH, 7), ("data/cd/child", 7), ("data/cd/large", 4)]
    mine.sync()
