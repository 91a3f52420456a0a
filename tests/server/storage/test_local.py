"""Storage in a directory, beyond the contract: what lies where, what is flushed when, what a machine may refuse."""

import errno
import os
import stat

import pytest

from cvfs.errors import MissingObject, StoreFull
from cvfs_server.storage import local
from cvfs_server.storage.local import LocalStorage

PATH = "data/ab/cdef"


def _read(storage, path):
    return b"".join(storage.fetch(path))


def _staged(storage):
    return os.listdir(f"{storage.base}/data/txn")


def test_a_new_one_has_its_directories(storage):
    assert sorted(os.listdir(f"{storage.base}/data")) == [*(f"{n:02x}" for n in range(256)), "txn"]
    assert list(storage.objects()) == []
    storage.create()


def test_an_object_is_written_once(storage):
    assert not storage.has(PATH)
    assert storage.put(PATH, b"content") is True
    before = os.stat(f"{storage.base}/{PATH}")
    assert storage.put(PATH, b"content") is False
    assert os.stat(f"{storage.base}/{PATH}").st_ino == before.st_ino
    assert storage.has(PATH)
    assert _read(storage, PATH) == b"content"
    assert list(storage.objects()) == [(PATH, 7)]
    assert _staged(storage) == []


def test_an_aborted_upload_leaves_nothing(storage):
    upload = storage.start_upload()
    upload.write(b"x" * 100_000)
    upload.abort()
    upload.abort()
    assert _staged(storage) == []


def test_objects_may_be_read_by_everybody_whom_the_mask_allows(storage):
    before = os.umask(0o022)
    try:
        storage.put(PATH, b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(f"{storage.base}/{PATH}").st_mode) == 0o644


def test_a_mutable_file_is_switched_as_a_whole(storage):
    storage.replace(".cvmfspublished", b"old")
    with open(f"{storage.base}/.cvmfspublished", "rb") as held:
        storage.replace(".cvmfspublished", b"new")
        assert held.read() == b"old"
    assert _read(storage, ".cvmfspublished") == b"new"
    assert _staged(storage) == []


def test_the_switch_is_durable(storage, monkeypatch):
    """File, then name: in this order."""
    acts = []
    for name in ("fsync", "rename"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, plain=plain, name=name: (acts.append(name), plain(*args))[1])
    storage.replace(".cvmfspublished", b"new")
    assert acts == ["fsync", "rename", "fsync"]


def test_discard(storage):
    storage.put(PATH, b"content")
    storage.discard(PATH)
    storage.discard(PATH)
    assert not storage.has(PATH)
    with pytest.raises(MissingObject):
        _read(storage, PATH)
    with pytest.raises(StoreFull):
        storage.discard("data/ab")


def test_what_a_dead_publisher_left_is_told_from_what_others_write(storage):
    storage.start_upload().write(b"left over")
    dead, living = storage.staged_by("dead"), storage.staged_by("living")
    dead.start_upload().write(b"left over")
    upload = living.start_upload()
    upload.write(b"content")
    storage.clear_staging("dead")
    assert len(_staged(storage)) == 2
    upload.commit(PATH)
    living.clear_staging("living")
    storage.clear_staging("nobody")
    assert len(_staged(storage)) == 1
    storage.clear_staging("")
    assert _staged(storage) == []
    assert storage.has(PATH)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "rename", "open", "close"])
def test_what_the_machine_refuses_is_named(storage, monkeypatch, number, call):
    plain = getattr(os, call)

    def refuse(*arguments, **keywords):
        if call == "close":
            plain(*arguments)
        if call != "open" or "txn" in str(arguments[0]):
            raise OSError(number, os.strerror(number))
        return plain(*arguments, **keywords)

    monkeypatch.setattr(os, call, refuse)
    for act in (lambda: storage.put(PATH, b"content"), lambda: storage.replace("file", b"content")):
        with pytest.raises(StoreFull, match=os.strerror(number)):
            act()
    monkeypatch.undo()
    assert not storage.has(PATH)
    assert _staged(storage) == []


def test_short_writes_are_continued(storage, monkeypatch):
    plain = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: plain(descriptor, bytes(data)[:3]))
    storage.put(PATH, b"ten bytes.")
    monkeypatch.undo()
    assert _read(storage, PATH) == b"ten bytes."


def test_sync(storage, monkeypatch, power_cuts):
    storage.sync()
    with pytest.raises(StoreFull, match="missing"):
        LocalStorage(f"{storage.base}/missing").sync()
    synced = []
    monkeypatch.setattr(local.ctypes, "CDLL", lambda *_, **__: object())
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    storage.sync()
    assert synced == [True]


def test_what_is_removed_while_it_is_listed_is_left_out(storage):
    for name in ("data/ab/one", "data/ab/two"):
        storage.put(name, b"content")
    listing = storage.objects()
    first, _ = next(listing)
    for name in {"data/ab/one", "data/ab/two"} - {first}:
        storage.discard(name)
    assert list(listing) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_where_root_was_killed_the_owner_can_clear_away(storage):
    os.chown(f"{storage.base}/data/txn", 1234, 1234)
    storage.staged_by("publisher").start_upload()
    (place,) = _staged(storage)
    inner = f"{storage.base}/data/txn/{place}"
    assert [os.stat(path).st_uid for path in (inner, f"{inner}/{os.getpid()}")] == [1234, 1234]
