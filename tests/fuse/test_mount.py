"""Mount points: made by any way, taken away, dead, hanging, or not suitable.

The server runs in a thread of the test process, so the process must not wait for the mount while it holds the
interpreter's lock: no mmap, no working directory and no program inside the mount.
"""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cvfs.errors import MountError
from cvfs.fuse import mount_points
from cvfs.fuse.mount_points import MountOptions
from cvfs.kernel import mount_table

pytestmark = pytest.mark.system

DEADLINE = 20.0
OPTIONS = MountOptions("test.cern.ch", allow_other=True)


def run(*command: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **kwargs)


def test_a_dead_mount_is_cleaned_and_mounted_again(native, tree, place):
    """The kernel's caches still answer for the root, so only a question that it cannot answer shows the truth."""
    tree.add_file(b"a", b"text")
    dead = native()
    os.listdir(place)
    dead.die()
    with pytest.raises(OSError) as caught:
        os.statvfs(place)
    assert caught.value.errno == errno.ENOTCONN
    assert mount_points.clean_dead_mount(place) is True
    assert mount_table.find_mount(place) is None
    again = native()
    assert Path(again.path, "a").read_bytes() == b"text"


def test_dead_mounts_upon_each_other_are_all_cleaned(native, place):
    for _ in range(2):
        native().die()
    assert mount_points.clean_dead_mount(place) is True
    assert mount_table.find_mount(place) is None


def test_of_several_cleaners_one_cleans_and_none_complains(native, place):
    """As a watchdog and the next mount may meet."""
    native().die()
    with ThreadPoolExecutor(4) as cleaners:
        cleaned = list(cleaners.map(lambda _: mount_points.clean_dead_mount(place), range(4)))
    assert sorted(cleaned) == [False, False, False, True]
    assert mount_table.find_mount(place) is None


def test_living_mounts_are_left_alone(native, place):
    assert mount_points.clean_dead_mount(place) is False
    native()
    assert mount_points.clean_dead_mount(place) is False
    assert os.listdir(place) == []


def test_a_server_that_hangs_is_reported(native, tree, place, monkeypatch):
    monkeypatch.setattr(mount_points, "PROBE_DEADLINE", 0.2)
    native()
    monkeypatch.setattr(tree, "statfs", lambda: tree.release.wait(DEADLINE))
    with pytest.raises(MountError, match="does not answer"):
        mount_points.clean_dead_mount(place)


def test_a_busy_mount_is_unmounted_lazily_only(native, tree):
    tree.add_file(b"a", b"text")
    mount = native()
    with open(f"{mount.path}/a", "rb", buffering=0) as file:
        with pytest.raises(MountError, match="busy"):
            mount_points.unmount(mount.path)
        mount_points.unmount(mount.path, lazy=True)
        assert mount_table.find_mount(mount.path) is None
        assert file.read() == b"text"
    mount.thread.join(DEADLINE)
    assert not mount.thread.is_alive()


def test_unmounting_ends_the_server(native):
    mount = native()
    mount_points.unmount(mount.path)
    mount.thread.join(DEADLINE)
    assert not mount.thread.is_alive()
    with pytest.raises(MountError, match="not a mount point"):
        mount_points.unmount(mount.path)


@pytest.mark.parametrize("mount", [mount_points.mount_root, mount_points.mount_fusermount])
@pytest.mark.parametrize("kind", ["missing", "file"])
def test_unsuitable_places_are_refused(tmp_path, mount, kind):
    path = tmp_path / "place"
    if kind == "file":
        path.touch()
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError, match="place: "):
        mount(str(path), OPTIONS)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_fusermount_hands_over_the_descriptor(native, tree, place, monkeypatch):
    """The way of users without root, who own neither the device nor the right to mount."""
    if not any(os.access(f"{directory}/fusermount3", os.X_OK) for directory in ("/bin", "/usr/bin")):
        pytest.skip("fusermount3 is not installed")
    tree.add_file(b"a", b"text")
    native(mount=mount_points.mount_fusermount)
    assert Path(place, "a").read_bytes() == b"text"
    entry = mount_table.find_mount(place)
    assert (entry.type, entry.source) == ("fuse.cvfs", "test.cern.ch")
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 1000)
        mount_points.unmount(place)
        assert mount_table.find_mount(place) is None
        with pytest.raises(MountError, match=r"^unmount /"):
            mount_points.unmount(place)


def test_without_root_and_helper_the_way_out_is_named(place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(mount_points.shutil, "which", lambda _name: None)
    with pytest.raises(MountError, match="install the package fuse3"):
        mount_points.mount(place, OPTIONS)


NAMESPACE_SCRIPT = """
import os, runpy, sys, threading
from cvfs.fuse import device, mount_points
from cvfs.kernel import mount_table
from cvfs.fuse.server import Server, ServerSettings
tree = runpy.run_path(sys.argv[1])["MemoryFilesystem"]()
tree.add_file(b"a", b"in a namespace")
channel = device.Channel.open(mount_points.mount(sys.argv[2], mount_points.MountOptions("test.cern.ch")))
server = Server(tree, channel, ServerSettings())
thread = threading.Thread(target=server.serve)
thread.start()
print(open(sys.argv[2] + "/a").read(), mount_points.raise_read_ahead(sys.argv[2], 1 << 20))
mount_points.unmount(sys.argv[2])
thread.join()
"""


def test_mounting_in_a_user_namespace(place):
    """What `cvfs exec` does: no root outside, no helper. There the read-ahead is not ours to raise."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "slave"]
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
    assert mount_table.find_mount(place) is None
