"""The access trace: the original's lines, nothing waited for, nothing lost in silence."""

import csv
import os

import pytest

from cvfs.client.observe.tracer import Event, Line, Tracer
from cvfs.errors import NotFound


def rows(path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


class Tree:
    """A file system that answers everything, but has to wait for some."""

    def path_of(self, ino: int) -> bytes:
        if ino == 404:
            raise NotFound("unknown number")
        return b"/dir" if ino == 2 else b"/dir/file"

    def lookup(self, parent, name, wait):
        return "attributes"

    def opened(self, ino, wait):
        if not wait:
            raise BlockingIOError

    def listing(self, ino, wait):
        return ["entry"]

    def getattr(self, ino, wait):
        return "attributes"

    def readlink(self, ino):
        return b"target"

    def getxattr(self, ino, name, wait, group=None):
        return b"value"

    def listxattr(self, ino, wait):
        return []

    def statfs(self):
        return "size"

    def is_direct_io(self, ino):
        return True


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (Line(1.5, Event.OPEN, b"/a", "open()"), b'"1.500","1","/a","open()"\r\n'),
        (Line(1234567890.1239, Event.FLUSH, b"Tracer", "x"), b'"1234567890.124","-3","Tracer","x"\r\n'),
        (Line(0, Event.LOOKUP, b'/a"b,c\n\xff', "m"), b'"0.000","4","/a""b,c\n\xff","m"\r\n'),
    ],
)
def test_a_line(line, text):
    assert line.csv() == text


def test_every_call_is_one_access(tmp_path):
    tracer = Tracer(str(tmp_path / "trace"))
    tree = tracer.watch(Tree())
    tracer.start()
    assert tree.lookup(2, b"x", False) == "attributes"
    with pytest.raises(BlockingIOError):
        tree.opened(3, False)
    tree.opened(3, True)
    assert tree.listing(2, False) == ["entry"]
    assert tree.readlink(3) == b"target"
    assert tree.getattr(3, False) == "attributes"
    assert tree.getxattr(3, b"user.a", False, None) == b"value"
    assert tree.listxattr(3, False) == []
    assert tree.statfs() == "size"
    assert tree.getattr(404, False) == "attributes"
    assert tree.is_direct_io(3) is True
    assert tracer.flush()
    found = [tuple(row[1:]) for row in rows(tmp_path / "trace")]
    assert found == [
        ("-1", "Tracer", "Trace buffer created"),
        ("4", "/dir/x", "lookup()"),
        ("1", "/dir/file", "open()"),
        ("2", "/dir", "opendir()"),
        ("3", "/dir/file", "readlink()"),
        ("6", "/dir/file", "getattr()"),
        ("8", "/dir/file", "getxattr()"),
        ("7", "/dir/file", "listxattr()"),
        ("5", "", "statfs()"),
        ("6", "?", "getattr()"),
        ("-3", "Tracer", "flushed ring buffer"),
    ]
    tracer.stop()
    assert rows(tmp_path / "trace")[-1][1:] == ["-2", "Tracer", "Destroying trace buffer..."]


def test_a_full_buffer_says_what_is_missing(tmp_path):
    tracer = Tracer(str(tmp_path / "trace"), buffer=4, threshold=4)
    for number in range(10):
        tracer.add(Event.OPEN, b"/%d" % number, "open()")
    tracer.start()
    tracer.stop()
    found = rows(tmp_path / "trace")
    assert [row[2] for row in found[:4]] == ["/0", "/1", "/2", "/3"]
    assert "accesses are missing here" in found[4][3]


def test_the_file_may_be_moved_away(tmp_path):
    tracer = Tracer(str(tmp_path / "trace"))
    tracer.start()
    assert tracer.flush()
    (tmp_path / "trace").rename(tmp_path / "old")
    tracer.add(Event.OPEN, b"/new", "open()")
    assert tracer.flush()
    tracer.stop()
    assert rows(tmp_path / "trace")[0][2] == "/new"


def test_a_file_that_cannot_be_written_harms_nobody(tmp_path, caplog):
    tracer = Tracer(str(tmp_path / "none" / "trace"))
    tracer.start()
    assert tracer.flush()
    tracer.stop()
    assert "lines of the access trace are lost: No such file or directory" in caplog.text


def test_a_pipe_that_nobody_reads_harms_nobody(tmp_path, caplog):
    os.mkfifo(tmp_path / "trace")
    tracer = Tracer(str(tmp_path / "trace"))
    tracer.start()
    assert tracer.flush()
    tracer.stop()
    assert "lines of the access trace are lost: No such device or address" in caplog.text


def test_a_flush_without_a_writer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("cvfs.client.observe.tracer._FLUSH_WITHIN", 0.05)
    assert not Tracer(str(tmp_path / "trace")).flush()
