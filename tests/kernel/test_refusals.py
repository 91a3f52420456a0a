"""What is said where a machine forbids namespaces or mounting: the reason and the remedy, by table."""

import errno
import os

import pytest

from cvfs.errors import MountError
from cvfs.kernel.refusals import Machine, Refused, Step, explain, machine

USER, IDENTITY, ROOT, MOUNTS, DEVICE, MOUNT = Step


@pytest.mark.parametrize(
    ("step", "code", "known", "said"),
    [
        (
            USER,
            errno.ENOSPC,
            Machine(most=0),
            "user.max_user_namespaces is 0; as root: sysctl -w user.max_user_namespaces=",
        ),
        (
            USER,
            errno.ENOSPC,
            Machine(most=9),
            "too many, too deep in each other (32 at most), or none more where a sandbox allows none; user.max_user_namespaces is 9",
        ),
        (USER, errno.EUSERS, Machine(most=9), "too deep"),
        (USER, errno.EINVAL, Machine(), "this kernel has none (CONFIG_USER_NS)"),
        (USER, errno.EPERM, Machine(clone_forbidden=True), "sysctl -w kernel.unprivileged_userns_clone=1"),
        (USER, errno.EPERM, Machine(chrooted=True), "in a chroot"),
        (
            USER,
            errno.EPERM,
            Machine(container=True, filtered=True),
            "--security-opt seccomp=unconfined --device /dev/fuse",
        ),
        (USER, errno.EPERM, Machine(selinux=True), "ausearch -m avc -ts recent"),
        (USER, errno.EPERM, Machine(), "Operation not permitted, by a rule of this machine"),
        (USER, errno.EACCES, Machine(apparmor=True), "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        (
            IDENTITY,
            errno.EPERM,
            Machine(apparmor=True),
            "AppArmor forbids it; as root: sysctl -w kernel.apparmor_restrict",
        ),
        (IDENTITY, errno.ENOENT, Machine(), "/proc is not mounted"),
        (ROOT, errno.EPERM, Machine(container=True), "takes the capability CAP_SETFCAP; be an ordinary user"),
        (ROOT, errno.EPERM, Machine(apparmor=True), "AppArmor forbids it"),
        (ROOT, errno.ENOENT, Machine(), "/proc is not mounted"),
        (IDENTITY, errno.EIO, Machine(apparmor=True), "Input/output error"),
        (MOUNTS, errno.EPERM, Machine(container=True), "the container forbids it"),
        (MOUNT, errno.EPERM, Machine(kernel=(4, 17)), "Linux 4.18 or newer is needed, this is 4.17"),
        (MOUNT, errno.EACCES, Machine(apparmor=True), "a profile for /"),
        (MOUNT, errno.ENODEV, Machine(), "as root: modprobe fuse"),
        (DEVICE, errno.EACCES, Machine(container=True), "as root: chmod 666 /dev/fuse"),
        (DEVICE, errno.EPERM, Machine(), "Operation not permitted; start the container with --device /dev/fuse"),
        (DEVICE, errno.ENOENT, Machine(container=True), "No such file or directory; start the container with --device"),
        (DEVICE, errno.ENOENT, Machine(), "it is not there; as root: modprobe fuse, or start"),
        (DEVICE, errno.ENXIO, Machine(), "modprobe fuse"),
        (DEVICE, errno.EMFILE, Machine(), "Too many open files"),
    ],
)
def test_reasons_and_remedies(step, code, known, said):
    line = explain(step, code, known)
    assert line.startswith(f"cannot {step.value}: ")
    assert said in line
    assert "\n" not in line


def test_this_machine():
    known = machine()
    assert "{}.{}".format(*known.kernel) == ".".join(os.uname().release.split(".")[:2])
    assert known.kernel > (4, 18)
    assert known.most is None or known.most >= 0
    assert not known.chrooted


def test_a_refusal_is_an_error_of_mounting():
    refused = Refused(Step.DEVICE, errno.EACCES)
    assert isinstance(refused, MountError)
    assert (refused.step, refused.code, refused.exit_status) == (Step.DEVICE, errno.EACCES, 35)
