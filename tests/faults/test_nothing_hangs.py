"""No operation of a mount, of its control socket or of its process waits for ever while nobody answers."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytestmark = pytest.mark.system

TIMEOUT = 1
# Where something has to be done meanwhile.
LONG_TIMEOUT = 4
# Of what needs no network at all.
AT_ONCE = 5.0

_CALLS = {
    "stat": "os.stat(top + '/nested/1/file')",
    "stat of a name that is not there": "os.stat(top + '/nested/2/none')",
    "access": "os.access(top + '/nested/3/file', os.X_OK) or os.stat(top + '/nested/3/file')",
    "listing": "os.listdir(top + '/nested/4')",
    "scandir": "[entry.stat() for entry in os.scandir(top + '/nested/5')]",
    "read": "open(top + '/objects/1', 'rb').read()",
    "read at an offset": "os.pread(os.open(top + '/chunked/2', os.O_RDONLY), 10, 40000)",
    "read of a map": "__import__('mmap').mmap(os.open(top + '/objects/3', os.O_RDONLY), 0, prot=1)[0]",
    "attribute": "os.getxattr(top + '/nested/6/file', 'user.hash')",
    "attributes": "os.listxattr(top + '/nested/7/file')",
    "link": "os.readlink(top + '/nested/8/file')",
    "working directory": "(os.chdir(top + '/nested/9'), os.listdir('.'))",
}


def bound(timeout: float) -> float:
    """The kernel may ask twice, and the machine may be busy."""
    return 4 * timeout + 4.0


@pytest.fixture
def stalled(request, tree, peer, mounted, tmp_path):
    """A mount with an almost empty cache, whose only server answers nobody; a file and a catalog are cached."""
    release = tree.copy(tmp_path / "release")
    server, client = peer(release.root), mounted(tree)
    timeout = getattr(request, "param", TIMEOUT)
    client.mount([server], CVMFS_TIMEOUT_DIRECT=timeout, CVMFS_BACKOFF_INIT=1, CVMFS_BACKOFF_MAX=1)
    for directory in ("objects", "nested", "nested/0", "chunked"):
        os.listdir(client.path(directory))
    client.path("objects/0").read_bytes()
    server.misbehave("silent")
    return client, server


@pytest.mark.parametrize("stalled", [LONG_TIMEOUT], indirect=True)
def test_every_call_returns(stalled, fuse_binding):
    """All at once, each in a process of its own: none is waited for by another one, and each has an error to tell."""
    client, server = stalled
    started = time.monotonic()
    callers = {name: call(client.mountpoint, code) for name, code in _CALLS.items()}
    at_once = [
        "os.listdir(top)",
        "os.listdir(top + '/nested/0')",
        "open(top + '/objects/0', 'rb').read(1)",
        "os.statvfs(top)",
        "[os.getxattr(top, 'user.' + name) for name in ('fqrn', 'revision', 'root_hash', 'pid')]",
    ]
    for code in at_once:
        assert (code, *ended(call(client.mountpoint, code), started + AT_ONCE)) == (code, 0, "")
    outcomes = {name: ended(process, started + bound(LONG_TIMEOUT)) for name, process in callers.items()}
    # The kernel has no other way to tell it to a program that reads a map; libfuse tells it to who opens the file.
    mapped = {"read of a map": (-signal.SIGBUS, "")} if fuse_binding == "native" else {}
    assert outcomes == dict.fromkeys(_CALLS, (errno.EIO, "")) | mapped
    server.behave()
    deadline = time.monotonic() + 20
    while ended(call(client.mountpoint, _CALLS["read"]), deadline) != (0, ""):
        assert time.monotonic() < deadline


def call(top, code: str) -> subprocess.Popen:
    """A process that ends with the errno of the call."""
    program = (
        f"import os, sys\ntop = sys.argv[1]\ntry:\n    {code}\nexcept OSError as error:\n    os._exit(error.errno)"
    )
    return subprocess.Popen([sys.executable, "-I", "-c", program, top], stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen, deadline: float) -> tuple[int, str]:
    try:
        errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -1, "did not return"
    return process.returncode, errors


@pytest.mark.parametrize("stalled", [LONG_TIMEOUT], indirect=True)
def test_the_control_socket_answers(stalled):
    """While every worker waits, and while a check for a new revision waits."""
    client, server = stalled
    waiting = [subprocess.Popen(["cat", client.path(f"objects/{n}")], stderr=subprocess.DEVNULL) for n in range(1, 40)]
    remount = threading.Thread(target=client.talk, args=("remount sync",))
    remount.start()
    started = time.monotonic()
    for command in ("pid", "revision", "stat", "mountpoint", "version"):
        assert client.talk(command)
    assert time.monotonic() - started < AT_ONCE
    for process in waiting:
        assert process.wait(60) != 0
    remount.join(60)
    assert not remount.is_alive()
    assert server.spoiled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends(stalled, number):
    """Those who wait get an error, and the mount point is free."""
    client, _server = stalled
    waiting = [subprocess.Popen(["cat", client.path(f"objects/{n}")], stderr=subprocess.DEVNULL) for n in range(1, 40)]
    os.kill(client.pid, number)
    for process in waiting:
        assert process.wait(60) != 0
    client.unmount()
    assert not os.path.ismount(client.mountpoint)


def test_a_mount_gives_up(tree, peer, mounted, tmp_path):
    """Nothing is cached, and nobody answers."""
    server, client = peer(tree.copy(tmp_path / "release").root), mounted(tree)
    server.misbehave("silent")
    started = time.monotonic()
    with pytest.raises(AssertionError, match=r"answer|timed out"):
        client.mount([server], CVMFS_TIMEOUT_DIRECT=TIMEOUT)
    assert time.monotonic() - started < bound(TIMEOUT) + 3
    assert not os.path.ismount(client.mountpoint)


def test_offline(stalled, mounted):
    """What is cached keeps working, what is not fails without waiting, a new mount comes up; the network heals it all."""
    client, server = stalled
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        client.path("objects/1").read_bytes()
    started = time.monotonic()
    for number in range(2, 32):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            client.path(f"objects/{number}").read_bytes()
    assert time.monotonic() - started < 30 * TIMEOUT / 2
    client.unmount()
    client.mount([server], CVMFS_TIMEOUT_DIRECT=TIMEOUT)
    assert client.path("objects/0").read_bytes()
    assert len(os.listdir(client.path("nested/0"))) == 2
    server.behave()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            assert client.path("objects/1").read_bytes()
            return
        except OSError:
            threading.Event().wait(0.1)
    pytest.fail("does not recover")
