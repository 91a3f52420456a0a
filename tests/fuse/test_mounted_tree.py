"""Real mounts of a tree in memory: what programs see, and what the kernel asks for it.

The server runs in a thread of the test process, so the process must not wait for the mount while it holds the
interpreter's lock: no mmap, no working directory and no program inside the mount.
"""

import errno
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from cvfs.fuse import mount_points
from cvfs.kernel import mount_table

pytestmark = pytest.mark.system

ROOT = 1
DEADLINE = 20.0


def run(*command: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **kwargs)


# --- what programs see, by either binding -----------------------------------------------------------------------------


def test_listing(mounted):
    path = os.fsencode(mounted.path)
    with os.scandir(path) as entries:
        listed = {entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries}
    assert listed == {
        b"dir": (True, False),
        b"small": (False, False),
        b"large": (False, False),
        b"empty": (False, False),
        b"not UTF-8 \xff\xfe": (False, False),
        b"link": (False, True),
    }
    assert Path(mounted.path, "dir").is_dir()
    assert Path(os.fsdecode(path + b"/not UTF-8 \xff\xfe")).read_bytes() == b"named\n"


def test_attributes(mounted, tree):
    attributes = tree.nodes[tree.children[ROOT][b"large"]]
    found = os.stat(f"{mounted.path}/large")
    assert (found.st_ino, found.st_mode, found.st_nlink) == (attributes.ino, stat.S_IFREG | 0o644, 1)
    assert (found.st_uid, found.st_gid, found.st_size) == (0, 0, attributes.size)
    assert found.st_blocks == attributes.blocks
    assert found.st_mtime_ns == attributes.mtime * 10**9 + 5


def test_reading(mounted, tree):
    path, large = Path(mounted.path), tree.contents[tree.children[ROOT][b"large"]]
    assert len(large) > 3 << 20
    assert (path / "large").read_bytes() == large
    assert (path / "empty").read_bytes() == b""
    with (path / "large").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 20, len(large) - 10) == large[-10:]
        assert os.pread(file.fileno(), 20, len(large) + 10) == b""
    assert (path / "link").readlink() == Path("dir/deeper/file")
    assert (path / "link").read_bytes() == b"in depth\n"


def test_extended_attributes(mounted):
    path = f"{mounted.path}/small"
    assert sorted(os.listxattr(path)) == ["user.empty", "user.hash"]
    assert os.getxattr(path, "user.hash") == b"0123\xff"
    assert os.getxattr(path, "user.empty") == b""
    with pytest.raises(OSError) as caught:
        os.getxattr(path, "user.none")
    assert caught.value.errno == errno.ENODATA
    assert os.listxattr(f"{mounted.path}/large") == []


def test_failures(mounted):
    path = mounted.path
    for code, act in (
        (errno.ENOENT, lambda: os.stat(f"{path}/missing")),
        (errno.ENOTDIR, lambda: os.stat(f"{path}/small/below")),
        (errno.EROFS, lambda: os.open(f"{path}/new", os.O_CREAT | os.O_WRONLY)),
        (errno.EROFS, lambda: os.unlink(f"{path}/small")),
        (errno.EINVAL, lambda: os.readlink(f"{path}/small")),
        (errno.EISDIR, lambda: os.open(f"{path}/dir", os.O_WRONLY)),
    ):
        with pytest.raises(OSError) as caught:
            act()
        assert caught.value.errno == code


def test_size_of_the_filesystem(mounted):
    size = os.statvfs(mounted.path)
    assert (size.f_bsize, size.f_blocks, size.f_bfree, size.f_files, size.f_ffree) == (4096, 1000, 250, 77, 11)
    assert size.f_namemax == 255
    assert size.f_flag & os.ST_RDONLY


def test_programs(mounted):
    found = run("find", mounted.path, "-type", "f", "-size", "+0", "-printf", "%P\\n").stdout.splitlines()
    assert sorted(found) == sorted([b"dir/deeper/file", b"small", b"large", b"not UTF-8 \xff\xfe"])
    assert run("cat", f"{mounted.path}/link", f"{mounted.path}/small").stdout == b"in depth\nhello\n"
    assert run("ls", "-laR", mounted.path).returncode == 0


def test_it_looks_like_a_mount_of_the_repository(mounted):
    entry = mount_table.find_mount(mounted.path)
    assert (entry.type, entry.source) == ("fuse.cvfs", "test.cern.ch")
    assert entry.mountpoint == os.fsencode(mounted.path)


# --- what the kernel asks ---------------------------------------------------------------------------------------------


def read_file(path: str) -> bytes:
    """By system calls alone: `open` would ask whether the file is a terminal, which the kernel never remembers."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
    finally:
        os.close(descriptor)


def walk(path: str) -> int:
    """Look at and read everything; the number of bytes read."""
    size = 0
    for directory, _, names in os.walk(path):
        for name in names:
            size += len(read_file(os.path.join(directory, name)))
    return size


def test_the_second_pass_asks_nothing(native, tree):
    tree.populate()
    mount = native()
    size = walk(mount.path)
    assert size > 3 << 20
    mount.requests()
    assert walk(mount.path) == size
    assert mount.requests() == {}


def test_missing_names_are_remembered(native):
    mount = native()
    for _ in range(3):
        assert not os.path.lexists(f"{mount.path}/missing")
    assert mount.requests()["LOOKUP"] == 1


def test_a_listing_answers_for_its_entries(native, tree):
    """20,000 entries: no request for a single one of them, and none at all for the second listing."""
    directory = tree.add_directory(b"big")
    for number in range(20_000):
        tree.add_file(b"file%06d" % number, b"x", directory)
    mount = native()
    path = f"{mount.path}/big"
    with os.scandir(path) as entries:
        assert sum(entry.stat().st_size for entry in entries) == 20_000
    asked = mount.requests()
    assert asked["LOOKUP"] == 1
    assert asked["READDIRPLUS"] < 1000
    assert sum(tree.references.values()) == 20_001
    assert len(os.listdir(path)) == 20_000
    os.stat(f"{path}/file019999")
    assert mount.requests() == {}


def sizes_of_reads(tree, monkeypatch) -> list[int]:
    sizes, read = [], tree.read
    monkeypatch.setattr(
        tree, "read", lambda ino, offset, size, wait: (sizes.append(size), read(ino, offset, size, wait))[1]
    )
    return sizes


def test_reads_of_a_mebibyte(native, tree, monkeypatch):
    content = os.urandom(8 << 20)
    tree.add_file(b"a", content)
    sizes = sizes_of_reads(tree, monkeypatch)
    mount = native()
    assert mount_points.raise_read_ahead(mount.path, 1 << 20)
    assert Path(mount.path, "a").read_bytes() == content
    assert max(sizes) == 1 << 20
    assert sum(sizes) == len(content)
    assert len(sizes) <= 12


def test_read_ahead_of_what_is_not_mounted(place):
    assert mount_points.raise_read_ahead(place, 1 << 20) is False


def test_references_are_given_back(native, tree):
    """Dropping the kernel's caches makes it forget; what is open it keeps."""
    tree.populate()
    mount = native()
    walk(mount.path)
    assert len(tree.referenced()) > 5
    small = tree.children[ROOT][b"small"]
    with open(f"{mount.path}/small", "rb"):
        for name, ino in tree.children[ROOT].items():
            mount.server.invalidate_entry(ROOT, name)
            mount.server.prune([ino])
        assert mount.server.flush_notifications(DEADLINE)
        os.statvfs(mount.path)
        assert tree.references[small] == 1


def test_opening_with_messages(native, tree):
    ino, direct = tree.add_file(b"a", b"text"), tree.add_file(b"direct", b"text")
    tree.direct.add(direct)
    mount = native(zero_message_open=False)
    with open(f"{mount.path}/a", "rb", buffering=0) as file:
        assert file.read() == b"text"
        assert tree.opens == {ino: 1}
    for _ in range(2):
        assert Path(mount.path, "direct").read_bytes() == b"text"
        assert Path(mount.path, "a").read_bytes() == b"text"
    asked = mount.requests()
    assert asked["OPEN"] == 5
    assert tree.calls["read"] >= 3
    os.listdir(mount.path)
    assert mount.requests()["OPENDIR"] == 1


def test_kernel_keeps_access_lists_if_told_to(native, tree):
    """Without the ability every ls(1) asks again; with it the kernel remembers that there is none."""
    tree.add_file(b"a", b"")
    mount = native(posix_acl=True)
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            os.getxattr(f"{mount.path}/a", "system.posix_acl_access")
        assert caught.value.errno == errno.ENODATA
    assert mount.requests().get("GETXATTR", 0) <= 1


# --- waiting and interrupting -----------------------------------------------------------------------------------------


def stalled_process(tree, method: str, *command: str) -> subprocess.Popen:
    """A process that hangs in a request of the mount."""
    tree.stalled = {method}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert tree.arrived.acquire(timeout=DEADLINE)
    return process


@pytest.mark.parametrize(
    ("method", "command"),
    [("lookup", ["stat", "{}/a"]), ("read", ["cat", "{}/a"]), ("listing", ["ls", "-f", "{}/"])],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_process_that_waits(native, tree, method, command, number):
    """Its request stays stalled until after the process has ended."""
    tree.add_file(b"a", b"text")
    mount = native()
    process = stalled_process(tree, method, *(word.format(mount.path) for word in command))
    process.send_signal(number)
    assert process.wait(DEADLINE) == -number
    process.communicate()
    assert not tree.release.is_set()
    tree.stalled.clear()
    tree.release.set()
    assert Path(mount.path, "a").read_bytes() == b"text"


def test_a_download_delays_nobody_else(native, tree):
    tree.add_file(b"slow", b"slow")
    tree.add_file(b"fast", b"fast")
    mount = native()
    assert Path(mount.path, "fast").stat().st_size == 4
    tree.stalled = {"read"}
    process = stalled_process(tree, "read", "cat", f"{mount.path}/slow")
    assert sorted(os.listdir(mount.path)) == ["fast", "slow"]
    tree.stalled.clear()
    assert Path(mount.path, "fast").read_bytes() == b"fast"
    tree.release.set()
    assert process.communicate(timeout=DEADLINE)[0] == b"slow"


# --- a new revision ---------------------------------------------------------------------------------------------------


def test_a_changed_file_gives_new_bytes_and_an_open_one_keeps_its_own(native, tree):
    tree.add_file(b"a", b"old")
    mount = native()
    with open(f"{mount.path}/a", "rb", buffering=0) as before:
        assert os.listdir(mount.path) == ["a"]
        tree.add_file(b"a", b"newer")
        assert Path(mount.path, "a").read_bytes() == b"old"
        mount.server.invalidate_entry(ROOT, b"a")
        assert mount.server.flush_notifications(DEADLINE)
        assert Path(mount.path, "a").read_bytes() == b"newer"
        assert before.read() == b"old"


def test_a_missing_name_appears_and_the_listing_follows(native, tree):
    mount = native()
    assert os.listdir(mount.path) == []
    assert os.listdir(mount.path) == []
    assert not os.path.lexists(f"{mount.path}/a")
    tree.add_file(b"a", b"text")
    assert not os.path.lexists(f"{mount.path}/a")
    mount.server.invalidate_entry(ROOT, b"a")
    mount.server.invalidate_inode(ROOT, data=True)
    assert mount.server.flush_notifications(DEADLINE)
    assert os.listdir(mount.path) == ["a"]
    assert Path(mount.path, "a").read_bytes() == b"text"


def test_what_the_kernel_never_saw_may_be_invalidated(native):
    mount = native()
    mount.server.invalidate_entry(ROOT, b"never")
    mount.server.invalidate_inode(999, data=True)
    mount.server.prune([998, 999])
    assert mount.server.flush_notifications(DEADLINE)
    assert os.listdir(mount.path) == []


def test_a_listing_in_progress_survives_the_change(native, tree):
    for number in range(5000):
        tree.add_file(b"old%05d" % number, b"")
    mount = native()
    with os.scandir(mount.path) as entries:
        first = next(entries).name
        tree.children[ROOT].clear()
        tree.add_file(b"new", b"")
        mount.server.invalidate_inode(ROOT, data=True)
        assert mount.server.flush_notifications(DEADLINE)
        names = {first, *(entry.name for entry in entries)}
    assert names == {f"old{number:05d}" for number in range(5000)}
