"""The record of what a publisher put: nothing that was acknowledged is forgotten, whichever process wrote it."""

import errno
import os

import pytest

from cvfs.errors import StoreFull
from cvfs_server.storage import written as module
from cvfs_server.storage.written import Acknowledged, Written


@pytest.fixture
def written(tmp_path):
    made = Written(str(tmp_path / "staging" / "one.s3"))
    yield made
    made.forget()


def _given(written):
    return [put for batch in written.batches() for put in batch]


def test_nothing_was_put(written):
    assert _given(written) == []
    assert written.unfinished() == []
    written.forget()


def test_each_is_given_out_once(written):
    written.put("data/ab/c", 7, '"tag"')
    written.put("data/ab/dC", 0, '"other tag-2"')
    assert _given(written) == [Acknowledged("data/ab/c", 7, '"tag"'), Acknowledged("data/ab/dC", 0, '"other tag-2"')]
    assert _given(written) == []
    written.put("data/cd/e", 1, "x")
    assert _given(written) == [Acknowledged("data/cd/e", 1, "x")]


def test_what_was_not_confirmed_is_given_out_again(written, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 2)
    for number in range(5):
        written.put(f"data/ab/{number}", number, "tag")
    batches = written.batches()
    assert [put.size for put in next(batches)] == [0, 1]
    assert [put.size for put in next(batches)] == [2, 3]
    batches.close()
    assert [put.size for put in _given(written)] == [2, 3, 4]


def test_every_process_writes_for_itself(written):
    written.put("data/ab/mine", 1, "tag")
    child = os.fork()
    if not child:
        written.put("data/ab/childs", 2, "tag")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    written.put("data/ab/too", 3, "tag")
    assert sorted(put.size for put in _given(written)) == [1, 2, 3]


def test_a_line_that_a_killed_process_began_is_none(written):
    written.put("data/ab/c", 7, "tag")
    with open(f"{written.directory}/put.1", "w") as file:
        file.write("data/ab/whole 1 tag\ndata/ab/ha")
    assert sorted(put.path for put in _given(written)) == ["data/ab/c", "data/ab/whole"]


def test_parts_that_never_ended(written):
    for key in ("x/data/ab/c", "x/data/cd/with space"):
        written.started(key, "attempt")
    written.started("x/data/ab/c", "second")
    written.ended("x/data/ab/c", "attempt")
    assert written.unfinished() == [("x/data/cd/with space", "attempt"), ("x/data/ab/c", "second")]


def test_it_is_forgotten(written):
    written.put("data/ab/c", 7, "tag")
    list(written.batches())
    written.forget()
    assert not os.path.exists(written.directory)
    written.put("data/ab/d", 8, "tag")
    assert [put.size for put in _given(written)] == [8]


@pytest.mark.parametrize("call", ["open", "write", "makedirs"])
def test_a_full_disk_is_named(written, monkeypatch, call):
    def refuse(*_arguments, **_keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StoreFull, match="No space left on device; the staging directory"):
        written.put("data/ab/c", 7, "tag")


def test_a_line_that_was_cut_short_is_no_line(written, monkeypatch):
    monkeypatch.setattr(os, "write", lambda _descriptor, data: len(data) - 1)
    with pytest.raises(StoreFull, match="no room"):
        written.put("data/ab/c", 7, "tag")
