"""Tables of mounts, as the kernel writes them and as it shows them here."""

import os

import pytest

from cvfs.kernel.mount_table import MountEntry, find_mount, parse_mountinfo


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
            MountEntry("98:0", b"/mnt2", "ext3", "/dev/root", is_writable=True),
        ),
        (
            rb"90 25 0:39 / /cvmfs/a\040b\134\011c ro,nosuid - fuse.cvfs a,user_id=0 ro,user_id=12,group_id=0",
            MountEntry("0:39", b"/cvmfs/a b\\\tc", "fuse.cvfs", "a,user_id=0", is_writable=False, user=12),
        ),
        (
            b"91 25 0:40 / /\xff ro shared:2 master:3 propagate_from:2 - fuse.cvfs x ro",
            MountEntry("0:40", b"/\xff", "fuse.cvfs", "x", is_writable=False),
        ),
    ],
)
def test_mountinfo(line, entry):
    assert list(parse_mountinfo(line + b"\n" + line + b"\n")) == [entry, entry]


def test_the_root_is_found_by_any_name(tmp_path):
    """Links on the way are resolved, as the kernel does."""
    (tmp_path / "link").symlink_to("/proc")
    assert find_mount("/proc").type == "proc"
    assert find_mount(str(tmp_path / "link" / ".." / "proc")) is None
    (tmp_path / "root").symlink_to("/")
    assert find_mount(str(tmp_path / "root" / "proc")).type == "proc"
    assert find_mount(str(tmp_path)) is None


def test_what_is_mounted():
    assert find_mount("/proc")[2:] == ("proc", "proc", True, None)
    assert find_mount("/proc", os.getpid()) == find_mount("/proc")
    assert find_mount("/proc/self") is None
    assert find_mount("/proc", 2**22 + 1) is None
