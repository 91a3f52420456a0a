"""What parameters change about a mounted tree: owners, attributes, tags to browse, numbers that last, writing refused."""

import ctypes
import errno
import hashlib
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

_LONGEST_HANDLE = 128
HELLO = "/files/hello.txt"


@pytest.fixture
def mounted(fixture_repository, web, client) -> Callable[..., object]:
    """Mounts the fixture with parameters."""
    published = fixture_repository("tiny.example.org")
    server = web(published.root)
    made = client(published, server.url)

    def mount(**parameters: str):
        options = [option for name, value in parameters.items() for option in ("-o", f"{name}={value}")]
        made.mount(*options)
        return made

    return mount


def attribute(path: Path, name: str) -> bytes:
    return os.getxattr(path, f"user.{name}")


@pytest.mark.both_bindings
def test_attributes_by_way_of_the_kernel(mounted):
    one = mounted()
    hello = one.path("files/hello.txt")
    assert len(os.listxattr(one.mountpoint)) == 72
    assert os.listxattr(hello) == []
    assert attribute(hello, "chunks") == b"1"
    assert attribute(hello, "lhash") == b"Not in cache"
    data = hello.read_bytes()
    assert attribute(hello, "chunk_list").splitlines()[1].endswith(b",0,%d" % len(data))
    assert len(attribute(hello, "lhash")) == 40
    assert attribute(one.mountpoint, "pubkeys").startswith(b"-----BEGIN PUBLIC KEY-----")
    assert attribute(one.mountpoint, "pubkeys~?") == b"num_pages, 1"
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        attribute(one.mountpoint, "pubkeys~1")
    assert int(attribute(one.mountpoint, "inode_max")) > 1
    assert attribute(one.mountpoint, "nioerr") == b"0"


@pytest.mark.both_bindings
def test_a_listing_asks_one_file_for_labels_and_access_lists(mounted, tmp_path):
    """The kernel remembers no answer, ls(1) remembers that a file system knows none; and nobody complains of it."""
    one = mounted()
    for command in (
        ["ls", "-lR", "."],
        ["cp", "-a", "names", tmp_path / "copy"],
        ["tar", "--acls", "-cf", "-", "names"],
    ):
        done = subprocess.run(command, cwd=one.mountpoint, capture_output=True, timeout=120, check=True)
        assert done.stderr == b""
        if command[0] == "ls":
            assert done.stdout.count(b"\n") > 100
            assert one.requests().get("GETXATTR", 0) <= 4
    for name in ("security.selinux", "system.posix_acl_access"):
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            os.getxattr(one.path("files/hello.txt"), name)


def test_owners_and_modes(mounted, tmp_path):
    (tmp_path / "uids").write_text("* 4711\n")
    one = mounted(
        CVMFS_UID_MAP=str(tmp_path / "uids"), CVMFS_WORLD_READABLE="yes", CVMFS_MAGIC_XATTRS_VISIBILITY="never"
    )
    for path in (one.mountpoint, one.path("files/hello.txt")):
        shown = path.stat()
        assert (shown.st_uid, shown.st_gid) == (4711, 0)
        assert shown.st_mode & 0o444 == 0o444
    assert os.listxattr(one.mountpoint) == []


@pytest.mark.both_bindings
def test_protected_attributes(mounted):
    one = mounted(CVMFS_XATTR_PROTECTED_XATTRS="user.fqrn", CVMFS_XATTR_PRIVILEGED_GIDS="4242")
    assert attribute(one.mountpoint, "fqrn") == b"tiny.example.org"
    script = "import os, sys; print(os.getxattr(sys.argv[1], 'user.fqrn'))"
    for group, status in ((4242, 0), (4243, 1)):
        command = ["python3", "-c", script, str(one.mountpoint)]
        done = subprocess.run(command, group=group, extra_groups=[], capture_output=True, timeout=60)
        assert done.returncode == status, done.stderr


def test_tags_are_browsed_inside_the_mount(mounted, fixture_repository):
    one = mounted(CVFS_SNAPSHOTS="yes")
    assert ".cvmfs" not in os.listdir(one.mountpoint)
    snapshots = one.path(".cvmfs/snapshots")
    assert {"s1", "s2", "s3", "s4", "s5"} <= set(os.listdir(snapshots))
    for tag in ("s1", "s5"):
        shown = next(e for e in fixture_repository("tiny.example.org").manifests[tag]["entries"] if e["path"] == HELLO)
        data = (snapshots / tag / HELLO.lstrip("/")).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shown["sha256"]
    found = subprocess.run(["find", snapshots / "s1"], capture_output=True, check=True, timeout=120).stdout
    assert found.count(b"\n") > 100
    with pytest.raises(FileNotFoundError):
        os.listdir(snapshots / "none")


@pytest.mark.both_bindings
def test_writing_is_refused_at_once(mounted):
    one = mounted(CVMFS_MOUNT_RW="yes")
    hello = one.path("files/hello.txt")
    assert hello.read_bytes()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            os.open(hello, flags)
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        os.open(one.path("files/new"), os.O_WRONLY | os.O_CREAT)
    with pytest.raises(FileExistsError):
        os.open(hello, os.O_RDONLY | os.O_CREAT | os.O_EXCL)


@pytest.mark.parametrize(("suid", "flags"), [("no", os.ST_NOSUID | os.ST_NODEV), ("yes", 0)])
def test_set_user_id_programs_and_devices_work_on_request_only(mounted, suid, flags):
    one = mounted(CVMFS_SUID=suid, CVFS_NOEXEC=suid)
    shown = os.statvfs(one.mountpoint).f_flag
    assert bool(shown & os.ST_NOEXEC) is (suid == "yes")
    assert shown & (os.ST_NOSUID | os.ST_NODEV) == flags
    assert shown & os.ST_RDONLY


class _Handle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_char * _LONGEST_HANDLE))


def handle_of(path: Path) -> bytes:
    """As an NFS server names a file to its clients."""
    libc, handle, mount = ctypes.CDLL(None, use_errno=True), _Handle(_LONGEST_HANDLE, 0, b""), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))
    return bytes(handle)[: 8 + handle.bytes]


def open_handle(mountpoint: Path, handle: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        descriptor: int = libc.open_by_handle_at(directory, ctypes.create_string_buffer(handle), os.O_RDONLY)
    finally:
        os.close(directory)
    if descriptor < 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))
    return descriptor


@pytest.mark.native_only("file handles of libfuse 2 do not last")
def test_numbers_and_handles_outlive_the_mount(mounted):
    """Killed and mounted again: the same numbers, and what an NFS client holds is found without a path."""
    one = mounted(CVMFS_NFS_SOURCE="yes", CVMFS_NFS_INTERLEAVED_INODES="1%4")
    names = ["files", "files/hello.txt", "deep/moved00/level01/level02", "chunked/random_1m"]
    before = {name: one.path(name).stat().st_ino for name in names}
    assert {number % 4 for number in before.values()} == {1}
    handles = {name: handle_of(one.path(name)) for name in names}
    pid = one.state()["pid"]
    os.kill(pid, signal.SIGKILL)
    assert one.wait_gone(pid)
    again = mounted(CVMFS_NFS_SOURCE="yes", CVMFS_NFS_INTERLEAVED_INODES="1%4")
    descriptor = open_handle(again.mountpoint, handles["files/hello.txt"])
    try:
        assert os.fstat(descriptor).st_ino == before["files/hello.txt"]
        assert os.read(descriptor, 2**20) == again.read("files/hello.txt")
    finally:
        os.close(descriptor)
    os.close(open_handle(again.mountpoint, handles["deep/moved00/level01/level02"]))
    assert {name: again.path(name).stat().st_ino for name in reversed(names)} == before
    unknown = struct.pack("=Ii", *struct.unpack_from("=Ii", handles["files"])) + b"\x05\xff\xff\x00" + bytes(32)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        open_handle(again.mountpoint, unknown)
