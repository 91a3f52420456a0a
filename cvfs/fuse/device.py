"""The FUSE device: mount points and the channel of one mount; it never interprets a request.

A mount is made by mount(2), as root or as the root of a user namespace, or else by the setuid helper `fusermount3`,
which hands the descriptor over a socket. Nothing here looks into a mount that a server of the same process serves:
that would wait for itself. The state of a mount point comes from /proc/self/mountinfo instead.
"""

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import re
import select
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from cvfs.errors import MountError
from cvfs.fuse import abi

log = logging.getLogger(__name__)

DEVICE = "/dev/fuse"
SUBTYPE = "cvfs"
HELPER_DEADLINE = 30.0
"""Seconds that fusermount may take."""
PROBE_DEADLINE = 5.0
"""Seconds within which a living server answers for the root of its mount."""
BUFFER_SIZE = 1 << 16
"""Bytes of the receive buffer. The kernel demands 8 KiB; a larger one takes more forgotten nodes at a time."""

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_GONE = frozenset({errno.ENODEV, errno.EBADF, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET})
_STACKED_MOUNTS = 16
_LOCK_STEP = 0.02


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a mount appears and who may enter. `source` is what df(1) shows, `max_read` bytes (0: the kernel's limit).

    `owner`, user and group, is whose mount it is, if not the caller's: only root says so. `suid` lets set-user-id programs
    and device files work, which root alone can allow; with `read_write` it is the server that refuses writing.

    Raises MountError for a source that the option syntax of mount(2) and fusermount cannot hold.
    """

    source: str
    allow_other: bool = False
    default_permissions: bool = True
    max_read: int = 0
    owner: tuple[int, int] | None = None
    suid: bool = False
    read_write: bool = False

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Za-z0-9._:/@+-]+", self.source) is None:
            raise MountError(f"mount source {self.source!r}: only letters, digits and ._:/@+- are possible")

    def flags(self) -> list[str]:
        """The options that mount(2) and fusermount spell alike."""
        chosen = [name for name in ("allow_other", "default_permissions") if getattr(self, name)]
        return [*chosen, f"max_read={self.max_read}"] if self.max_read else chosen

    def bits(self) -> int:
        """The options that mount(2) takes as bits."""
        return (0 if self.read_write else _MS_RDONLY) | (0 if self.suid else _MS_NOSUID | _MS_NODEV)


class MountEntry(NamedTuple):
    """A line of /proc/self/mountinfo: device number as "major:minor", place, type, source, of a FUSE mount its user."""

    device: str
    mountpoint: bytes
    type: str
    source: str
    user: int | None = None


# --- mount points -----------------------------------------------------------------------------------------------------


def mount(mountpoint: str | bytes, options: MountOptions) -> int:
    """Mount by the way that the caller's rights allow; returns the descriptor of the device. Raises MountError."""
    if os.geteuid() == 0:
        return mount_root(mountpoint, options)
    return mount_fusermount(mountpoint, options)


def mount_root(mountpoint: str | bytes, options: MountOptions) -> int:
    """Mount by mount(2); returns the descriptor of the device. Raises MountError."""
    place = _absolute(mountpoint)
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{DEVICE}: {error.strerror}: load the fuse module or allow the device") from error
    try:
        _mount(place, options, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _mount(place: bytes, options: MountOptions, descriptor: int) -> None:
    user, group = options.owner or (os.getuid(), os.getgid())
    data = [f"fd={descriptor}", f"rootmode={stat.S_IFDIR:o}", f"user_id={user}", f"group_id={group}"]
    _call(
        f"mount {os.fsdecode(place)}",
        *("mount", options.source.encode(), place, f"fuse.{SUBTYPE}".encode()),
        *(options.bits(), ",".join([*data, *options.flags()]).encode()),
    )


def _call(what: str, function: str, *arguments: bytes | int) -> None:
    """A function of the C library that returns 0 or sets errno."""
    converted = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*converted) != 0:
        code = ctypes.get_errno()
        raise MountError(f"{what}: {_REASONS.get(code, os.strerror(code))}") from OSError(code, os.strerror(code))


_REASONS = {
    errno.EPERM: "not permitted: be root, use a user namespace, or install fusermount3",
    errno.ENOENT: "no such directory: create the mount point",
    errno.ENOTDIR: "not a directory",
    errno.EBUSY: "busy: end the processes that use it (cvfs fuser), or unmount lazily",
    errno.ENODEV: "the kernel has no FUSE: load the fuse module",
    errno.EINVAL: "not a mount point, or not possible there",
    errno.ENOTCONN: "a dead mount is in the way: unmount it first",
}


def mount_fusermount(mountpoint: str | bytes, options: MountOptions) -> int:
    """Mount by the setuid helper; returns the descriptor of the device. Raises MountError."""
    place = _absolute(mountpoint)
    if not os.path.isdir(place):
        # The helper would mount upon a file, and the kernel would take the root for one.
        raise MountError(f"mount {os.fsdecode(place)}: not a directory, or not accessible: create the mount point")
    chosen = [
        f"fsname={options.source}",
        f"subtype={SUBTYPE}",
        "rw" if options.read_write else "ro",
        "nosuid",
        "nodev",
        *options.flags(),
    ]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _fusermount(place, "-o", ",".join(chosen), socket_descriptor=theirs.fileno())
        theirs.close()
        # The helper has ended, so its message is there already: nothing here can wait.
        ours.setblocking(False)
        try:
            descriptors = socket.recv_fds(ours, 1, 1)[1]
        except BlockingIOError:
            descriptors = []
    if not descriptors:
        raise MountError(f"mount {os.fsdecode(place)}: fusermount handed over no descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _fusermount(place: bytes, *options: str, socket_descriptor: int | None = None) -> None:
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    what = f"{'mount' if socket_descriptor is not None else 'unmount'} {os.fsdecode(place)}"
    if helper is None:
        raise MountError(f"{what}: neither root nor fusermount3: install the package fuse3")
    environment = {"PATH": os.defpath, "_FUSE_COMMFD": str(socket_descriptor)}
    try:
        done = subprocess.run(
            [helper, *options, "--", place],
            pass_fds=() if socket_descriptor is None else (socket_descriptor,),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HELPER_DEADLINE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountError(f"{what}: {error}") from error
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
        raise MountError(f"{what}: {complaint or f'{helper} ended with status {done.returncode}'}")


def unmount(mountpoint: str | bytes, *, lazy: bool = False) -> None:
    """Unmount; `lazy` takes the mount out of sight now and ends it with its last user. Raises MountError."""
    place = _absolute(mountpoint)
    if os.geteuid() == 0:
        _call(f"unmount {os.fsdecode(place)}", "umount2", place, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))
    else:
        _fusermount(place, "-u", *(["-z"] if lazy else []))


def find_mount(mountpoint: str | bytes) -> MountEntry | None:
    """The topmost mount at this place, without looking into it."""
    place = _absolute(mountpoint)
    with open("/proc/self/mountinfo", "rb") as table:
        found = [entry for entry in parse_mountinfo(table.read()) if entry.mountpoint == place]
    return found[-1] if found else None


def parse_mountinfo(table: bytes) -> Iterator[MountEntry]:
    """The lines of /proc/self/mountinfo."""
    for line in table.splitlines():
        place, _, origin = line.partition(b" - ")
        fields, source = place.split(b" "), origin.split(b" ")
        user = re.search(rb"(?:^|,)user_id=(\d+)", source[-1])
        yield MountEntry(
            fields[2].decode(),
            _unescape(fields[4]),
            source[0].decode(),
            os.fsdecode(_unescape(source[1])),
            int(user[1]) if user else None,
        )


def _unescape(field: bytes) -> bytes:
    """The kernel writes blanks, line ends and backslashes as three octal digits."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def _absolute(mountpoint: str | bytes) -> bytes:
    """As the kernel names the place: links resolved, but never the mount point itself looked at."""
    parent, name = os.path.split(os.path.abspath(os.fsencode(mountpoint)))
    return os.path.join(os.path.realpath(parent), name)


def clean_dead_mount(mountpoint: str | bytes) -> bool:
    """Take away mounts whose server died ("Transport endpoint is not connected"); True if there was one.

    Raises MountError if the place cannot be cleaned, or if a server holds it that does not answer in time.
    """
    cleaned = False
    # A watchdog and the next mount may come at the same time: what one found dead must not be a new mount when it is
    # taken away.
    with _alone_at(_absolute(mountpoint)):
        for _ in range(_STACKED_MOUNTS):
            entry = find_mount(mountpoint)
            if entry is None or not entry.type.startswith("fuse") or not _is_dead(entry.mountpoint):
                break
            unmount(entry.mountpoint, lazy=True)
            cleaned = True
    return cleaned


@contextlib.contextmanager
def _alone_at(place: bytes) -> Iterator[None]:
    """One cleaner at a time, by a lock on the directory above; who cannot have it in time goes on without."""
    try:
        above = os.open(os.path.dirname(place), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + PROBE_DEADLINE
        while not _try_lock(above) and time.monotonic() < deadline:
            time.sleep(_LOCK_STEP)
        yield
    finally:
        os.close(above)


def _try_lock(descriptor: int) -> bool:
    """False only if another one has the lock: a file system without locks has no cleaners to wait for either."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno != errno.EWOULDBLOCK
    return True


def _is_dead(place: bytes) -> bool:
    """Ask in a thread of its own: a server that hangs would hold the asker for ever.

    Attributes come from the kernel's cache even when the server is dead; statfs always asks.
    """
    answer: list[int] = []

    def probe() -> None:
        try:
            os.statvfs(place)
        except OSError as error:
            answer.append(error.errno or errno.EIO)
        else:
            answer.append(0)

    thread = threading.Thread(target=probe, name="mount-probe", daemon=True)
    thread.start()
    thread.join(PROBE_DEADLINE)
    if not answer:
        raise MountError(
            f"{os.fsdecode(place)}: mounted, but its server does not answer: unmount it with cvfs umount -l"
        )
    return answer[0] in (errno.ENOTCONN, errno.ECONNABORTED)


def raise_read_ahead(mountpoint: str | bytes, size: int) -> bool:
    """Let the kernel read `size` bytes ahead; False where only the real root may say so and we are not.

    The kernel's own limit is 128 KiB for every FUSE mount, and the INIT reply can only lower it.
    """
    entry = find_mount(mountpoint)
    if entry is None:
        return False
    try:
        with open(f"/sys/class/bdi/{entry.device}/read_ahead_kb", "w", encoding="ascii") as knob:
            knob.write(str(size >> 10))
    except OSError as error:
        log.debug("read-ahead of %s stays at the kernel's default: %s", os.fsdecode(entry.mountpoint), error)
        return False
    return True


# --- the channel ------------------------------------------------------------------------------------------------------


class Channel:
    """Requests in, replies and notifications out. One thread receives; any thread may write: a message is one call."""

    def __init__(self, descriptor: int, bell: int) -> None:
        self._descriptor = descriptor
        self._bell = bell
        self.buffer = bytearray(BUFFER_SIZE)
        self._vector = [self.buffer]
        self._poll = select.poll()

    @classmethod
    def open(cls, descriptor: int) -> Self:
        """A channel over the descriptor of a mount, which it owns from here on; closed if there can be no channel."""
        try:
            channel = cls(descriptor, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        except OSError:
            os.close(descriptor)
            raise
        # A read that blocks could not be woken by `wake`. Trying first and waiting second costs nothing under load.
        os.set_blocking(descriptor, False)
        channel._poll.register(descriptor, select.POLLIN)
        channel._poll.register(channel._bell, select.POLLIN)
        return channel

    def receive(self) -> int:
        """Wait for a request; its length in `buffer`, or 0 when the mount is gone or `wake` was called."""
        while True:
            try:
                return os.readv(self._descriptor, self._vector)
            except BlockingIOError:
                if any(descriptor == self._bell for descriptor, _ in self._poll.poll()):
                    return 0
            except OSError as error:
                if error.errno in _GONE:
                    return 0
                # ENOENT: the request was taken back by a signal before it could be read.
                if error.errno != errno.ENOENT:
                    raise

    def wake(self) -> None:
        """Make `receive` return, now and from now on. For any thread and for signal handlers."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def reply(self, unique: int, payload: abi.Message) -> bool:
        """Answer a request; False if nobody waits for it any more. Raises OSError."""
        return self._write((abi.OUT_HEADER.pack(16 + len(payload), 0, unique), payload))

    def reply_error(self, unique: int, code: int) -> bool:
        """Answer a request with a positive errno; False if nobody waits for it any more. Raises OSError."""
        return self._write((abi.OUT_HEADER.pack(16, -code, unique),))

    def notify(self, message: bytes) -> bool:
        """Tell the kernel something; False if the mount is gone or has nothing of that name. Raises OSError.

        May block as long as a request on the same directory is in flight: never call it from the receiving thread.
        """
        return self._write((message,))

    def _write(self, parts: tuple[abi.Message, ...]) -> bool:
        try:
            os.writev(self._descriptor, parts)
        except OSError as error:
            # ENOENT: the request was aborted, or (for a notification) the kernel does not know the node.
            if error.errno == errno.ENOENT or error.errno in _GONE:
                return False
            raise
        return True

    def abandon(self) -> None:
        """Let go of the device although somebody may be about to write to it. Raises OSError.

        The number of the descriptor stays taken: a late reply must not end up in a file that was opened meanwhile.
        """
        if self._descriptor >= 0:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._descriptor, inheritable=False)
            os.close(nowhere)
            self._descriptor = -1
        self.close()

    def close(self) -> None:
        """Let go of the device, which ends the mount, once nobody writes to it. Idempotent; a later reply is dropped."""
        closed = (self._descriptor, self._bell)
        self._descriptor = self._bell = -1
        for descriptor in closed:
            if descriptor >= 0:
                os.close(descriptor)
