"""The portable binding's operations, called as fusepy calls them; real mounts of it are in test_mounted_tree."""

import errno
import os
import threading
from types import SimpleNamespace

import pytest

from cvfs.attributes import FilesystemSize
from cvfs.fuse.calls import Calls
from cvfs.fuse.fusepy_operations import Operations
from cvfs.fuse.path_operations import PathOperations


@pytest.fixture
def populated(tree):
    directory = tree.add_directory(b"dir")
    tree.add_file(b"file\xff", b"0123456789", directory)
    tree.add_link(b"link", b"dir/file\xff")
    tree.xattrs[directory] = {b"user.\xff": b"value"}
    return tree


@pytest.fixture
def signals() -> threading.Event:
    """Set when whoever waits was sent one."""
    return threading.Event()


@pytest.fixture
def calls(signals):
    one = Calls(4, signals.is_set)
    one.begin()
    yield one
    one.stop()


@pytest.fixture
def operations(populated, calls) -> Operations:
    return Operations(PathOperations(populated, 0.0), calls, lambda: None, os.getgid, 0.0)


def opening(flags: int = os.O_RDONLY) -> SimpleNamespace:
    """libfuse's structure."""
    return SimpleNamespace(flags=flags, fh=0, direct_io=0, keep_cache=0)


def test_paths_lead_to_nodes(operations, populated):
    """fusepy gives names in latin-1, one character a byte."""
    attributes = populated.nodes[3]
    found = operations("getattr", "/dir/file\xff", None)
    assert found["st_ino"] == 3
    assert found["st_size"] == 10
    assert found["st_mode"] == attributes.mode
    assert found["st_mtime"] == attributes.mtime * 10**9 + attributes.mtime_ns
    assert operations("getattr", "/", None)["st_ino"] == 1
    assert operations("readlink", "/link") == "dir/file\xff"
    assert operations("getxattr", "/dir", "user.\xff") == b"value"
    assert operations("listxattr", "/dir") == ["user.\xff"]
    assert [name for name, _, _ in operations("readdir", "/dir", 0)] == [".", "..", "file\xff"]
    assert operations("opendir", "/dir") == 0
    # Who was looked at keeps its number; whoever was only passed by is forgotten.
    assert populated.referenced() == {3: 1}


def test_an_open_file_keeps_its_reference(operations, populated):
    file = opening()
    assert operations("open", "/dir/file\xff", file) == 0
    assert populated.referenced() == {3: 1}
    assert populated.opens == {3: 1}
    assert operations("read", "/whatever", 4, 8, file) == b"89"
    assert operations("getattr", "/whatever", file)["st_ino"] == 3
    operations("release", "/whatever", file)
    assert populated.opens == {3: 0}
    assert operations("getattr", "/dir/file\xff", None)["st_ino"] == 3
    assert populated.referenced() == {3: 1}


def test_pages_are_kept_as_soon_as_they_are_known_to_be_the_files_own(operations):
    kept = []
    for _ in range(3):
        file = opening()
        operations("open", "/dir/file\xff", file)
        kept.append(file.keep_cache)
        operations("read", "/dir/file\xff", 4, 0, file)
        operations("release", "/dir/file\xff", file)
    assert kept == [False, True, True]


def test_direct_io_is_passed_on(operations, populated):
    populated.direct.add(3)
    for _ in range(2):
        file = opening()
        operations("open", "/dir/file\xff", file)
        operations("read", "/dir/file\xff", 4, 0, file)
        assert (file.keep_cache, file.direct_io) == (False, True)


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("getattr", ("/missing", None), errno.ENOENT),
        ("getattr", ("/dir/missing/below", None), errno.ENOENT),
        ("getattr", ("/link/below", None), errno.ENOTDIR),
        ("readlink", ("/dir",), errno.EINVAL),
        ("readdir", ("/dir/file\xff", 0), errno.ENOTDIR),
        ("getxattr", ("/dir", "user.none"), errno.ENODATA),
        ("open", ("/dir/file\xff", opening(os.O_RDWR)), errno.EROFS),
        ("open", ("/missing", opening()), errno.ENOENT),
        ("mkdir", ("/new", 0o755), errno.EROFS),
        ("unlink", ("/dir/file\xff",), errno.EROFS),
    ],
)
def test_failures_become_errno_and_leave_no_reference(operations, populated, operation, arguments, code):
    with pytest.raises(OSError) as caught:
        operations(operation, *arguments)
    assert caught.value.errno == code
    assert populated.referenced() == {}


def test_what_nobody_foresaw_is_eio_and_logged_and_counted(operations, populated, calls, caplog):
    populated.broken = ZeroDivisionError("surprise")
    with pytest.raises(OSError) as caught:
        operations("getattr", "/dir", None)
    assert caught.value.errno == errno.EIO
    assert "surprise" in caplog.text
    assert calls.io_errors()[0] == 1
    calls.reset_io_errors()
    assert calls.io_errors() == (0, 0.0)


def test_size_of_the_filesystem(operations):
    size = operations("statfs", "/")
    assert (size["f_blocks"], size["f_bfree"], size["f_bavail"], size["f_files"]) == (1000, 250, 250, 77)


def test_an_answer_about_the_size_serves_again_for_as_long_as_it_may(populated, calls):
    operations = Operations(PathOperations(populated, 0.0), calls, lambda: None, os.getgid, 3600.0)
    first = operations("statfs", "/")
    populated.statfs = lambda: FilesystemSize(1, 2, 3, 4, 5)
    assert operations("statfs", "/") == first


def test_an_opening_that_fails_leaves_nothing_open(operations, populated, monkeypatch):
    def refuse(_ino, wait):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(populated, "opened", refuse)
    with pytest.raises(OSError) as caught:
        operations("open", "/dir/file\xff", opening())
    assert caught.value.errno == errno.EMFILE
    assert populated.opens == {}
    assert populated.referenced() == {3: 1}


def test_a_reader_that_was_interrupted_while_its_file_was_opened_leaves_it_closed(
    operations, populated, calls, signals
):
    """The worker goes on, and its answer comes when nobody wants it."""
    populated.stalled = {"opened"}
    signals.set()
    file = opening()
    with pytest.raises(InterruptedError):
        operations("open", "/dir/file\xff", file)
    assert file.fh == 0
    populated.release.set()
    calls.stop()
    assert calls.drain(20)
    assert populated.opens == {3: 0}
