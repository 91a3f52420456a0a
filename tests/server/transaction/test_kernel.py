"""What the mount table says, and what a refusal of the kernel becomes; real mounts are in the system tests."""

import os

import pytest

from cvfs.errors import MountError
from cvfs_server.transaction import kernel


def test_what_is_mounted():
    assert kernel.mounted_at("/proc") == ("proc", True)
    assert kernel.mounted_at("/proc", os.getpid()) == ("proc", True)
    assert kernel.mounted_at("/proc/self") is None
    assert kernel.mounted_at("/proc", 2**22 + 1) is None


def test_refusals_name_the_place(tmp_path):
    with pytest.raises(MountError, match=f"unmount {tmp_path}: not possible there"):
        kernel.unmount(str(tmp_path))
    with pytest.raises(MountError, match=f"remount {tmp_path}"):
        kernel.remount(str(tmp_path), writable=False)
    with pytest.raises(MountError, match="no-such-type"):
        kernel.mount("no-such-type", str(tmp_path / "no-such-type"), "", writable=True)


def test_a_process_that_is_gone():
    with pytest.raises(MountError, match="process 4194305, which keeps the transaction's mounts"):
        kernel.join(2**22 + 1)
