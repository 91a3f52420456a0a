"""What differs between revisions, and what the open transaction has changed so far; nothing is published by asking."""

import os

import pytest

from cvfs.errors import NotFound, UsageError
from cvfs_server.difference import ASPECTS, changes, compare, find_revision, worktree_changes
from cvfs_server.repository import PublishedRepository
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import Record, create_record


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "dir").mkdir()
    for name in ("a", "b", "dir/c"):
        (made.tree / name).write_bytes(name.encode())
    made.publish(tag="first")
    return made


def opened(own):
    return PublishedRepository.open(own.site, own.fqrn)


def described(own, scratch, old="first", new="trunk", **options):
    repository = opened(own)
    sides = find_revision(repository, old), find_revision(repository, new)
    found = changes(repository, *sides, str(scratch), **options)
    return {change.path: [aspect.word for aspect in change.aspects] for change in found}


def edit_mode(tree):
    (tree / "a").chmod(0o600)


def edit_owner(tree):
    os.chown(tree / "a", 12, 34)


def edit_xattr(tree):
    os.setxattr(tree / "a", "user.x", b"y")


def edit_time(tree):
    os.utime(tree / "a", (7, 7))


def edit_content(tree):
    status = (tree / "a").stat()
    (tree / "a").write_bytes(b"x")
    os.utime(tree / "a", ns=(status.st_atime_ns, status.st_mtime_ns))


def edit_links(tree):
    times = (tree).stat()
    (tree / "b").unlink()
    os.link(tree / "a", tree / "b")
    os.utime(tree, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (edit_mode, {b"/a": ["mode"]}),
        (edit_xattr, {b"/a": ["xattrs"]}),
        (edit_time, {b"/a": ["timestamp"]}),
        (edit_content, {b"/a": ["content"]}),
        pytest.param(
            edit_owner, {b"/a": ["owner"]}, marks=pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
        ),
    ],
)
def test_each_aspect_alone(own, tmp_path, edit, expected):
    edit(own.tree)
    own.publish()
    assert described(own, tmp_path) == expected


def test_links_and_times_that_are_ignored(own, tmp_path):
    edit_links(own.tree)
    edit_time(own.tree / "dir" / "..")
    own.publish()
    found = described(own, tmp_path, ignore_times=True)
    assert found[b"/a"] == ["link-count"]
    assert "link-count" in found[b"/b"]
    assert "timestamp" not in {word for words in found.values() for word in words}


def test_every_aspect_has_a_letter_of_its_own():
    assert len({aspect.letter for aspect in ASPECTS}) == len({aspect.word for aspect in ASPECTS}) == len(ASPECTS)


def test_counters_and_ways_to_name_a_revision(own, tmp_path):
    (own.tree / "more").write_bytes(b"12")
    own.publish()
    repository = opened(own)
    root = str(repository.manifest.root_catalog)
    sides = [find_revision(repository, text) for text in ("first", "2", root, "3", "trunk")]
    assert [side.revision for side in sides] == [2, 2, 3, 3, 3]
    found = compare(repository, sides[0], sides[-1], str(tmp_path)).counters
    assert (found.regular, found.file_size, found.dir) == (1, 2, 0)
    for wrong in ("", "7", "none", "0" * 40):
        with pytest.raises(NotFound):
            find_revision(repository, wrong)


def test_the_open_transaction(own, tmp_path):
    layout, before = Layout.of(own.site, own.settings), own.manifest()
    with pytest.raises(UsageError):
        list(worktree_changes(own.site, own.settings, str(tmp_path)))
    os.makedirs(layout.upper + "/dir")
    create_record(layout, Record(str(before.root_catalog), "", os.geteuid(), 1))
    for name in ("a", "dir/new"):
        with open(f"{layout.upper}/{name}", "wb") as file:
            file.write(b"changed")
    found = set(worktree_changes(own.site, own.settings, str(tmp_path)))
    assert {("mod", b"/a"), ("add", b"/dir/new")} <= found
    assert not {path for _, path in found} & {b"/b", b"/dir/c"}
    assert own.manifest() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="an overlay's marks need root")
def test_what_the_open_transaction_removes(own, tmp_path):
    layout = Layout.of(own.site, own.settings)
    os.makedirs(layout.upper)
    create_record(layout, Record(str(own.manifest().root_catalog), "", os.geteuid(), 1))
    os.mknod(f"{layout.upper}/dir", 0o020000, os.makedev(0, 0))
    found = set(worktree_changes(own.site, own.settings, str(tmp_path)))
    assert {("rem", b"/dir"), ("rem", b"/dir/c")} <= found
