"""Every tag of a repository inside its mount, held to what the original client showed of each."""

import hashlib
import stat

import pytest

from cvfs.catalog.diff import differences, directory_differences
from cvfs.client.inodes import ROOT
from cvfs.client.settings.view import ViewSettings
from cvfs.client.snapshot_tree import HIDDEN, SNAPSHOTS
from cvfs.client.volume import Volume
from cvfs.errors import NotADirectory, NotFound
from cvfs.format.dirent import Flag
from cvfs.history import History, Tag
from cvfs_server.tags.tags import add_tag, remove_tags

TAGS = ["s1", "s2", "s3", "s4", "s5"]


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def repository(opened, tiny):
    return opened(tiny, snapshots=True)


def names(rows) -> set[bytes]:
    return {row.name for row in rows}


def test_the_directory_is_found_but_not_listed(repository):
    assert repository.lookup("/.cvmfs").is_hidden
    assert ".cvmfs" not in {entry.name.decode() for entry in repository.listing("/") if not entry.is_hidden}
    assert names(repository.listing("/.cvmfs")) == {b"snapshots"}
    assert names(repository.listing("/.cvmfs/snapshots")) >= {tag.encode() for tag in TAGS}


def test_an_entry_by_itself_is_that_of_the_listing(repository):
    tree = repository.tree
    for path in (b"", b"/files", b"/.cvmfs", SNAPSHOTS, SNAPSHOTS + b"/s5", SNAPSHOTS + b"/s5/files"):
        for row in tree.listing(path):
            assert tree.entry(path, row.name) == row
        assert tree.entry(path, b"no such name") is None


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_shows_the_tree_of_its_revision(repository, tiny, tag):
    place = SNAPSHOTS + b"/" + tag.encode()
    found = {path.removeprefix(place): entry for path, entry in repository.walk(place)}
    expected = {e["path"].encode("utf-8", "surrogateescape"): e for e in tiny.manifests[tag]["entries"]}
    assert found.keys() == expected.keys()
    for path, entry in found.items():
        shown = expected[path]
        if path:
            assert stat.S_IMODE(entry.mode) == int(shown["mode"], 8), path
        if shown["type"] == "file":
            assert entry.size == shown["size"]


def test_files_of_a_tag_can_be_read(repository, tiny):
    for tag in TAGS:
        files = [e for e in tiny.manifests[tag]["entries"] if e["type"] == "file" and e["path"].startswith("/chunked/")]
        for entry in files[-3:]:
            data = repository.read(f"/.cvmfs/snapshots/{tag}{entry['path']}")
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert files


def test_external_files_of_a_tag_have_the_path_that_was_published(repository, row):
    external = row(b"data", flags=int(Flag.FILE | Flag.EXTERNAL))
    for path in (b"/x/data", SNAPSHOTS + b"/s1/x/data"):
        [piece] = repository.pieces(path, external)
        assert piece.wanted.path == "x/data"


@pytest.mark.parametrize("path", ["/.cvmfs/other", "/.cvmfs/snapshots/none", "/.cvmfs/snapshots/none/x", "/.cvmfsx"])
def test_nothing_else_is_there(repository, path):
    with pytest.raises(NotFound):
        repository.lookup(path)
    with pytest.raises((NotFound, NotADirectory)):
        repository.listing(path)


def test_it_is_shown_on_request_only(opened, tiny):
    with pytest.raises(NotFound):
        opened(tiny).lookup("/.cvmfs")
    pinned = opened(tiny, snapshots=True, root_hash=opened(tiny).revision.root_hash)
    with pytest.raises(NotFound):
        pinned.lookup("/.cvmfs")


def test_revisions_compare_as_without_it(opened, tiny):
    """One tag database on both sides: nothing below `/.cvmfs` differs."""
    old, new = (opened(tiny, snapshots=True, tag=tag).tree for tag in ("s4", "s5"))
    plain = [opened(tiny, tag=tag).tree for tag in ("s4", "s5")]
    assert list(differences(old, new)) == list(differences(*plain))
    for path in (HIDDEN, SNAPSHOTS, SNAPSHOTS + b"/s1", SNAPSHOTS + b"/s1/chunked", SNAPSHOTS + b"/none"):
        assert old.governing(path) == new.governing(path)
        assert directory_differences(old, new, path) == []


def test_nested_catalogs_of_a_tag_lie_below_it(repository):
    nested = repository.tree.governing(SNAPSHOTS + b"/s5/names")
    assert nested.path == SNAPSHOTS + b"/s5/names"
    assert nested.content == repository.tree.governing(b"/names").content
    assert repository.tree.catalog_at(SNAPSHOTS + b"/s5/names").mountpoint == b"/names"


def test_nothing_waits_in_the_receive_loop(opened, tiny, web):
    """Tag database and root catalogs come from elsewhere, so who goes there first goes on in a worker."""
    server = web(tiny.root)
    volume = Volume(opened(tiny, snapshots=True, servers=(f"{server.url}/{tiny.fqrn}",)))
    hidden = volume.lookup(ROOT, b".cvmfs", wait=False).ino
    snapshots = volume.lookup(hidden, b"snapshots", wait=False).ino
    with pytest.raises(BlockingIOError):
        volume.listing(snapshots, wait=False)
    assert len(volume.listing(snapshots)) >= len(TAGS)
    tag = volume.lookup(snapshots, b"s3", wait=False).ino
    with pytest.raises(BlockingIOError):
        volume.listing(tag, wait=False)
    assert [name for name, _ in volume.listing(tag)]
    file = volume.lookup(volume.lookup(tag, b"files").ino, b"hello.txt")
    assert len(volume.read(file.ino, 0, 2**20)) == file.size
    assert [name for name, _ in volume.listing(ROOT) if name == b".cvmfs"] == []


@pytest.mark.parametrize("name", ["a/b", "a\0b", "", ".", "..", "x" * 256])
def test_tags_that_no_directory_can_be_called_are_left_out(repository, monkeypatch, name):
    tags = [Tag(name, repository.tree.root_hash, 1, 0), Tag("good", repository.tree.root_hash, 1, 0)]
    monkeypatch.setattr(History, "newest_first", lambda _: tags)
    assert names(repository.listing("/.cvmfs/snapshots")) == {b"good"}


def test_few_trees_stay_open(repository):
    known = repository.tree._known(wait=True)
    for _ in range(2):
        for name in known:
            assert repository.tree.listing(SNAPSHOTS + b"/" + name)
    assert len(repository.tree._trees) <= 8
    assert ViewSettings().snapshots is False


def test_a_new_revision_brings_its_tags_and_takes_others_away(new_repository, opened):
    """What the refresher compares: the listing of the tags, and what is below them."""
    own = new_repository(auto_tag=False)
    (own.tree / "file").write_text("one")
    own.publish()
    site = own.site
    add_tag(site, own.fqrn, "first")
    old = opened(own, snapshots=True)
    assert old.read("/.cvmfs/snapshots/first/file") == b"one"
    (own.tree / "file").write_text("another")
    own.publish()
    add_tag(site, own.fqrn, "second")
    remove_tags(site, own.fqrn, ["first"])
    new = opened(own, snapshots=True)
    assert new.read("/.cvmfs/snapshots/second/file") == b"another"
    found = {d.path: (d.old is None, d.new is None) for d in directory_differences(old.tree, new.tree, SNAPSHOTS)}
    assert found[SNAPSHOTS + b"/first"] == (False, True)
    assert found[SNAPSHOTS + b"/second"] == (True, False)
    [gone] = directory_differences(old.tree, new.tree, SNAPSHOTS + b"/first")
    assert (gone.path, gone.new) == (SNAPSHOTS + b"/first/file", None)
