"""The upper layer of an overlay, made by hand: what each of its marks means, what is forbidden, whose directories are."""

import os
import stat

import pytest
from published import Nothing

from cvfs.errors import NotFound, Unpublishable
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.format.xattrs import pack, unpack
from cvfs_server.sources.overlay import OverlayRules, OverlaySource
from cvfs_server.sources.scan import ScanRules

OPAQUE = "user.overlay.opaque"


@pytest.fixture
def upper(tmp_path):
    made = tmp_path / "upper"
    made.mkdir()
    return made


def source(upper, published=None, subpath=b"", **scan):
    rules = OverlayRules(ScanRules(**scan), unprivileged=True, subpath=subpath)
    return OverlaySource(os.fsencode(upper), rules, published or Nothing())


def whiteout(place):
    os.mknod(place, stat.S_IFCHR, os.makedev(0, 0))


def names(edit):
    return [entry.name for entry in edit.entries]


def test_what_is_new_and_what_is_gone(upper):
    (upper / "new").write_text("new")
    (upper / "directory").mkdir()
    whiteout(upper / "gone")
    (upper / "also gone").touch()
    os.setxattr(upper / "also gone", "user.overlay.whiteout", b"y")
    edit = source(upper).edit(b"")
    assert names(edit) == [b"directory", b"new"]
    assert (edit.removed, edit.complete) == ((b"also gone", b"gone"), False)


@pytest.mark.parametrize(("value", "complete"), [(b"y", True), (b"x", False), (None, False)])
def test_a_directory_that_hides_what_was_published(upper, value, complete):
    (upper / "directory").mkdir()
    if value:
        os.setxattr(upper / "directory", OPAQUE, value)
    assert source(upper).edit(b"/directory").complete is complete


def test_whiteouts_share_a_file_and_are_no_group(upper):
    """The kernel links them to each other, wherever they are."""
    (upper / "directory").mkdir()
    whiteout(upper / "one")
    os.link(upper / "one", upper / "two")
    os.link(upper / "one", upper / "directory/three")
    (upper / "file").touch()
    edit = source(upper, ignore_xdir_hardlinks=False).edit(b"")
    assert (names(edit), edit.removed) == ([b"directory", b"file"], (b"one", b"two"))
    assert source(upper, ignore_xdir_hardlinks=False).edit(b"/directory").removed == (b"three",)


def test_names_of_one_file(upper):
    (upper / "b").touch()
    os.link(upper / "b", upper / "a")
    entries = source(upper, ignore_xdir_hardlinks=False).edit(b"").entries
    assert [(entry.links, entry.group) for entry in entries] == [(2, 1), (2, 1)]


def test_names_in_several_directories(upper):
    (upper / "directory").mkdir()
    (upper / "a").touch()
    os.link(upper / "a", upper / "directory/b")
    assert [entry.links for entry in source(upper).edit(b"/directory").entries] == [1]
    with pytest.raises(Unpublishable, match="/directory/b: hardlinks across directories"):
        source(upper, ignore_xdir_hardlinks=False).edit(b"/directory")


def test_special_files_that_are_left_out_replace_nothing(upper):
    os.mkfifo(upper / "pipe")
    assert names(source(upper).edit(b"")) == [b"pipe"]
    edit = source(upper, ignore_special_files=True).edit(b"")
    assert (edit.entries, edit.removed) == ([], (b"pipe",))


def test_attributes_without_marks(upper):
    (upper / "file").write_text("content")
    os.utime(upper / "file", ns=(5, 5))
    for name in ("user.overlay.origin", "user.overlay.overlay.opaque", "user.mine"):
        os.setxattr(upper / "file", name, b"value")
    made = source(upper)
    place = made.place(b"/file")
    assert place.path == os.fsencode(upper / "file")
    assert (place.part.offset, place.part.size, place.part.mtime_ns) == (0, 7, 5)
    # An overlay in the overlay: its mark comes out as it went in.
    expected = {b"user.overlay.opaque": b"value", b"user.mine": b"value"}
    assert unpack(place.part.xattr) == unpack(made.attributes(b"/file")) == expected
    assert source(upper, xattrs=False).attributes(b"/file") is None


def test_a_file_without_marks_is_read_as_it_is(upper):
    (upper / "file").touch()
    os.setxattr(upper / "file", "user.mine", b"value")
    assert source(upper).place(b"/file").part is None


def test_a_file_that_vanishes(upper):
    with pytest.raises(Unpublishable, match="/missing"):
        source(upper).edit(b"/missing")
    with pytest.raises(Unpublishable, match="/missing"):
        source(upper).attributes(b"/missing")


class Owned:
    """Published directories of somebody else, and a file."""

    ATTRIBUTES = pack({b"trusted.theirs": b"1", b"system.posix_acl_access": b"2", b"user.theirs": b"3"})

    def find(self, path):
        if path not in {b"", b"/there", b"/new", b"/file"}:
            raise NotFound(path)
        kind = stat.S_IFREG if path == b"/file" else stat.S_IFDIR
        flag = Flag.FILE if path == b"/file" else Flag.DIRECTORY
        own = (7, 8, 2, None, int(flag), b"", self.ATTRIBUTES)
        return DirectoryEntry(path[1:], kind | 0o755, 0, 0, None, *own)


def test_what_was_copied_keeps_its_owner(upper):
    """The union shows an ordinary user everything as his own: he has not taken it."""
    for name in ("there", "new", "file"):
        (upper / name).mkdir()
    os.setxattr(upper / "there", "user.overlay.origin", b"")
    os.setxattr(upper / "file", "user.overlay.origin", b"")
    made = source(upper, Owned())
    own = (os.getuid(), os.getgid())
    assert (made.root().uid, made.root().gid) == (7, 8)
    assert {entry.name: (entry.uid, entry.gid) for entry in made.edit(b"").entries} == {
        b"there": (7, 8),
        b"new": own,
        b"file": own,  # a directory now
    }


def test_what_was_copied_keeps_attributes_out_of_reach(upper):
    """Those that a user may set are as he left them."""
    (upper / "file").touch()
    os.setxattr(upper / "file", "user.mine", b"4")
    assert unpack(source(upper, Owned()).attributes(b"/file")) == {b"user.mine": b"4"}
    os.setxattr(upper / "file", "user.overlay.origin", b"")
    expected = {b"trusted.theirs": b"1", b"system.posix_acl_access": b"2", b"user.mine": b"4"}
    made = source(upper, Owned())
    assert unpack(made.attributes(b"/file")) == unpack(made.place(b"/file").part.xattr) == expected


@pytest.mark.parametrize("refused", ["elsewhere", "a/file", "a/bc"])
def test_a_sub_path_only(upper, refused):
    (upper / "a/b").mkdir(parents=True)
    (upper / "a/b/anything").touch()
    made = source(upper, subpath=b"/a/b")
    assert made.root() is None
    assert [names(made.edit(path)) for path in (b"", b"/a", b"/a/b")] == [[b"a"], [b"b"], [b"anything"]]
    (upper / refused).touch()
    with pytest.raises(Unpublishable, match=f"/{refused}: this transaction is for /a/b only"):
        made.edit(os.fsencode("/" + os.path.dirname(refused)).rstrip(b"/"))


def test_roots_marks_are_others(upper):
    """Where root mounts, an attribute of a user is one like any other."""
    (upper / "directory").mkdir()
    os.setxattr(upper / "directory", OPAQUE, b"y")
    made = OverlaySource(os.fsencode(upper), OverlayRules(ScanRules()), Nothing())
    assert made.edit(b"/directory").complete is False
    assert unpack(made.attributes(b"/directory")) == {OPAQUE.encode(): b"y"}
