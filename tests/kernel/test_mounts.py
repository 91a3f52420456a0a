"""What a refusal of the kernel becomes; real mounts are in the system tests."""

import pytest

from cvfs.errors import MountError
from cvfs.kernel import mounts, namespaces


def test_refusals_name_the_place(tmp_path):
    with pytest.raises(MountError, match=f"unmount {tmp_path}: not a mount point"):
        mounts.unmount(str(tmp_path))
    with pytest.raises(MountError, match=f"remount {tmp_path}"):
        mounts.remount(str(tmp_path), writable=False)
    with pytest.raises(MountError, match="no-such-type"):
        mounts.mount("no-such-type", str(tmp_path / "no-such-type"), "no-such-type", 0, "")


def test_without_proc(monkeypatch):
    def missing(path, **_):
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr("builtins.open", missing)
    with pytest.raises(MountError, match="No such file or directory: mount /proc first"):
        mounts.may_mount()


def test_a_process_that_is_gone():
    with pytest.raises(MountError, match="process 4194305, which keeps the mounts"):
        namespaces.join(2**22 + 1)
