"""Branches: what is checked out is remembered until something was published there; nobody sees it but by its tags."""

import os
from pathlib import Path

import pytest

from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.history import Branch, Tag
from cvfs.reflog import Reflog
from cvfs_server.publishers import publishing
from cvfs_server.repository import PublishedRepository
from cvfs_server.tags.branches import (
    Checkout,
    check_branch_tag,
    check_out,
    checked_out,
    leave_branch,
    release_branch,
    return_to_trunk,
)
from cvfs_server.tags.rollback import rollback
from cvfs_server.tags.tags import list_branches, list_tags


@pytest.fixture
def own(new_repository):
    """Revisions 2 and 3, called v2 and v3."""
    made = new_repository(auto_tag=False)
    for revision in (2, 3):
        (made.tree / "file").write_text(f"of revision {revision}")
        made.publish(tag=f"v{revision}")
    return made


def _tag(own, name):
    return next(tag for tag in list_tags(own.site, own.fqrn) if tag.name == name)


def _release(own, tag):
    with publishing(own.settings, "test") as publisher:
        repository = PublishedRepository.open(own.site, own.fqrn, publisher.storage)
        return release_branch(repository, checked_out(own.settings), tag, publisher)


def test_at_first_nothing_is_checked_out(own):
    assert checked_out(own.settings) is None
    return_to_trunk(own.settings)
    assert checked_out(own.settings) is None


def test_a_tag_is_checked_out_onto_a_new_branch(own):
    before = own.manifest()
    root = _tag(own, "v2").root_catalog
    assert check_out(own.site, own.fqrn, "side", "v2") == Checkout("v2", root, "side", "")
    assert checked_out(own.settings) == Checkout("v2", root, "side", "")
    # The line that scripts of the original read.
    assert Path(own.settings.spool, "checkout").read_text().split() == ["v2", str(root), "side"]
    assert own.manifest() == before
    return_to_trunk(own.settings)
    assert checked_out(own.settings) is None


@pytest.mark.parametrize(
    ("branch", "tag", "error", "words"),
    [
        ("side", "", NotFound, "no branch 'side'"),
        ("side", "v9", NotFound, "no tag 'v9'"),
        ("a b", "v2", UsageError, "branch name"),
        ("", "v2", UsageError, "branch name"),
    ],
)
def test_what_is_refused(own, branch, tag, error, words):
    with pytest.raises(error, match=words):
        check_out(own.site, own.fqrn, branch, tag)
    assert checked_out(own.settings) is None


def test_publishing_on_a_branch_shows_by_its_tag_only(own):
    check_out(own.site, own.fqrn, "side", "v2")
    before, root = own.manifest(), _tag(own, "v3")
    released = _release(own, Tag("s1", root.root_catalog, 3, before.timestamp, "aside", root.size, "side"))
    after = own.manifest()
    assert released == after
    assert (after.root_catalog, after.revision) == (before.root_catalog, before.revision)
    assert checked_out(own.settings) is None
    assert list_branches(own.site, own.fqrn) == [(0, Branch("", None, 0)), (1, Branch("side", "", 3))]
    with own.open("s1") as repository:
        assert repository.read("/file") == b"of revision 3"
    assert own.check() == []
    assert own.check(tags=("s1",)) == []


def test_its_root_is_in_the_reflog(own):
    """Or nobody could collect it once its tag is gone."""
    abandoned = _tag(own, "v3")
    rollback(own.site, own.fqrn, "v2")
    with publishing(own.settings, "test"), Reflog.open(str(own.storage / ".cvmfsreflog")) as log:
        log.remove([abandoned.root_catalog])
    check_out(own.site, own.fqrn, "side", "v2")
    _release(own, Tag("s1", abandoned.root_catalog, 4, 0, size=abandoned.size, branch="side"))
    with Reflog.open(str(own.storage / ".cvmfsreflog")) as log:
        assert abandoned.root_catalog in {reference.content for reference in log.references()}


def test_a_branch_is_continued_at_its_head(own):
    root = _tag(own, "v3").root_catalog
    check_out(own.site, own.fqrn, "side", "v2")
    _release(own, Tag("s1", root, 3, 0, branch="side"))
    with pytest.raises(UsageError, match="already"):
        check_out(own.site, own.fqrn, "side", "v2")
    assert check_out(own.site, own.fqrn, "side") == Checkout("s1", root, "side", "side")
    _release(own, Tag("s2", root, 4, 0, branch="side"))
    assert check_out(own.site, own.fqrn, "side").tag == "s2"
    assert check_out(own.site, own.fqrn, "further", "s1") == Checkout("s1", root, "further", "side")
    _release(own, Tag("f1", root, 5, 0, branch="further"))
    levels = [(level, branch.name, branch.parent) for level, branch in list_branches(own.site, own.fqrn)]
    assert levels == [(0, "", None), (1, "side", ""), (2, "further", "side")]
    assert own.check() == []


@pytest.mark.parametrize("name", ["", "v2", "a b", "trunk"])
def test_a_tag_that_cannot_be_is_known_before_the_work(own, name):
    check_out(own.site, own.fqrn, "side", "v2")
    history = PublishedRepository.open(own.site, own.fqrn).history()
    with pytest.raises(UsageError):
        check_branch_tag(history, checked_out(own.settings), name)
    check_branch_tag(history, checked_out(own.settings), "s1")


@pytest.mark.parametrize("text", ["v2\n", "v2 abc side\n", "v2 x side more and more\n"])
def test_a_damaged_record_is_refused(own, text):
    Path(own.settings.spool, "checkout").write_text(text)
    with pytest.raises(FormatError):
        checked_out(own.settings)


def test_the_record_of_the_original_is_understood(own):
    root = _tag(own, "v2").root_catalog
    Path(own.settings.spool, "checkout").write_text(f"v2 {root} side other\n")
    assert checked_out(own.settings) == Checkout("v2", root, "side", "other")
    os.truncate(Path(own.settings.spool, "checkout"), 0)
    assert checked_out(own.settings) is None


def test_a_branch_from_the_first_publish_on(own):
    """Published by the ordinary way, on top of the tag, while trunk goes on as if nothing were."""
    check_out(own.site, own.fqrn, "side", "v2")
    (own.tree / "aside").write_text("only there")
    with pytest.raises(UsageError, match="needs the name of a tag"):
        own.publish()
    before = own.manifest()
    own.publish(tag="s1", message="first")
    assert (own.manifest().root_catalog, own.manifest().revision) == (before.root_catalog, before.revision)
    (own.tree / "aside").unlink()
    (own.tree / "file").write_text("of trunk")
    own.publish(tag="v4")
    check_out(own.site, own.fqrn, "side")
    (own.tree / "aside").write_text("changed there")
    own.publish(tag="s2")
    found = {}
    for tag in ("v2", "v3", "s1", "v4", "s2"):
        with own.open(tag) as repository:
            names = {entry.name for entry in repository.listing("/")}
            found[tag] = (repository.number, repository.read("/aside").decode() if b"aside" in names else None)
    assert found == {
        "v2": (2, None),
        "v3": (3, None),
        "s1": (3, "only there"),
        "v4": (4, None),
        "s2": (4, "changed there"),
    }
    heads = {tag.name: tag.branch for tag in list_tags(own.site, own.fqrn)}
    assert heads == {"v2": "", "v3": "", "v4": "", "trunk": "", "trunk-previous": "", "s1": "side", "s2": "side"}
    assert own.check(tags=("s1", "s2", "v2", "v3")) == []


def test_no_checkout_in_a_transaction(own):
    Path(own.settings.spool, "in_transaction.lock").touch()
    for act in (lambda: check_out(own.site, own.fqrn, "side", "v2"), lambda: leave_branch(own.site, own.fqrn)):
        with pytest.raises(UsageError, match="in a transaction"):
            act()
    os.unlink(Path(own.settings.spool, "in_transaction.lock"))
    check_out(own.site, own.fqrn, "side", "v2")
    leave_branch(own.site, own.fqrn)
    assert checked_out(own.settings) is None
