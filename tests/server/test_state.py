"""Small files of the spool area: whole or not there, and never by way of a link that somebody put in the way."""

import os

import pytest

from cvfs.errors import StoreFull
from cvfs_server.state import make_directory, no_link, read_state, write_state


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = str(tmp_path / "state")
    assert read_state(path) is None
    for data in (b"first, and longer", b"second"):
        write_state(path, data)
        assert read_state(path) == data
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize("mode", ["w", "a", "w+"])
def test_a_link_is_not_followed(tmp_path, mode):
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("text")
    link.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), open(link, mode, encoding="ascii", opener=no_link):
        pass
    assert victim.read_text() == "text"
    # Replacing takes away the link itself.
    write_state(str(link), b"other")
    assert (victim.read_text(), link.read_text()) == ("text", "other")


def test_what_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreFull, match=r"cannot use .*file/below"):
        make_directory(str(tmp_path / "file/below"))
    with pytest.raises(StoreFull, match=r"cannot write .*nowhere/state"):
        write_state(str(tmp_path / "nowhere/state"), b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_directories_belong_to_the_owner_of_the_place(tmp_path):
    os.chown(tmp_path, 1234, 1234)
    make_directory(str(tmp_path / "one/two"))
    assert [os.stat(tmp_path / name).st_uid for name in ("one", "one/two")] == [1234, 1234]
