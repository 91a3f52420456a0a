"""Mounting and unmounting by the C library, as root or as the root of a user namespace.

Source: mount(2), umount2(2).
"""

import ctypes
import errno
import os

from cvfs.errors import MountError

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
    1 << 19,
)
_MNT_DETACH, _MNT_EXPIRE, _UMOUNT_NOFOLLOW = 2, 4, 8
_CAP_SYS_ADMIN = 21
_REASONS = {
    errno.EPERM: "not permitted: be root, use a user namespace, or install fusermount3",
    errno.ENOENT: "no such directory: create the mount point",
    errno.ENOTDIR: "not a directory",
    errno.EBUSY: "busy, in use: end the processes that use it (cvfs fuser), or force it or unmount lazily",
    errno.ENODEV: "the kernel does not know this kind of file system: load its module (fuse, overlay)",
    errno.EINVAL: "not a mount point, or not possible there: dmesg(1) may tell why",
    errno.ENOTCONN: "a dead mount is in the way: unmount it first",
}


class InUse(MountError):
    """Somebody has files open there, or works there."""


def may_mount() -> bool:
    """Whether this process has the right to mount: that of root outside of a container. Raises MountError without /proc."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            effective = next(line for line in file if line.startswith("CapEff:"))
    except OSError as error:
        raise MountError(f"/proc/self/status: {error.strerror}: mount /proc first") from error
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def mount(source: str, place: str | bytes, kind: str, flags: int, data: str) -> None:
    """mount(2): `flags` are MS_* bits, `data` the options of that kind of file system. Raises InUse, MountError."""
    what = f"mount {os.fsdecode(place)}"
    call(what, "mount", source.encode(), os.fsencode(place), kind.encode(), flags, os.fsencode(data))


def bind(source: str, place: str) -> None:
    """Show a directory, with whatever is mounted below it, at another place. Raises MountError."""
    call(f"mount {place}", "mount", os.fsencode(source), os.fsencode(place), None, MS_BIND | MS_REC, None)


def remount(place: str, *, writable: bool) -> None:
    """Allow or forbid writing. Raises InUse if somebody has a file open for writing, MountError."""
    flags = MS_REMOUNT | (0 if writable else MS_RDONLY)
    call(f"remount {place}", "mount", None, os.fsencode(place), None, flags, None)


def seal(place: str) -> None:
    """Nobody writes there any more, by way of this mount. Raises MountError."""
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV
    call(f"make {place} read-only", "mount", None, os.fsencode(place), None, flags, None)


def unmount(place: str | bytes, *, lazy: bool = False) -> None:
    """Unmount; `lazy` takes it out of sight now and ends it with its last user. Raises InUse, MountError."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    call(f"unmount {os.fsdecode(place)}", "umount2", os.fsencode(place), flags)


def expire(place: str | bytes) -> bool:
    """Unmount what nobody has used since the last call; False if somebody has, or uses it now. Raises MountError."""
    try:
        call(f"unmount {os.fsdecode(place)}", "umount2", os.fsencode(place), _MNT_EXPIRE | _UMOUNT_NOFOLLOW)
    except InUse:
        return False
    except MountError as error:
        # Marked from here on; whoever uses it takes the mark away.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EAGAIN:
            return False
        raise
    return True


def call(what: str, function: str, *arguments: bytes | int | None) -> None:
    """A function of the C library that returns 0 or sets errno; `what` is said of a failure. Raises InUse, MountError."""
    code = attempt(function, *arguments)
    if code == 0:
        return
    kind = InUse if code == errno.EBUSY else MountError
    raise kind(f"{what}: {_REASONS.get(code, os.strerror(code))}") from OSError(code, os.strerror(code))


def attempt(function: str, *arguments: bytes | int | None) -> int:
    """The same for who knows what a failure means: the errno, 0 if there was none."""
    converted = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    done = getattr(ctypes.CDLL(None, use_errno=True), function)(*converted) == 0
    return 0 if done else ctypes.get_errno()
