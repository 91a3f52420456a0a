"""The portable binding's operations, called as fusepy calls them; real mounts of it are in test_mount."""

import errno
import importlib
import signal
from types import SimpleNamespace

import pytest

from cvfs.errors import MountError
from cvfs.fuse import fusepy_adapter
from cvfs.fuse.fusepy_adapter import Operations
from cvfs.fuse.mount_points import MountOptions


@pytest.fixture
def populated(tree):
    directory = tree.add_directory(b"dir")
    tree.add_file(b"file\xff", b"0123456789", directory)
    tree.add_link(b"link", b"dir/file\xff")
    tree.xattrs[directory] = {b"user.\xff": b"value"}
    return tree


@pytest.fixture
def operations(populated) -> Operations:
    return Operations(populated)


def test_paths_lead_to_nodes_and_leave_no_reference(operations, populated):
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
    assert populated.referenced() == {}


def test_an_open_file_keeps_its_reference(operations, populated):
    file = SimpleNamespace()
    assert operations("open", "/dir/file\xff", file) == 0
    assert populated.referenced() == {3: 1}
    assert populated.opens == {3: 1}
    assert (file.keep_cache, file.direct_io) == (True, False)
    assert operations("read", "/whatever", 4, 8, file) == b"89"
    operations("release", "/whatever", file)
    assert populated.referenced() == {}
    assert populated.opens == {3: 0}


def test_direct_io_is_passed_on(operations, populated):
    populated.direct.add(3)
    file = SimpleNamespace()
    operations("open", "/dir/file\xff", file)
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
    ],
)
def test_failures_become_errno_and_leave_no_reference(operations, populated, operation, arguments, code):
    with pytest.raises(OSError) as caught:
        operations(operation, *arguments)
    assert caught.value.errno == code
    assert populated.referenced() == {}


def test_what_nobody_foresaw_is_eio_and_logged(operations, populated, caplog):
    populated.broken = ZeroDivisionError("surprise")
    with pytest.raises(OSError) as caught:
        operations("getattr", "/dir", None)
    assert caught.value.errno == errno.EIO
    assert "surprise" in caplog.text


def test_size_of_the_filesystem(operations):
    size = operations("statfs", "/")
    assert (size["f_blocks"], size["f_bfree"], size["f_bavail"], size["f_files"]) == (1000, 250, 250, 77)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(ImportError("No module named fuse"), "pip install"), (OSError("Unable to find libfuse"), "install libfuse 2")],
)
def test_a_missing_binding_names_the_remedy(monkeypatch, error, remedy):
    def missing(_name):
        raise error

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MountError, match=remedy):
        fusepy_adapter.load_fusepy()


def test_what_libfuse_is_told(monkeypatch, populated):
    """Timeouts are cut, since nothing can be invalidated; a status of libfuse is a mount error."""
    told = {}

    def refuse(_operations, mountpoint, **options):
        told.update(options, mountpoint=mountpoint)
        raise RuntimeError(1)

    monkeypatch.setattr(fusepy_adapter, "load_fusepy", lambda: SimpleNamespace(FUSE=refuse))
    with pytest.raises(MountError, match="libfuse ended with status 1"):
        fusepy_adapter.serve(populated, "/mnt/\udcff", MountOptions("x.org", allow_other=True), 86400)
    assert told["mountpoint"] == "/mnt/\xff"
    assert (told["entry_timeout"], told["attr_timeout"], told["negative_timeout"]) == (60.0, 60.0, 60.0)
    assert told["ro"] is told["allow_other"] is told["default_permissions"] is told["use_ino"] is True
    assert (told["fsname"], told["subtype"]) == ("x.org", "cvfs")


def test_a_broken_pipe_does_not_kill_the_process_afterwards(monkeypatch, tmp_path):
    """libfuse restores a handler that it never set: the next write to a closed socket would end the process."""

    def libfuse(*_, **__):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    monkeypatch.setattr(fusepy_adapter, "load_fusepy", lambda: SimpleNamespace(FUSE=libfuse))
    try:
        fusepy_adapter.serve(object(), str(tmp_path), MountOptions("test"), 1.0)
        with open("/proc/self/status", encoding="ascii") as status:
            ignored = next(int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
        assert ignored >> (signal.SIGPIPE - 1) & 1
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
