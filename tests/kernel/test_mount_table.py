"""Tables of mounts, as the kernel writes them and as it shows them here."""

import os

import pytest

from cvfs.kernel.mount_table import MountEntry, find_mount, mount_around, mount_around_in, parse_mountinfo


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
            MountEntry("0:40", b"/\xff", "fuse.cvfs", "x", is_writable=False, is_shared=True),
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
    assert find_mount("/proc")[2:6] == ("proc", "proc", True, None)
    assert find_mount("/proc", os.getpid()) == find_mount("/proc")
    assert find_mount("/proc/self") is None
    assert find_mount("/proc", 2**22 + 1) is None
    assert mount_around("/proc/self") == find_mount("/proc")
    assert mount_around("/proc/self", 2**22 + 1) is None


ROOT = b"21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
VOLUME = b"40 21 254:0 /cvmfs /cvmfs rw,relatime %s- ext4 /dev/vda rw\n"


@pytest.mark.parametrize(
    ("table", "place", "expected"),
    [
        (ROOT, b"/cvmfs", True),
        (ROOT.replace(b"shared:1 ", b""), b"/cvmfs", False),
        (ROOT.replace(b"shared:1", b"master:1"), b"/cvmfs", False),
        (ROOT + VOLUME % b"shared:7 master:1 ", b"/cvmfs", True),
        (ROOT + VOLUME % b"", b"/cvmfs", False),
        (ROOT + VOLUME % b"", b"/cvmfs/deeper", False),
        (ROOT + VOLUME % b"", b"/cvmfs2", True),
        (ROOT + VOLUME % b"" + VOLUME % b"shared:9 ", b"/cvmfs", True),
        (ROOT + (VOLUME % b"").replace(b" /cvmfs rw", rb" /my\040mounts rw"), b"/my mounts", False),
    ],
)
def test_whether_others_see_what_is_mounted(table, place, expected):
    assert mount_around_in(parse_mountinfo(table), place).is_shared is expected


def test_a_table_with_nothing_in_it():
    assert mount_around_in([], b"/cvmfs") is None
