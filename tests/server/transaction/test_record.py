"""What is remembered of an open transaction: there or not, never half, and what is not ours is said so."""

import dataclasses
import os

import pytest

from cvfs.errors import Locked, UsageError
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import (
    Record,
    busy,
    create_record,
    is_open,
    open_record,
    read_record,
    remove_record,
    user_name,
    write_record,
)

RECORD = Record("a" * 40, "/some/path", 0, 1000, apart=True)


@pytest.fixture
def layout(tmp_path):
    return Layout("own.example.org", str(tmp_path / "spool"), str(tmp_path / "cvmfs/own.example.org"), "/nowhere")


def test_from_beginning_to_end(layout):
    assert (is_open(layout), read_record(layout)) == (False, None)
    with pytest.raises(UsageError, match=r"own\.example\.org is not in a transaction"):
        open_record(layout)
    create_record(layout, RECORD)
    assert (is_open(layout), open_record(layout)) == (True, RECORD)
    later = dataclasses.replace(RECORD, keeper=7)
    write_record(layout, later)
    assert read_record(layout) == later
    remove_record(layout)
    remove_record(layout)
    assert not is_open(layout)
    assert os.listdir(layout.spool) == []


def test_only_one(layout):
    create_record(layout, RECORD)
    with pytest.raises(Locked, match="is already in a transaction, opened by root at ") as caught:
        create_record(layout, dataclasses.replace(RECORD, base="b" * 40))
    assert str(caught.value) == busy(layout)
    assert open_record(layout) == RECORD
    assert os.listdir(layout.spool) == ["in_transaction.lock"]


def test_what_is_shown():
    assert str(RECORD.shown) == RECORD.base
    assert str(dataclasses.replace(RECORD, draft="c" * 40).shown) == "c" * 40
    assert str(RECORD.base_hash) == RECORD.base


@pytest.mark.parametrize("text", [b"", b"1234\n", b"{}", b'{"base": 1}', b'{"other": 1}', b"[1]", b"\xff"])
def test_what_another_program_left(layout, text):
    """The original's mark has no record: it is a transaction, which can be aborted."""
    os.makedirs(layout.spool)
    with open(layout.open_mark, "wb") as file:
        file.write(text)
    assert is_open(layout)
    with pytest.raises(UsageError, match=r"abort -f own\.example\.org"):
        read_record(layout)
    assert "already in a transaction:" in busy(layout)


@pytest.mark.parametrize(
    "change",
    [
        {"keeper": "self"},
        {"keeper": -1},
        {"keeper": 1.5},
        {"subpath": 5},
        {"apart": None},
        {"user": True},
        {"base": ""},
        {"draft": "none"},
        {"published": "what"},
    ],
)
def test_a_record_that_nobody_wrote(layout, change):
    os.makedirs(layout.spool)
    write_record(layout, dataclasses.replace(RECORD, **change))
    with pytest.raises(UsageError, match="damaged"):
        read_record(layout)


def test_a_damaged_hash(layout):
    os.makedirs(layout.spool)
    write_record(layout, dataclasses.replace(RECORD, base="nothing"))
    with pytest.raises(UsageError, match="damaged"):
        read_record(layout)


def test_names_of_users():
    assert user_name(0) == "root"
    assert user_name(4_000_000_000) == "user 4000000000"
