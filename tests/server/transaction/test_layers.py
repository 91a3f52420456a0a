"""The layers of a union: as the published root is, and gone without a trace."""

import os
import stat

import pytest

from cvfs.errors import StoreFull
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.format.xattrs import pack
from cvfs_server.transaction.layers import clear_layers, make_layers
from cvfs_server.transaction.layout import Layout


@pytest.fixture
def layout(tmp_path):
    return Layout("own.example.org", str(tmp_path / "spool"), str(tmp_path / "cvmfs/own.example.org"), "/nowhere")


def root_row(mtime_ns=None):
    xattr = pack({b"user.test": b"value", b"no such namespace": b""})
    own = (os.getuid(), os.getgid())
    return DirectoryEntry(b"", stat.S_IFDIR | 0o1711, 0, 1000, mtime_ns, *own, 2, None, int(Flag.DIRECTORY), b"", xattr)


@pytest.mark.parametrize(("mtime_ns", "stamp"), [(None, 1000 * 10**9), (5, 1000 * 10**9 + 5)])
def test_the_upper_layer_looks_as_the_root(layout, mtime_ns, stamp):
    make_layers(layout, root_row(mtime_ns))
    status = os.stat(layout.upper)
    assert (status.st_mode, status.st_mtime_ns) == (stat.S_IFDIR | 0o1711, stamp)
    assert os.getxattr(layout.upper, "user.test") == b"value"
    assert os.listdir(layout.upper) == os.listdir(layout.work) == []


def test_what_was_changed_is_forgotten(layout):
    make_layers(layout, root_row())
    os.makedirs(f"{layout.upper}/directory/below")
    os.mkdir(f"{layout.work}/work", 0)
    os.chmod(f"{layout.upper}/directory", 0)
    clear_layers(layout)
    assert (os.path.exists(layout.upper), os.path.exists(layout.work), os.listdir(layout.wastebin)) == (
        False,
        False,
        [],
    )
    clear_layers(layout)


def test_what_a_killed_one_left_in_the_bin(layout):
    os.makedirs(f"{layout.wastebin}/current.1.2/directory")
    make_layers(layout, root_row())
    assert os.listdir(layout.wastebin) == []


def test_no_room(layout, tmp_path):
    (tmp_path / "spool").write_text("in the way")
    with pytest.raises(StoreFull, match=layout.spool):
        make_layers(layout, root_row())
