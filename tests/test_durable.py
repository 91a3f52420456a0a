"""Small files replaced as a whole: the new content or the old one, and nothing left beside it."""

import os
import stat

import pytest

from cvfs.durable import replace_file, sync_directory


@pytest.mark.parametrize("before", [None, b"", b"old" * 1000], ids=["new", "empty", "longer"])
def test_the_new_content_is_in_its_place(tmp_path, before):
    place = tmp_path / "file"
    if before is not None:
        place.write_bytes(before)
    replace_file(str(place), b"\0new")
    assert place.read_bytes() == b"\0new"
    assert os.listdir(tmp_path) == ["file"]


def test_whose_it_is_and_who_may_read_it_is_said_before_anything_is_in_it(tmp_path, monkeypatch):
    place, seen = tmp_path / "file", []
    chown = os.fchown

    def fchown(descriptor, *owner):
        status = os.fstat(descriptor)
        seen.append((owner, stat.S_IMODE(status.st_mode), status.st_size))
        chown(descriptor, *owner)

    monkeypatch.setattr(os, "fchown", fchown)
    replace_file(str(place), b"secret", mode=0o640, owner=(os.geteuid(), os.getegid()))
    assert seen == [((os.geteuid(), os.getegid()), 0o600, 0)]
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    assert place.read_bytes() == b"secret"


@pytest.mark.parametrize("act", ["fsync", "replace"])
def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, act):
    place = tmp_path / "file"
    place.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, act, full)
    with pytest.raises(OSError, match="No space"):
        replace_file(str(place), b"new")
    assert place.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_a_link_in_the_way_leads_nowhere(tmp_path, make):
    """Somebody else who may write there could have made it, for root to write to."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    make(precious, tmp_path / "file.new")
    replace_file(str(tmp_path / "file"), b"new")
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_only_a_directory_is_flushed_as_one(tmp_path):
    sync_directory(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(str(tmp_path / "file"))
