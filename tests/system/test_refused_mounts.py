"""Mounts that cannot be made: one line that says what, where and what to do, an exit status, and nothing left."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cvfs.kernel.mount_table import find_mount

pytestmark = pytest.mark.system


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


def assert_refused(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("cvfs: ")
    assert all(word in done.stderr for word in words), done.stderr


def test_a_wrong_key(client, tiny, fixture_repository):
    one = client(tiny, f"file://{tiny.root}")
    other = fixture_repository("tiny-shake128.example.org").public_key
    assert_refused(one.try_mount(key=other), 33, "whitelist signature")
    assert find_mount(str(one.mountpoint)) is None


def test_no_server(client, tiny):
    one = client(tiny, "http://127.0.0.1:9")
    assert_refused(one.try_mount(), 34, "http://127.0.0.1:9/tiny.example.org", "refused")
    assert find_mount(str(one.mountpoint)) is None


def test_a_key_that_is_not_there(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    assert_refused(one.try_mount(key="/none.pub"), 2, "/none.pub: No such file")


def test_a_mount_point_that_is_not_there(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    assert_refused(one.try_mount(mountpoint=one.directory / "none"), 2, "none: no such directory, create it first")


def test_a_mount_point_that_is_a_file(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    (one.directory / "file").write_bytes(b"")
    assert_refused(one.try_mount(mountpoint=one.directory / "file"), 2, "Not a directory")


def test_a_mount_point_with_something_in_it(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    one.path("precious").write_bytes(b"x")
    assert_refused(one.try_mount(), 2, "not empty")
    assert one.read("precious") == b"x"


def test_a_mount_point_in_use(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    pid = one.mount()["pid"]
    assert_refused(one.try_mount(), 32, "is mounted already, unmount it first")
    assert one.state()["pid"] == pid


def test_a_tag_that_is_not_there(client, tiny):
    one = client(tiny, f"file://{tiny.root}")
    assert_refused(one.try_mount("-t", "v9"), 2, "no tag 'v9'")


@pytest.mark.both_bindings
def test_a_client_that_dies_while_it_starts(client, tiny, web):
    """The parent neither hangs nor leaves anything behind."""
    server = web(tiny.root)
    one = client(tiny, server.url)

    def kill_children() -> None:
        for pid in os.listdir("/proc"):
            if pid.isdigit() and is_ours(pid):
                os.kill(int(pid), signal.SIGKILL)

    def is_ours(pid: str) -> bool:
        """The fork, not the command that waits for it: its parent is such a command, too."""
        try:
            return all(
                os.fsencode(one.mountpoint) in Path(f"/proc/{n}/cmdline").read_bytes() for n in (pid, parent(pid))
            )
        except OSError:
            return False

    def parent(pid: str) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]

    server.on_request = kill_children
    assert_refused(one.try_mount(), 1, "did not come up")
    assert find_mount(str(one.mountpoint)) is None
