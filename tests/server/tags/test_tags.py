"""Names for revisions: added, listed, moved, removed; the revision itself stays what it is."""

import os
import time

import pytest

from cvfs.errors import FormatError, Locked, NotFound, UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import Branch, Tag
from cvfs_server.lock import publisher_lock
from cvfs_server.publishers import publishing
from cvfs_server.repository import PublishedRepository
from cvfs_server.tags.branches import check_out, checked_out, release_branch
from cvfs_server.tags.tags import add_tag, keep_automatic_since, list_branches, list_tags, remove_tags


@pytest.fixture
def own(new_repository):
    """Two revisions after the first one."""
    made = new_repository(auto_tag=False)
    for text in ("one", "two"):
        (made.tree / "file").write_text(text)
        made.publish()
    return made


def _names(own):
    """Newest revision first: tags of one revision may have been set within one second, or not."""
    tags = [(tag.name, tag.revision) for tag in list_tags(own.site, own.fqrn)]
    return sorted(tags, key=lambda tag: (-tag[1], tag[0]))


def test_the_present_revision_gets_a_name(own):
    before = own.manifest()
    tag = add_tag(own.site, own.fqrn, "v1", "the first")
    assert (tag.root_catalog, tag.revision, tag.size) == (before.root_catalog, 3, before.root_size)
    assert _names(own) == [("trunk", 3), ("v1", 3), ("trunk-previous", 2)]
    after = own.manifest()
    assert (after.root_catalog, after.revision) == (before.root_catalog, before.revision)
    assert after.timestamp >= before.timestamp
    assert after.history != before.history
    assert own.check() == []
    with own.open("v1") as repository:
        assert repository.read("/file") == b"two"


def test_an_older_revision_gets_a_name(own):
    older = next(tag for tag in list_tags(own.site, own.fqrn) if tag.name == "trunk-previous")
    tag = add_tag(own.site, own.fqrn, "old", root=older.root_catalog)
    assert (tag.revision, tag.timestamp, tag.size) == (2, older.timestamp, older.size)
    with own.open("old") as repository:
        assert repository.read("/file") == b"one"
    assert own.check() == []
    assert own.check(tags=("old",)) == []


def test_the_databases_form_a_chain(own):
    first = own.manifest().history
    add_tag(own.site, own.fqrn, "v1")
    with own.open() as repository:
        assert repository.number == 3
    second = own.manifest().history
    remove_tags(own.site, own.fqrn, ["v1"])
    assert len({first, second, own.manifest().history}) == 3


@pytest.mark.parametrize(
    ("name", "root", "error"),
    [
        ("trunk", None, UsageError),
        ("a b", None, UsageError),
        ("", None, UsageError),
        ("good", ContentHash.parse("12" * 20, ObjectKind.CATALOG), NotFound),
    ],
)
def test_what_is_refused(own, name, root, error):
    before = own.manifest()
    with pytest.raises(error):
        add_tag(own.site, own.fqrn, name, root=root)
    assert own.manifest() == before


def test_a_hash_of_something_else_is_no_root(own):
    with own.open() as repository:
        content = repository.lookup("/file").content
    stored = own.storage / content.path
    pretended = ContentHash(content.algorithm, content.digest, ObjectKind.CATALOG)
    (own.storage / pretended.path).write_bytes(stored.read_bytes())
    before = own.manifest()
    with pytest.raises(FormatError):
        add_tag(own.site, own.fqrn, "wrong", root=pretended)
    assert own.manifest() == before


def test_names_are_removed_together_or_not_at_all(own):
    for name in ("a", "b", "c"):
        add_tag(own.site, own.fqrn, name)
    for names, error in ((["a", "missing"], NotFound), (["a", "trunk"], UsageError), (["trunk-previous"], UsageError)):
        with pytest.raises(error):
            remove_tags(own.site, own.fqrn, names)
    assert len(_names(own)) == 5
    remove_tags(own.site, own.fqrn, ["a", "c"])
    assert _names(own) == [("b", 3), ("trunk", 3), ("trunk-previous", 2)]
    assert own.check() == []


def test_not_beside_another_publisher(new_repository):
    own = new_repository(lock_timeout=0)
    with publisher_lock(f"{own.settings.spool}/publish.lock", "publish"), pytest.raises(Locked):
        add_tag(own.site, own.fqrn, "v1")


def _root(own, name):
    return next(tag for tag in list_tags(own.site, own.fqrn) if tag.name == name).root_catalog


def test_a_name_that_is_taken_moves_only_to_a_hash_that_is_given(own):
    add_tag(own.site, own.fqrn, "v1", "the first")
    with pytest.raises(UsageError, match="already"):
        add_tag(own.site, own.fqrn, "v1", "again")
    with pytest.raises(UsageError, match="points to"):
        add_tag(own.site, own.fqrn, "v1", root=_root(own, "trunk"))
    seen = []
    older = _root(own, "trunk-previous")
    moved = add_tag(
        own.site, own.fqrn, "v1", root=older, moving=lambda old, new: seen.append((old.revision, new.revision))
    )
    assert (moved.root_catalog, moved.revision, moved.description) == (older, 2, "the first")
    assert seen == [(3, 2)]
    assert add_tag(own.site, own.fqrn, "v1", "other words", _root(own, "trunk")).description == "other words"
    assert _names(own) == [("trunk", 3), ("v1", 3), ("trunk-previous", 2)]
    assert own.check() == []


@pytest.mark.parametrize("name", ["trunk", "trunk-previous"])
def test_the_publishers_own_names_do_not_move(own, name):
    with pytest.raises(UsageError, match="belongs to the publisher"):
        add_tag(own.site, own.fqrn, name, root=_root(own, "trunk"))


def test_a_nested_catalog_is_no_revision(new_repository):
    own = new_repository()
    (own.tree / "sub").mkdir()
    (own.tree / "sub" / ".cvmfscatalog").touch()
    own.publish()
    with own.open() as repository:
        nested = repository.tree.root().nested()[0].content
    before = own.manifest()
    with pytest.raises(FormatError):
        add_tag(own.site, own.fqrn, "wrong", root=nested)
    assert own.manifest() == before


def test_removing_tells_what_is_gone(own):
    added = [add_tag(own.site, own.fqrn, name) for name in ("a", "b")]
    assert remove_tags(own.site, own.fqrn, ["b", "a", "b"]) == added[::-1]


def test_the_last_tag_of_a_branch_takes_the_branch_along(own):
    add_tag(own.site, own.fqrn, "v1")
    check_out(own.site, own.fqrn, "side", "v1")
    with publishing(own.settings, "test") as publisher:
        repository = PublishedRepository.open(own.site, own.fqrn, publisher.storage)
        checkout = checked_out(own.settings)
        release_branch(repository, checkout, Tag("s1", checkout.root, 3, 0, branch="side"), publisher)
    assert list_branches(own.site, own.fqrn) == [(0, Branch("", None, 0)), (1, Branch("side", "", 3))]
    remove_tags(own.site, own.fqrn, ["s1"])
    assert list_branches(own.site, own.fqrn) == [(0, Branch("", None, 0))]
    assert own.check() == []


def test_not_while_a_branch_is_checked_out(own):
    add_tag(own.site, own.fqrn, "v1")
    check_out(own.site, own.fqrn, "side", "v1")
    for change in (lambda: add_tag(own.site, own.fqrn, "v2"), lambda: remove_tags(own.site, own.fqrn, ["v1"])):
        with pytest.raises(UsageError, match="side is checked out"):
            change()


def test_without_the_key_nothing_begins(own):
    os.unlink(own.site.key(own.fqrn, "key"))
    with pytest.raises(NotFound, match=r"own\.example\.org\.key"):
        add_tag(own.site, own.fqrn, "v1")


@pytest.mark.parametrize(
    ("text", "ago"), [("4 weeks ago", 28 * 86400), ("3 days ago", 3 * 86400), ("1 hour ago", 3600)]
)
def test_how_long_automatic_tags_are_kept(text, ago):
    assert keep_automatic_since(text, 10**9) == 10**9 - ago


def test_automatic_tags_are_kept_for_ever():
    assert keep_automatic_since("", int(time.time())) == 0
    assert keep_automatic_since("4 weeks ago", 100) == 0


@pytest.mark.parametrize("text", ["4 weeks", "tomorrow", "often", "4 ago weeks"])
def test_a_time_that_would_drop_all_of_them_is_refused(text):
    with pytest.raises(UsageError, match="CVMFS_AUTO_TAG_TIMESPAN"):
        keep_automatic_since(text, 10**9)
