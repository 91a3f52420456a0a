"""Real mounts of a tree in memory: what programs see, what the kernel asks, what happens when the server is gone.

The server runs in a thread of the test process, so the process must not wait for the mount while it holds the
interpreter's lock: no mmap, no working directory and no program inside the mount.
"""

import contextlib
import errno
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cvfs.errors import MountError
from cvfs.fuse import device, fusepy_adapter
from cvfs.fuse.device import Channel, MountOptions
from cvfs.fuse.server import Server, ServerSettings

pytestmark = pytest.mark.system

ROOT = 1
DEADLINE = 20.0
OPTIONS = MountOptions("test.cern.ch", allow_other=True)


class NativeMount:
    """Serves a tree by cvfs's own server; `requests` is what the kernel asked since the last call."""

    def __init__(self, tree, path: str, mount=device.mount_root, **settings) -> None:
        self.path = path
        self.tree = tree
        self.channel = Channel.open(mount(path, OPTIONS))
        self.server = Server(tree, self.channel, ServerSettings(**settings))
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()
        assert self.server.wait_ready(DEADLINE)
        self._before = self.server.counters()

    def requests(self) -> dict[str, int]:
        now = self.server.counters()
        changed = {name: count - self._before.get(name, 0) for name, count in now.items()}
        self._before = now
        return {name: count for name, count in changed.items() if count}

    def die(self) -> None:
        """As a killed server: the mount stays, nobody answers."""
        self.tree.release.set()
        self.server.stop()
        self.thread.join(DEADLINE)
        self.channel.close()

    def stop(self) -> None:
        if device.find_mount(self.path) is not None:
            device.unmount(self.path, lazy=True)
        self.die()
        assert not self.thread.is_alive()


class FusepyMount:
    """The same tree by libfuse 2, which answers in threads of its own."""

    def __init__(self, tree, path: str) -> None:
        self.path = path
        self.thread = threading.Thread(
            target=fusepy_adapter.serve, args=(tree, path, OPTIONS, 60.0), daemon=True, name="fusepy"
        )
        with open("/proc/self/mountinfo", "rb") as table:
            changes = select.poll()
            changes.register(table, select.POLLPRI)
            self.thread.start()
            while device.find_mount(path) is None:
                assert self.thread.is_alive(), "libfuse did not mount"
                assert changes.poll(DEADLINE * 1000), "libfuse did not mount in time"

    def stop(self) -> None:
        device.unmount(self.path, lazy=True)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


@pytest.fixture
def place(tmp_path) -> str:
    """An empty mount point whose name has what mountinfo must escape."""
    path = tmp_path / "mount point\\1"
    path.mkdir()
    return str(path)


@pytest.fixture
def native(tree, place):
    """Mounts natively with these settings; stops what was mounted."""
    with contextlib.ExitStack() as stack:

        def mount(**settings) -> NativeMount:
            mounted = NativeMount(tree, place, **settings)
            stack.callback(mounted.stop)
            return mounted

        yield mount


@pytest.fixture(params=["native", "fusepy"])
def mounted(request, tree, place):
    """A populated tree, mounted by one binding after the other."""
    populate(tree)
    if request.param == "fusepy" and os.environ.get("CI") != "true":
        try:
            fusepy_adapter.load_fusepy()
        except MountError as error:
            pytest.skip(str(error))
    mount = NativeMount(tree, place) if request.param == "native" else FusepyMount(tree, place)
    yield mount
    mount.stop()


LARGE = bytes(range(256)) * (3 << 12) + b"the end"


def populate(tree) -> None:
    directory = tree.add_directory(b"dir")
    deeper = tree.add_directory(b"deeper", directory)
    tree.add_file(b"file", b"in depth\n", deeper)
    small = tree.add_file(b"small", b"hello\n")
    tree.xattrs[small] = {b"user.hash": b"0123\xff", b"user.empty": b""}
    tree.add_file(b"large", LARGE)
    tree.add_file(b"empty", b"")
    tree.add_file(b"not UTF-8 \xff\xfe", b"named\n")
    tree.add_link(b"link", b"dir/deeper/file")


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
    assert (found.st_uid, found.st_gid, found.st_size) == (0, 0, len(LARGE))
    assert found.st_blocks == attributes.blocks
    assert found.st_mtime_ns == attributes.mtime * 10**9 + 5


def test_reading(mounted):
    path = Path(mounted.path)
    assert (path / "large").read_bytes() == LARGE
    assert (path / "empty").read_bytes() == b""
    with (path / "large").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 20, len(LARGE) - 10) == LARGE[-10:]
        assert os.pread(file.fileno(), 20, len(LARGE) + 10) == b""
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
    entry = device.find_mount(mounted.path)
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
    populate(tree)
    mount = native()
    size = walk(mount.path)
    assert size > len(LARGE)
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
    assert device.raise_read_ahead(mount.path, 1 << 20)
    assert Path(mount.path, "a").read_bytes() == content
    assert max(sizes) == 1 << 20
    assert sum(sizes) == len(content)
    assert len(sizes) <= 12


def test_read_ahead_of_what_is_not_mounted(place):
    assert device.raise_read_ahead(place, 1 << 20) is False


def test_references_are_given_back(native, tree):
    """Dropping the kernel's caches makes it forget; what is open it keeps."""
    populate(tree)
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


# --- mounting and unmounting ------------------------------------------------------------------------------------------


def test_a_dead_mount_is_cleaned_and_mounted_again(native, tree, place):
    """The kernel's caches still answer for the root, so only a question that it cannot answer shows the truth."""
    tree.add_file(b"a", b"text")
    dead = native()
    os.listdir(place)
    dead.die()
    with pytest.raises(OSError) as caught:
        os.statvfs(place)
    assert caught.value.errno == errno.ENOTCONN
    assert device.clean_dead_mount(place) is True
    assert device.find_mount(place) is None
    again = native()
    assert Path(again.path, "a").read_bytes() == b"text"


def test_dead_mounts_upon_each_other_are_all_cleaned(native, place):
    for _ in range(2):
        native().die()
    assert device.clean_dead_mount(place) is True
    assert device.find_mount(place) is None


def test_living_mounts_are_left_alone(native, place):
    assert device.clean_dead_mount(place) is False
    native()
    assert device.clean_dead_mount(place) is False
    assert os.listdir(place) == []


def test_a_server_that_hangs_is_reported(native, tree, place, monkeypatch):
    monkeypatch.setattr(device, "PROBE_DEADLINE", 0.2)
    native()
    monkeypatch.setattr(tree, "statfs", lambda: tree.release.wait(DEADLINE))
    with pytest.raises(MountError, match="does not answer"):
        device.clean_dead_mount(place)


def test_a_busy_mount_is_unmounted_lazily_only(native, tree):
    tree.add_file(b"a", b"text")
    mount = native()
    with open(f"{mount.path}/a", "rb", buffering=0) as file:
        with pytest.raises(MountError, match="busy"):
            device.unmount(mount.path)
        device.unmount(mount.path, lazy=True)
        assert device.find_mount(mount.path) is None
        assert file.read() == b"text"
    mount.thread.join(DEADLINE)
    assert not mount.thread.is_alive()


def test_unmounting_ends_the_server(native):
    mount = native()
    device.unmount(mount.path)
    mount.thread.join(DEADLINE)
    assert not mount.thread.is_alive()
    with pytest.raises(MountError, match="not a mount point"):
        device.unmount(mount.path)


@pytest.mark.parametrize("mount", [device.mount_root, device.mount_fusermount])
@pytest.mark.parametrize("kind", ["missing", "file"])
def test_unsuitable_places_are_refused(tmp_path, mount, kind):
    path = tmp_path / "place"
    if kind == "file":
        path.touch()
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError, match="place: "):
        mount(str(path), OPTIONS)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_fusermount_hands_over_the_descriptor(tree, place, monkeypatch):
    """The way of users without root, who own neither the device nor the right to mount."""
    if not any(os.access(f"{directory}/fusermount3", os.X_OK) for directory in ("/bin", "/usr/bin")):
        pytest.skip("fusermount3 is not installed")
    tree.add_file(b"a", b"text")
    mount = NativeMount(tree, place, mount=device.mount_fusermount)
    try:
        assert Path(place, "a").read_bytes() == b"text"
        entry = device.find_mount(place)
        assert (entry.type, entry.source) == ("fuse.cvfs", "test.cern.ch")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        device.unmount(place)
        assert device.find_mount(place) is None
        with pytest.raises(MountError, match=r"^unmount /"):
            device.unmount(place)
    finally:
        monkeypatch.undo()
        mount.stop()


def test_without_root_and_helper_the_way_out_is_named(place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(device.shutil, "which", lambda _name: None)
    with pytest.raises(MountError, match="install the package fuse3"):
        device.mount(place, OPTIONS)


NAMESPACE_SCRIPT = """
import os, runpy, sys, threading
from cvfs.fuse import device
from cvfs.fuse.server import Server, ServerSettings
tree = runpy.run_path(sys.argv[1])["MemoryFilesystem"]()
tree.add_file(b"a", b"in a namespace")
channel = device.Channel.open(device.mount(sys.argv[2], device.MountOptions("test.cern.ch")))
server = Server(tree, channel, ServerSettings())
thread = threading.Thread(target=server.serve)
thread.start()
print(open(sys.argv[2] + "/a").read(), device.raise_read_ahead(sys.argv[2], 1 << 20))
device.unmount(sys.argv[2])
thread.join()
"""


def test_mounting_in_a_user_namespace(place):
    """What `cvfs exec` does: no root outside, no helper. There the read-ahead is not ours to raise."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if run(*unshare, "true").returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    conftest = str(Path(__file__).with_name("conftest.py"))
    done = run(
        *unshare,
        sys.executable,
        "-c",
        NAMESPACE_SCRIPT,
        conftest,
        place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.decode().startswith("in a namespace "), done.stderr.decode()
    assert device.find_mount(place) is None
