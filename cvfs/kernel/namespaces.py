"""User and mount namespaces: entered, and left for another identity; mounts nothing.

Source: setns(2), unshare(2), user_namespaces(7).
"""

import os

from cvfs.errors import MountError
from cvfs.kernel.mounts import call

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


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
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {user} 1")
    _write("/proc/self/gid_map", f"{gid} {group} 1")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
