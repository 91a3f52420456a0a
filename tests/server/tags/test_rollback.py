"""Back to a tag: the old tree as a new revision, with the tags in between gone, and every rule of clients kept."""

import dataclasses
import os
import time
from pathlib import Path

import pytest

from cvfs.errors import Locked, MissingObject, NotFound, UsageError
from cvfs.format.signature import load_public_key
from cvfs.history import Tag
from cvfs.reflog import Reflog
from cvfs.trust import TrustAnchors
from cvfs_server.lock import publisher_lock
from cvfs_server.publishers import publishing
from cvfs_server.repository import PublishedRepository
from cvfs_server.tags.branches import check_out, checked_out, release_branch
from cvfs_server.tags.rollback import rollback
from cvfs_server.tags.tags import add_tag, list_tags


@pytest.fixture
def own(new_repository):
    """Revisions 2 to 4, called v2 to v4; a nested catalog in each."""
    made = new_repository(auto_tag=False)
    (made.tree / "sub").mkdir()
    (made.tree / "sub" / ".cvmfscatalog").touch()
    for revision in (2, 3, 4):
        (made.tree / "file").write_text(f"of revision {revision}")
        (made.tree / "sub" / f"new{revision}").write_text("")
        made.publish(tag=f"v{revision}", message=f"text {revision}")
    return made


def _names(own):
    return {(tag.name, tag.revision) for tag in list_tags(own.site, own.fqrn)}


def _content(own, tag=None):
    with own.open(tag) as repository:
        names = [entry.name for entry in repository.listing("/sub") if entry.name.startswith(b"new")]
        return repository.read("/file").decode(), sorted(names)


def test_an_old_revision_is_the_newest_again(own):
    before = own.manifest()
    done = rollback(own.site, own.fqrn, "v2")
    after = own.manifest()
    assert (done.revision, after.revision) == (5, 5)
    assert (done.target.revision, done.left_behind) == (2, before.root_catalog)
    assert {tag.name for tag in done.removed} == {"v3", "v4", "trunk-previous"}
    assert _content(own) == ("of revision 2", [b"new2"])
    assert _names(own) == {("trunk", 5), ("v2", 5)}
    again = next(tag for tag in list_tags(own.site, own.fqrn) if tag.name == "v2")
    assert (again.root_catalog, again.size, again.description) == (after.root_catalog, after.root_size, "text 2")
    assert after.timestamp >= before.timestamp
    assert own.check() == []
    assert own.check(tags=("v2",)) == []


def test_its_root_catalog_follows_the_one_before(own):
    before = own.manifest()
    rollback(own.site, own.fqrn, "v2")
    with own.open() as repository:
        root = repository.tree.root()
        assert (root.revision, root.previous_revision) == (5, before.root_catalog)
        assert root.last_modified == own.manifest().timestamp


def test_the_reflog_forgets_nothing(own):
    before = own.manifest()
    rollback(own.site, own.fqrn, "v2")
    with Reflog.open(str(own.storage / ".cvmfsreflog")) as log:
        logged = {reference.content for reference in log.references()}
    after = own.manifest()
    assert logged >= {m.root_catalog for m in (before, after)} | {before.history, after.history}


def test_the_last_publish_is_undone_but_once(own):
    rollback(own.site, own.fqrn)
    assert _content(own) == ("of revision 3", [b"new2", b"new3"])
    assert _names(own) == {("trunk", 5), ("v3", 3), ("v2", 2)}
    with pytest.raises(NotFound, match="only one publish can be undone"):
        rollback(own.site, own.fqrn)
    (own.tree / "file").write_text("later")
    own.publish(tag="v6")
    rollback(own.site, own.fqrn)
    assert _content(own)[0] == "of revision 3"


def test_what_is_published_afterwards_is_exact(own):
    """The files are those of the last publish, unchanged: that they were published says nothing about what is there now."""
    expected = _content(own)
    rollback(own.site, own.fqrn, "v2")
    report = own.publish(tag="v6")
    assert report.modified + report.added > 0
    assert _content(own) == expected
    assert own.check() == []


def test_a_clock_that_was_set_back_takes_nobody_back(own, monkeypatch):
    before = own.manifest()
    monkeypatch.setattr(time, "time", lambda: before.timestamp - 1000.0)
    rollback(own.site, own.fqrn, "v2")
    assert own.manifest().timestamp == before.timestamp
    with own.open() as repository:
        assert repository.tree.root().last_modified == before.timestamp


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("v9", NotFound, "no tag 'v9'"),
        ("v4", UsageError, "present revision"),
        ("trunk", UsageError, "present revision"),
    ],
)
def test_what_is_refused(own, name, error, words):
    before = own.manifest()
    with pytest.raises(error, match=words):
        rollback(own.site, own.fqrn, name)
    assert own.manifest() == before


def test_branches_are_left_alone(own):
    check_out(own.site, own.fqrn, "side", "v3")
    with pytest.raises(UsageError, match="side is checked out"):
        rollback(own.site, own.fqrn, "v2")
    with publishing(own.settings, "test") as publisher:
        repository = PublishedRepository.open(own.site, own.fqrn, publisher.storage)
        checkout = checked_out(own.settings)
        release_branch(repository, checkout, Tag("s4", checkout.root, 3, 0, branch="side"), publisher)
    with pytest.raises(UsageError, match="branch 'side'"):
        rollback(own.site, own.fqrn, "s4")
    rollback(own.site, own.fqrn, "v2")
    assert _names(own) == {("trunk", 5), ("v2", 5), ("s4", 3)}
    assert _content(own, "s4") == ("of revision 3", [b"new2", b"new3"])
    assert own.check() == []


def test_a_root_that_is_gone_changes_nothing(own):
    target = next(tag for tag in list_tags(own.site, own.fqrn) if tag.name == "v2")
    (own.storage / target.root_catalog.path).unlink()
    before = own.manifest()
    with pytest.raises(MissingObject):
        rollback(own.site, own.fqrn, "v2")
    assert own.manifest() == before


def test_without_the_key_nothing_begins(own):
    os.unlink(own.site.key(own.fqrn, "key"))
    objects = sorted((own.storage / "data").rglob("*"))
    with pytest.raises(NotFound, match=r"own\.example\.org\.key"):
        rollback(own.site, own.fqrn, "v2")
    assert sorted((own.storage / "data").rglob("*")) == objects


def test_not_beside_another_publisher(new_repository):
    own = new_repository(lock_timeout=0)
    own.publish()
    with publisher_lock(f"{own.settings.spool}/publish.lock", "publish"), pytest.raises(Locked):
        rollback(own.site, own.fqrn)


def test_clients_that_have_seen_the_newest_revision_follow(own):
    """By the rules that keep anybody else from showing them an old one."""
    anchors = TrustAnchors(own.fqrn, (load_public_key(Path(own.public_key).read_bytes()),))
    before = _verified(own, anchors)
    rollback(own.site, own.fqrn, "v2")
    after = _verified(own, dataclasses.replace(anchors, seen=before.seen))
    assert after.manifest.revision == before.manifest.revision + 1


def _verified(own, anchors):
    manifest, whitelist = ((own.storage / name).read_bytes() for name in (".cvmfspublished", ".cvmfswhitelist"))
    certificate = (own.storage / own.manifest().certificate.path).read_bytes()
    return anchors.verify(manifest, whitelist, certificate, time.time())


def test_what_others_are_about_to_publish_lands_on_top(own):
    """A publish that began before the rollback ends after it: its changes, and nothing else, are on top of the old tree."""
    (own.tree / "more").write_text("of the other")
    meanwhile = [lambda: rollback(own.site, own.fqrn, "v2")]

    def report(_kind, _path):
        while meanwhile:
            meanwhile.pop()()

    own.publish(tag="v6", report=report)
    with own.open() as repository:
        names = {entry.name for entry in repository.listing("/")}
        assert (repository.number, repository.read("/file"), repository.read("/more")) == (
            6,
            b"of revision 2",
            b"of the other",
        )
    assert names == {b"file", b"sub", b"more"}
    assert own.check() == []


def test_a_root_that_is_being_collected_gets_no_name(own, monkeypatch):
    abandoned = own.manifest().root_catalog
    rollback(own.site, own.fqrn, "v2")
    monkeypatch.setattr("cvfs_server.tags.tags.is_condemned", lambda _settings, content: content == abandoned)
    with pytest.raises(NotFound, match="garbage collection"):
        add_tag(own.site, own.fqrn, "again", root=abandoned)
    monkeypatch.undo()
    assert add_tag(own.site, own.fqrn, "again", root=abandoned).revision == 4
