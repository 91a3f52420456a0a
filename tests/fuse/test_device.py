"""What the device module does without a device: tables of mounts, options, the channel over a socket."""

import errno
import os
import select
import socket

import pytest

from cvfs.errors import MountError
from cvfs.fuse import device, mount_points
from cvfs.fuse.device import Channel
from cvfs.fuse.mount_points import MountOptions


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (MountOptions("x"), ["default_permissions"]),
        (MountOptions("x", allow_other=True, default_permissions=False), ["allow_other"]),
        (MountOptions("x", max_read=1 << 17), ["default_permissions", "max_read=131072"]),
    ],
)
def test_options(options, flags):
    assert options.flags() == flags


@pytest.mark.parametrize("source", ["", "a,allow_other", "a b", "a\\b", "a\n", "é"])
def test_a_source_cannot_smuggle_options(source):
    with pytest.raises(MountError, match="source"):
        MountOptions(source)


def test_without_the_device_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(mount_points, "DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(MountError, match="No such file or directory: load the fuse module"):
        mount_points.mount_root(str(tmp_path), MountOptions("x"))


def test_a_helper_that_fails_is_quoted(monkeypatch, tmp_path):
    helper = tmp_path / "fusermount3"
    monkeypatch.setattr(mount_points.shutil, "which", lambda _name: str(helper))
    with pytest.raises(MountError, match="No such file"):
        mount_points.mount_fusermount(str(tmp_path), MountOptions("x"))
    helper.write_text("#!/bin/sh\necho first >&2\necho second >&2\nexit 3\n")
    helper.chmod(0o755)
    with pytest.raises(MountError, match=r"first; second$"):
        mount_points.mount_fusermount(str(tmp_path), MountOptions("x"))
    helper.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(MountError, match=r"ended with status 3$"):
        mount_points.mount_fusermount(str(tmp_path), MountOptions("x"))
    helper.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(MountError, match="handed over no descriptor"):
        mount_points.mount_fusermount(str(tmp_path), MountOptions("x"))


# --- the channel ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel.open(theirs.detach())
    yield ours, channel
    channel.close()
    ours.close()


def test_messages_pass_whole(pair):
    ours, channel = pair
    ours.send(b"request")
    assert channel.receive() == 7
    assert channel.buffer[:7] == b"request"
    assert channel.reply(5, memoryview(b"payload"))
    assert ours.recv(100) == bytes.fromhex("17000000 00000000 0500000000000000") + b"payload"
    assert channel.reply_error(5, errno.EIO)
    assert ours.recv(100) == bytes.fromhex("10000000 fbffffff 0500000000000000")


def test_a_bell_rings_for_good(pair):
    _, channel = pair
    channel.wake()
    assert channel.receive() == 0
    assert channel.receive() == 0


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [([errno.ENOENT, errno.ENOENT], 5), ([errno.ENODEV], 0), ([errno.ECONNABORTED], 0), ([errno.EIO], OSError)],
)
def test_failures_of_reading(pair, monkeypatch, codes, outcome):
    """ENOENT: a signal took the request back before it was read; the next one comes."""
    ours, channel = pair
    ours.send(b"after")
    readv, left = os.readv, list(codes)

    def failing(descriptor, vector):
        if left:
            code = left.pop(0)
            raise OSError(code, os.strerror(code))
        return readv(descriptor, vector)

    monkeypatch.setattr(os, "readv", failing)
    if outcome is OSError:
        with pytest.raises(OSError, match="Input/output"):
            channel.receive()
    else:
        assert channel.receive() == outcome
    assert left == []


def test_an_abandoned_descriptor_is_nobodys(pair):
    """Whoever held its number and writes late writes to nobody, whatever was opened meanwhile."""
    ours, channel = pair
    number = channel._descriptor
    channel.abandon()
    assert ours.recv(100) == b""
    assert os.readlink(f"/proc/self/fd/{number}") == os.devnull
    assert not os.get_inheritable(number)
    assert channel.reply(2, b"x") is False
    channel.abandon()
    channel.wake()
    os.close(number)


def test_writing_to_what_is_gone_says_so(pair):
    ours, channel = pair
    ours.close()
    assert channel.reply(2, b"x") is False
    channel.close()
    assert channel.notify(b"x") is False
    channel.wake()


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({}, 1 | 2 | 4),
        ({"executable": False}, 1 | 2 | 4 | 8),
        ({"suid": True}, 1),
        ({"read_write": True}, 2 | 4),
        ({"suid": True, "read_write": True}, 0),
    ],
)
def test_options_that_are_bits(changes, bits):
    """Read-only, no set-user-id programs, no devices: unless asked for."""
    assert MountOptions("x", **changes).bits() == bits


class Scripted:
    """A device and its clock: what each look at it finds, and how long each sleep takes; a look takes 10 µs."""

    def __init__(self, patch: pytest.MonkeyPatch, *, processors: int) -> None:
        self.now, self.sleeps, self.found, self.looks = 0.0, [], [], 0
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
        patch.setattr(os, "readv", self._look)
        patch.setattr(device.time, "monotonic", lambda: self.now)
        self._descriptor = os.eventfd(0)
        self.channel = Channel.open(self._descriptor)
        patch.setattr(self.channel, "_poll", self)

    def _look(self, _descriptor, _vector) -> int:
        self.looks += 1
        self.now += 10e-6
        if found := self.found.pop(0):
            return found
        raise BlockingIOError

    def poll(self) -> list[tuple[int, int]]:
        self.now += self.sleeps.pop(0)
        return [(self._descriptor, select.POLLIN)]

    def receive(self, *found: int, sleeps: tuple[float, ...] = (), alert: bool = True) -> int:
        """Looks that it takes to receive what there is at last, everything found and every sleep slept."""
        self.found, self.sleeps, self.looks = list(found), list(sleeps), 0
        assert self.channel.receive(alert=alert) == found[-1]
        assert (self.found, self.sleeps) == ([], [])
        return self.looks


@pytest.fixture
def scripted(monkeypatch):
    made = []

    def make(processors: int = 2) -> Scripted:
        made.append(Scripted(monkeypatch, processors=processors))
        return made[-1]

    yield make
    for script in made:
        script.channel.close()


SOON, LATE = (60e-6,), (1e-3,)


def test_requests_that_follow_closely_are_watched_for(scripted):
    script = scripted()
    script.receive(0, 80, sleeps=SOON)
    script.receive(0, 0, 0, 80)
    script.receive(80)
    script.receive(0, 0, 80)


def test_watching_ends_and_is_not_begun_again_before_a_request_came_soon(scripted):
    script = scripted()
    script.receive(0, 80, sleeps=SOON)
    # The moment is 50 µs, seven looks until it is over; then sleep, and one more.
    script.receive(*[0] * 7, 80, sleeps=SOON)
    assert script.receive(0, 80, sleeps=LATE) == 2
    assert script.receive(0, 80, sleeps=SOON) == 2
    script.receive(0, 0, 80)


@pytest.mark.parametrize(("processors", "alert"), [(1, True), (2, False)])
def test_nobody_watches_who_would_be_in_the_way(scripted, processors, alert):
    script = scripted(processors)
    for _ in range(3):
        assert script.receive(0, 80, sleeps=SOON, alert=alert) == 2
