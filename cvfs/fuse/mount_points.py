"""Where a repository is mounted: made, found dead, cleaned and taken away; it never interprets a request.

A mount is made by mount(2), as root or as the root of a user namespace, or else by the setuid helper `fusermount3`,
which hands the descriptor over a socket. Nothing here looks into a mount that a server of the same process serves:
that would wait for itself. The state of a mount point comes from the mount table instead.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cvfs.errors import MountError
from cvfs.kernel import mounts
from cvfs.kernel.mount_table import absolute, find_mount

log = logging.getLogger(__name__)

DEVICE = "/dev/fuse"
SUBTYPE = "cvfs"
TYPE = f"fuse.{SUBTYPE}"
"""The type of our mounts in the mount table."""
HELPER_DEADLINE = 30.0
"""Seconds that fusermount may take."""
PROBE_DEADLINE = 5.0
"""Seconds within which a living server answers for the root of its mount."""

_STACKED_MOUNTS = 16
_LOCK_STEP = 0.02


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a mount appears and who may enter. `source` is what df(1) shows, `max_read` bytes (0: the kernel's limit).

    `owner`, user and group, is whose mount it is, if not the caller's: only root says so. `suid` lets set-user-id programs
    and device files work, which root alone can allow; if it is not `executable`, no program there can be run; with
    `read_write` it is the server that refuses writing.
    `subtype` tells mounts of repositories from others of ours in the mount table.

    Raises MountError for a source that the option syntax of mount(2) and fusermount cannot hold.
    """

    source: str
    allow_other: bool = False
    default_permissions: bool = True
    max_read: int = 0
    owner: tuple[int, int] | None = None
    suid: bool = False
    executable: bool = True
    read_write: bool = False
    subtype: str = SUBTYPE

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Za-z0-9._:/@+-]+", self.source) is None:
            raise MountError(f"mount source {self.source!r}: only letters, digits and ._:/@+- are possible")

    def flags(self) -> list[str]:
        """The options that mount(2) and fusermount spell alike."""
        chosen = [name for name in ("allow_other", "default_permissions") if getattr(self, name)]
        return [*chosen, f"max_read={self.max_read}"] if self.max_read else chosen

    def bits(self) -> int:
        """The options that mount(2) takes as bits."""
        writing = 0 if self.read_write else mounts.MS_RDONLY
        running = 0 if self.executable else mounts.MS_NOEXEC
        return writing | running | (0 if self.suid else mounts.MS_NOSUID | mounts.MS_NODEV)


def mount(mountpoint: str | bytes, options: MountOptions) -> int:
    """Mount by the way that the caller's rights allow; returns the descriptor of the device. Raises MountError."""
    if os.geteuid() == 0:
        return mount_root(mountpoint, options)
    return mount_fusermount(mountpoint, options)


def mount_root(mountpoint: str | bytes, options: MountOptions) -> int:
    """Mount by mount(2); returns the descriptor of the device. Raises MountError."""
    place = absolute(mountpoint)
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
    mounts.mount(options.source, place, f"fuse.{options.subtype}", options.bits(), ",".join([*data, *options.flags()]))


def mount_fusermount(mountpoint: str | bytes, options: MountOptions) -> int:
    """Mount by the setuid helper; returns the descriptor of the device. Raises MountError."""
    place = absolute(mountpoint)
    if not os.path.isdir(place):
        # The helper would mount upon a file, and the kernel would take the root for one.
        raise MountError(f"mount {os.fsdecode(place)}: not a directory, or not accessible: create the mount point")
    chosen = [
        f"fsname={options.source}",
        f"subtype={options.subtype}",
        "rw" if options.read_write else "ro",
        "nosuid",
        "nodev",
        *(() if options.executable else ("noexec",)),
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
        raise MountError(f"{what}: neither root nor fusermount3: install the package fuse3, or use cvfs exec")
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
    place = absolute(mountpoint)
    if os.geteuid() == 0:
        mounts.unmount(place, lazy=lazy)
    else:
        _fusermount(place, "-u", *(["-z"] if lazy else []))


def clean_dead_mount(mountpoint: str | bytes) -> bool:
    """Take away mounts whose server died ("Transport endpoint is not connected"); True if there was one.

    Raises MountError if the place cannot be cleaned, or if a server holds it that does not answer in time.
    """
    cleaned = False
    # A watchdog and the next mount may come at the same time: what one found dead must not be a new mount when it is
    # taken away.
    with _alone_at(absolute(mountpoint)):
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
