"""Why a machine lets nobody mount in a namespace of his own, and what its administrator can do; it changes nothing.

Source: user_namespaces(7), the kernel's documentation of /proc/sys, the documentation of AppArmor's restriction.
"""

import contextlib
import enum
import errno
import os
import sys
from dataclasses import dataclass

from cvfs.errors import MountError
from cvfs.kernel.mount_table import mount_table

_CLONE = "/proc/sys/kernel/unprivileged_userns_clone"
_MOST = "/proc/sys/user/max_user_namespaces"
_APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_SELINUX = "/sys/fs/selinux/enforce"
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_FIRST_KERNEL = (4, 18)
_DENIED = (errno.EPERM, errno.EACCES)


class Step(enum.Enum):
    """What was refused, as it is said to people."""

    USER_NAMESPACE = "make a user namespace"
    IDENTITY = "keep your user in a user namespace"
    ROOT = "stay root in a user namespace"
    MOUNT_NAMESPACE = "make a mount namespace"
    DEVICE = "open /dev/fuse"
    MOUNT = "mount"


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known of the machine: its kernel's number, switches that forbid, surroundings that limit.

    `most` is the number of user namespaces that are allowed (None: unknown), `filtered` tells of system calls that are
    forbidden to this process (seccomp), `chrooted` that its root is not that of a mount.
    """

    kernel: tuple[int, int] = (6, 0)
    most: int | None = None
    clone_forbidden: bool = False
    apparmor: bool = False
    selinux: bool = False
    filtered: bool = False
    container: bool = False
    chrooted: bool = False


class Refused(MountError):
    """The machine does not let this process do it; `code` is the errno."""

    def __init__(self, step: Step, code: int) -> None:
        super().__init__(explain(step, code, machine()))
        self.step = step
        self.code = code


def explain(step: Step, code: int, known: Machine) -> str:
    """One line: what is refused, why as far as it can be known, and the remedy."""
    return f"cannot {step.value}: {_REMEDIES[step](code, known)}"


def _user_namespace(code: int, known: Machine) -> str:
    if code in (errno.ENOSPC, errno.EUSERS) and known.most == 0:
        return "user.max_user_namespaces is 0; as root: sysctl -w user.max_user_namespaces=15000"
    if code in (errno.ENOSPC, errno.EUSERS):
        return (
            "too many, too deep in each other (32 at most), or none more where a sandbox allows none; "
            f"user.max_user_namespaces is {known.most}"
        )
    if code in (errno.EINVAL, errno.ENOSYS):
        return "this kernel has none (CONFIG_USER_NS)"
    if known.clone_forbidden:
        return "kernel.unprivileged_userns_clone is 0; as root: sysctl -w kernel.unprivileged_userns_clone=1"
    if known.chrooted:
        return "the kernel makes none in a chroot; start it outside, or enter that tree with bwrap or unshare --mount"
    return _policy(code, known)


def _identity(code: int, known: Machine) -> str:
    if code == errno.ENOENT:
        return "/proc is not mounted; mount it"
    return _policy(code, known)


def _identity_of_root(code: int, known: Machine) -> str:
    if code == errno.EPERM and not known.apparmor:
        return "for root that takes the capability CAP_SETFCAP; be an ordinary user, or keep that capability"
    return _identity(code, known)


def _mounting(code: int, known: Machine) -> str:
    if code in _DENIED and known.kernel < _FIRST_KERNEL:
        return "Linux 4.18 or newer is needed, this is {}.{}".format(*known.kernel)
    if code == errno.ENODEV:
        return "the kernel does not know FUSE; as root: modprobe fuse"
    return _policy(code, known)


def _policy(code: int, known: Machine) -> str:
    """Somebody else than the kernel's own rules."""
    if code not in _DENIED:
        return os.strerror(code)
    if known.apparmor:
        return (
            "AppArmor forbids it; as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, "
            f"or a profile for {sys.executable} with the rule userns"
        )
    if known.container or known.filtered:
        return "the container forbids it; start it with --security-opt seccomp=unconfined --device /dev/fuse"
    if known.selinux:
        return "SELinux may forbid it; as root: ausearch -m avc -ts recent tells the rule"
    return f"{os.strerror(code)}, by a rule of this machine that cvfs does not know"


def _device(code: int, known: Machine) -> str:
    in_container = "start the container with --device /dev/fuse"
    if code == errno.EACCES:
        return "no right to use it; as root: chmod 666 /dev/fuse, which is what distributions have"
    if code == errno.EPERM or known.container:
        return f"{os.strerror(code)}; {in_container}"
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"it is not there; as root: modprobe fuse, or {in_container}"
    return os.strerror(code)


_REMEDIES = {
    Step.USER_NAMESPACE: _user_namespace,
    Step.IDENTITY: _identity,
    Step.ROOT: _identity_of_root,
    Step.MOUNT_NAMESPACE: _policy,
    Step.DEVICE: _device,
    Step.MOUNT: _mounting,
}


def machine() -> Machine:
    """What can be read of this machine; what cannot is taken for harmless."""
    release = os.uname().release.split(".")
    most = _read(_MOST)
    return Machine(
        kernel=(_leading_number(release[0]), _leading_number(release[1])) if len(release) > 1 else (0, 0),
        most=int(most) if most.isdecimal() else None,
        clone_forbidden=_read(_CLONE) == "0",
        apparmor=_read(_APPARMOR) == "1",
        selinux=_read(_SELINUX) == "1",
        filtered="\nSeccomp:\t2" in _read("/proc/self/status"),
        container=any(map(os.path.exists, _CONTAINER_MARKS)),
        chrooted=_is_chrooted(),
    )


def _is_chrooted() -> bool:
    with contextlib.suppress(OSError):
        return all(entry.mountpoint != b"/" for entry in mount_table())
    return False


def _leading_number(text: str) -> int:
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 0)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(65536).strip()
    except OSError:
        return ""
