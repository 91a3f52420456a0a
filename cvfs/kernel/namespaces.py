"""User and mount namespaces: made, entered, and left for another identity; mounts nothing.

Source: setns(2), unshare(2), user_namespaces(7), mount_namespaces(7).
"""

import errno
import os

from cvfs.errors import MountError
from cvfs.kernel.mounts import MS_PRIVATE, MS_REC, MS_SLAVE, attempt, call, may_mount
from cvfs.kernel.refusals import Refused, Step

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def separate() -> bool:
    """From here on this process has mounts of its own; what is mounted outside later shows inside, never the reverse.

    Who has no right to mount gets it, for these mounts, by a user namespace that knows him alone, under his own number;
    a program that he starts has lost it again. True if that was needed. Only a process with a single thread can.
    Raises Refused.
    """
    apart = not may_mount()
    if apart:
        _unshare_as(os.geteuid(), os.getegid())
    elif code := attempt("unshare", CLONE_NEWNS):
        raise Refused(Step.MOUNT_NAMESPACE, code)
    _propagate(MS_SLAVE)
    return apart


def separate_as_root() -> None:
    """As the root of a user namespace, with mounts of its own, whatever happens outside. Raises Refused, MountError."""
    _unshare_as(0, 0)
    _propagate(MS_PRIVATE)


def _propagate(kind: int) -> None:
    # What it names is not the root of a mount in a chroot; there it stays as it is.
    code = attempt("mount", None, b"/", None, MS_REC | kind, None)
    if code not in (0, errno.EINVAL):
        raise Refused(Step.MOUNT, code)


def _unshare_as(uid: int, gid: int) -> None:
    user, group = os.geteuid(), os.getegid()
    # Both in one: the mounts belong to the new user namespace.
    if code := attempt("unshare", CLONE_NEWUSER | CLONE_NEWNS):
        raise Refused(Step.USER_NAMESPACE, code)
    try:
        _map_identity((uid, user), (gid, group))
    except OSError as error:
        raise Refused(Step.IDENTITY if user else Step.ROOT, error.errno or 0) from error


def join(pid: int) -> None:
    """Enter the user and mount namespaces of a process; only a process with a single thread can. Raises MountError."""
    try:
        # Both first: after the first step /proc may tell less.
        descriptors = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")]
    except OSError as error:
        raise MountError(f"process {pid}, which keeps the mounts: {error.strerror}") from error
    for descriptor in descriptors:
        call(f"enter the namespaces of process {pid}", "setns", descriptor, 0)


def become(uid: int, gid: int) -> None:
    """As the root of a user namespace: be that user and group from here on, in a namespace inside. Raises MountError."""
    user, group = os.geteuid(), os.getegid()
    call("make a user namespace", "unshare", CLONE_NEWUSER)
    try:
        _map_identity((uid, user), (gid, group))
    except OSError as error:
        raise MountError(f"{error.filename}: {error.strerror}") from error


def mounts_of(pid: int | str) -> str:
    """The name of the mount namespace that a process is in, empty if that cannot be known."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def is_inhabited(namespace: str) -> bool:
    """Whether any process is in the mount namespace of that name, as far as this user can know."""
    return any(mounts_of(name) == namespace for name in os.listdir("/proc") if name.isdecimal())


def _map_identity(user: tuple[int, int], group: tuple[int, int]) -> None:
    """Each inside and outside. Raises OSError."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", "{} {} 1".format(*user))
    _write("/proc/self/gid_map", "{} {} 1".format(*group))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
