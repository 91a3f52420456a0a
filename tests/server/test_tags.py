"""Names for revisions: added, listed, removed; the revision itself stays what it is."""

import pytest

from cvfs.errors import FormatError, Locked, NotFound, UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.lock import publisher_lock
from cvfs_server.tags import add_tag, list_tags, remove_tags


@pytest.fixture
def own(new_repository):
    """Two revisions after the first one."""
    made = new_repository(auto_tag=False)
    for text in ("one", "two"):
        (made.tree / "file").write_text(text)
        made.publish()
    return made


def _names(own):
    return [(tag.name, tag.revision) for tag in list_tags(own.site, own.fqrn)]


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
    assert own.check(tag="old") == []


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
