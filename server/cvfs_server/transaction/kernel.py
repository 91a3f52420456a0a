"""Mounts and namespaces by the C library, as root or as the root of a user namespace; knows no repository.

Source: mount(2), umount2(2), setns(2), unshare(2), user_namespaces(7).
"""

import contextlib
import ctypes
import errno
import os
import re
from typing import NamedTuple

from cvfs.errors import MountError

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC = 1, 32, 4096, 16384
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CLONE_NEWUSER = 0x10000000
_CAP_SYS_ADMIN = 21
_REASONS = {
    errno.EPERM: "not permitted: be root, or allow user namespaces",
    errno.EBUSY: "in use: end the processes that use it, or force it with -f",
    errno.ENODEV: "the kernel has no overlayfs: load the overlay module",
    errno.EINVAL: "not possible there: dmesg(1) tells why",
}


class InUse(MountError):
    """Somebody has files open there, or works there."""


class MountPoint(NamedTuple):
    """What is mounted at a place: the type of the file system, and whether it may be written."""

    type: str
    is_writable: bool


def may_mount() -> bool:
    """Whether this process has the right to mount: that of root outside of a container."""
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def mount(kind: str, place: str, options: str, *, writable: bool) -> None:
    """Mount a file system that needs no device. Raises MountError."""
    name, flags = os.fsencode(kind), 0 if writable else _MS_RDONLY
    _call(f"mount {place}", "mount", name, os.fsencode(place), name, ctypes.c_ulong(flags), os.fsencode(options))


def bind(source: str, place: str) -> None:
    """Show a directory, with whatever is mounted below it, at another place. Raises MountError."""
    flags = ctypes.c_ulong(_MS_BIND | _MS_REC)
    _call(f"mount {place}", "mount", os.fsencode(source), os.fsencode(place), None, flags, None)


def remount(place: str, *, writable: bool) -> None:
    """Allow or forbid writing. Raises InUse if somebody has a file open for writing, MountError."""
    flags = ctypes.c_ulong(_MS_REMOUNT | (0 if writable else _MS_RDONLY))
    _call(f"remount {place}", "mount", None, os.fsencode(place), None, flags, None)


def unmount(place: str, *, lazy: bool = False) -> None:
    """Unmount; `lazy` takes it out of sight now and ends it with its last user. Raises InUse, MountError."""
    _call(f"unmount {place}", "umount2", os.fsencode(place), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))


def join(pid: int) -> None:
    """Enter the user and mount namespaces of a process; only a process with a single thread can. Raises MountError."""
    try:
        # Both first: after the first step /proc may tell less.
        descriptors = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")]
    except OSError as error:
        raise MountError(f"process {pid}, which keeps the transaction's mounts: {error.strerror}") from error
    for descriptor in descriptors:
        _call(f"enter the namespaces of process {pid}", "setns", descriptor, 0)


def become(uid: int, gid: int) -> None:
    """As the root of a user namespace: be that user and group from here on, in a namespace inside. Raises MountError."""
    user, group = os.geteuid(), os.getegid()
    _call("make a user namespace", "unshare", _CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {user} 1")
    _write("/proc/self/gid_map", f"{gid} {group} 1")


def mounted_at(place: str, pid: int | None = None) -> MountPoint | None:
    """The topmost mount at a place, as this or another process sees it, without looking into it; None if there is none."""
    above, name = os.path.split(place)
    wanted, found = os.fsencode(os.path.join(os.path.realpath(above), name)), None
    # EINVAL is what /proc says of a process that has ended and that nobody has waited for.
    with contextlib.suppress(OSError), open(f"/proc/{pid or 'self'}/mountinfo", "rb") as table:
        for line in table:
            where, _, origin = line.partition(b" - ")
            kind, _, options = origin.rstrip(b"\n").split(b" ")[:3]
            if _unescape(where.split(b" ")[4]) == wanted:
                found = MountPoint(kind.decode(), b"rw" in options.split(b","))
    return found


def _unescape(field: bytes) -> bytes:
    """The kernel writes blanks, line ends and backslashes as three octal digits."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error


def _call(what: str, function: str, *arguments: object) -> None:
    """A function of the C library that returns 0 or sets errno."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) == 0:
        return
    code = ctypes.get_errno()
    kind = InUse if code == errno.EBUSY else MountError
    raise kind(f"{what}: {_REASONS.get(code, os.strerror(code))}") from OSError(code, os.strerror(code))
