"""Manifest, chain of trust, meta info, reflog and tags: one fault in each, and exactly that is found."""

import time
import zlib

import pytest

from cvfs.errors import NotFound
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.reflog import digest as reflog_digest

MANIFEST, WHITELIST, REFLOG, TAGS = ".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog", "tag database"
DAY = 86400


def expiry(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))


def test_a_manifest_that_does_not_start_at_the_root(editor, found):
    edited = editor()
    edited.manifest(root_path_hash="0" * 32)
    assert found(edited) == [(MANIFEST, "it does not start at the root of the repository (R)", False)]


def test_a_manifest_without_certificate(editor, found):
    edited = editor()
    edited.manifest(certificate=None)
    assert found(edited) == [(MANIFEST, "it names no certificate (X)", False)]


def test_a_manifest_without_name_belongs_to_nothing(editor, found):
    edited = editor()
    edited.manifest(fqrn="")
    assert [(where, what.partition(",")[0]) for where, what, _ in found(edited)] == [
        (MANIFEST, "it names no repository (N)"),
        (REFLOG, "is that of tiny.example.org"),
        (TAGS, "is that of tiny.example.org"),
    ]


def test_alternative_paths_are_there_if_promised(editor, found):
    edited = editor()
    edited.manifest(alternative_paths=True)
    manifest = edited.publication.manifest
    places = [f".cvmfsalt-{content.name}" for content in (manifest.certificate, manifest.root_catalog)]
    what = "is missing, though the manifest says that alternative paths exist (A)"
    assert found(edited) == [(place, what, False) for place in places]
    for place in places:
        edited.publication.write(place, b"")
    assert found(edited) == []


TRUST = {
    "manifest by another key": (
        lambda p: p.publish(revision=6, key=p.master_key),
        "manifest signature: not made with its certificate",
    ),
    "whitelist by another key": (
        lambda p: p.vouch(key=p.key),
        "whitelist signature: not made with a master key known for tiny.example.org",
    ),
    "whitelist of another": (
        lambda p: p.vouch(fqrn="other.example.org"),
        "whitelist name: is for other.example.org, not for tiny.example.org",
    ),
    "nobody listed": (lambda p: p.vouch(fingerprints=()), "certificate fingerprint: not listed by the whitelist"),
}


@pytest.mark.parametrize(("forge", "what"), list(TRUST.values()), ids=list(TRUST))
def test_a_broken_link_of_the_chain_of_trust(editor, found, trusted, forge, what):
    edited = editor()
    forge(edited.publication)
    assert found(edited, **trusted(edited)) == [("chain of trust", what, False)]
    assert found(edited) == []


def test_a_flipped_bit_of_the_whitelist_is_found_with_and_without_keys(editor, found, trusted):
    edited = editor()
    edited.publication.flip(WHITELIST, 3)
    assert [where for where, *_ in found(edited, **trusted(edited))] == ["chain of trust"]
    assert [where for where, *_ in found(edited)] == [WHITELIST]


def test_a_missing_whitelist(editor, found, trusted):
    edited = editor()
    edited.remove(WHITELIST)
    for options in ({}, trusted(edited)):
        assert found(edited, **options) == [(WHITELIST, f"{WHITELIST}: no such file in this local store", False)]


@pytest.mark.parametrize("days", [-1, 6, 8])
def test_a_whitelist_says_when_it_ends(editor, found, trusted, days):
    edited = editor()
    options = trusted(edited)
    end = expiry(options["now"] + days * DAY)
    edited.publication.vouch(expires=end)
    soon = [(WHITELIST, f"expires {end} UTC: sign it anew before", True)]
    gone = [("chain of trust", f"whitelist expiry: expired {end} UTC, must be signed anew", False)]
    assert found(edited, **options) == {-1: gone, 6: soon, 8: []}[days]
    unverified = {-1: [(WHITELIST, f"expired {end} UTC: sign it anew", False)], 6: soon, 8: []}[days]
    assert found(edited, now=options["now"]) == unverified


def test_a_manifest_that_was_replaced_meanwhile(editor, found, trusted):
    edited = editor()
    before = edited.publication.manifest
    edited.publication.publish()
    edited.publication.manifest = before
    warning = (MANIFEST, "was replaced after this check began: check again", True)
    assert found(edited, **trusted(edited)) == [warning]


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("damage", ["missing", "flipped", "no certificate", "no zlib"])
def test_a_bad_certificate(editor, found, trusted, damage, with_keys):
    edited = editor()
    place = edited.publication.manifest.certificate.path
    if damage == "missing":
        edited.remove(place)
    elif damage == "flipped":
        edited.publication.flip(place)
    else:
        other = edited.store(b"no PEM", ObjectKind.CERTIFICATE)
        if damage == "no zlib":
            other = ContentHash.of(b"raw", edited.publication.algorithm, ObjectKind.CERTIFICATE)
            edited.publication.write(other.path, b"raw")
        edited.reflog(edited.refer(other))
        edited.manifest(certificate=other)
    (finding,) = found(edited, **(trusted(edited) if with_keys else {}))
    assert finding.where == "certificate"
    assert not finding.is_warning
    words = {"missing": "no such file", "flipped": "do not have the hash", "no certificate": "not a certificate"}
    assert words.get(damage, "not a zlib stream") in finding.what


@pytest.mark.parametrize("damage", ["missing", "flipped", "no JSON"])
def test_bad_meta_info(editor, found, damage):
    edited = editor()
    place = edited.publication.manifest.metainfo.path
    if damage == "missing":
        edited.remove(place)
    elif damage == "flipped":
        edited.publication.flip(place)
    else:
        other = edited.store(b"{", ObjectKind.METAINFO)
        edited.reflog(edited.refer(other))
        edited.manifest(metainfo=other)
    ((where, _, is_warning),) = found(edited)
    assert (where, is_warning) == ("meta info", damage == "no JSON")


def test_a_repository_without_meta_info_tags_and_reflog_is_sound(editor, found):
    edited = editor()
    edited.remove(REFLOG)
    edited.manifest(metainfo=None, history=None, reflog=None)
    assert found(edited) == []


@pytest.mark.parametrize("field", ["root_catalog", "certificate", "history", "metainfo"])
def test_a_reflog_lists_what_the_manifest_names(editor, found, field):
    edited = editor()
    content = getattr(edited.publication.manifest, field)
    edited.reflog(f"DELETE FROM refs WHERE hash = '{content}'")
    assert found(edited) == [(REFLOG, f"does not list {content.name}, which the manifest names", False)]


def test_a_reflog_that_lists_a_catalog_as_something_else_does_not_list_it(editor, found):
    edited = editor()
    content = edited.publication.manifest.root_catalog
    edited.reflog(f"UPDATE refs SET type = 3 WHERE hash = '{content}'")
    assert [where for where, *_ in found(edited)] == [REFLOG]


def test_what_this_machine_recorded_of_the_reflog_counts_more_than_what_the_manifest_says(editor, found):
    edited = editor()
    edited.reflog("UPDATE refs SET timestamp = 1", sign=False)
    old = edited.publication.manifest.reflog
    new = reflog_digest(str(edited.publication.storage / REFLOG), old.algorithm)
    warning = (REFLOG, f"does not have the digest {old} of the manifest (Y)", True)
    stale = (REFLOG, f"does not have the digest {old} that this machine recorded: put it right with check -r", True)
    assert found(edited) == [warning]
    assert found(edited, reflog_digest=new) == []
    assert found(edited, reflog_digest=old) == [stale]


def test_somebody_must_know_the_digest_of_a_reflog(editor, found):
    edited = editor()
    digest = edited.publication.manifest.reflog
    edited.manifest(reflog=None)
    assert found(edited) == [(REFLOG, "nobody knows its digest: neither the manifest (Y) nor this machine", False)]
    assert found(edited, reflog_digest=digest) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_missing_reflog(editor, found, known):
    edited = editor()
    edited.remove(REFLOG)
    options = {"reflog_digest": edited.publication.manifest.reflog} if known else {}
    assert found(edited, **options) == [(REFLOG, "is missing, though its digest is recorded", not known)]


def test_a_reflog_that_is_none(editor, found):
    edited = editor()
    edited.publication.write(REFLOG, b"no database")
    edited.manifest(reflog=ContentHash.of(b"no database", edited.publication.algorithm))
    assert found(edited) == [(REFLOG, "not a SQLite file", False)]


def test_the_reflog_of_another_repository(editor, found):
    edited = editor()
    edited.reflog("UPDATE properties SET value = 'other.example.org' WHERE key = 'fqrn'")
    assert found(edited) == [(REFLOG, "is that of other.example.org, not of tiny.example.org", False)]


BRANCH = "INSERT INTO branches VALUES ('{}', '{}', {})"
ON_BRANCH = "UPDATE tags SET branch = 'b' WHERE name = 's5'"
HISTORY = {
    "other name": (
        ["UPDATE properties SET value = 'other.example.org' WHERE key = 'fqrn'"],
        (TAGS, "is that of other.example.org, not of tiny.example.org"),
    ),
    "tag name": (
        ["UPDATE tags SET name = 'a b' WHERE name = 's1'"],
        (TAGS, "'a b' is no tag name: use letters, digits and '-_./:'"),
    ),
    "unused branch": ([BRANCH.format("b", "", 2)], (TAGS, "branch 'b' is used by no tag")),
    "no tags": (["DELETE FROM tags"], (TAGS, "branch '' is used by no tag")),
    "young branch": (
        [BRANCH.format("b", "", 7), ON_BRANCH],
        ("tag s5", "revision 6 is older than its branch, which began at 7"),
    ),
    "unknown branch": ([ON_BRANCH], (TAGS, "tiny.example.org has no branch 'b'")),
    "unknown parent": ([BRANCH.format("b", "a", 2), ON_BRANCH], (TAGS, "tiny.example.org has no branch 'a'")),
    "branch name": (
        [BRANCH.format("b c", "", 2), "UPDATE tags SET branch = 'b c' WHERE name = 's5'"],
        (TAGS, "'b c' is no branch name: use letters, digits and '-_./:@'"),
    ),
    "default branch with a parent": (
        [
            "PRAGMA ignore_check_constraints = ON",
            "UPDATE branches SET parent = 'b'",
            BRANCH.format("b", "", 2),
            ON_BRANCH,
        ],
        (TAGS, "has no default branch without parent"),
    ),
    "number": (
        ["UPDATE tags SET revision = 'six' WHERE name = 's1'"],
        (TAGS, "tag database: a number is none, or negative"),
    ),
}


@pytest.mark.parametrize(("statements", "finding"), list(HISTORY.values()), ids=list(HISTORY))
def test_a_broken_rule_of_the_tag_database(editor, found, statements, finding):
    edited = editor()
    edited.history(*statements)
    assert found(edited) == [(*finding, False)]


def test_a_sound_branch_is_none_of_our_business(editor, found):
    edited = editor()
    edited.history(BRANCH.format("b", "", 6), ON_BRANCH)
    assert found(edited) == []


def test_the_root_catalog_of_every_tag_exists_if_objects_are_looked_for(editor, found):
    edited = editor()
    place = edited.publication.tag("s2")[0].path
    edited.remove(place)
    assert found(edited) == []
    missing = ("tag s2", f"its root catalog {place} is missing", False)
    assert found(edited, existence=True) == [missing]
    assert found(edited, integrity=True) == [missing]
    assert [where for where, *_ in found(edited, tags=("s2",))] == ["/"]


@pytest.mark.parametrize("damage", ["missing", "flipped", "none"])
def test_a_tag_database_that_cannot_be_read(editor, found, damage):
    edited = editor()
    place = edited.publication.manifest.history.path
    if damage == "missing":
        edited.remove(place)
    elif damage == "flipped":
        edited.publication.flip(place)
    else:
        other = edited.store(b"no database", ObjectKind.HISTORY)
        edited.reflog(edited.refer(other))
        edited.manifest(history=other)
    assert [(where, is_warning) for where, _, is_warning in found(edited)] == [(TAGS, False)]
    assert [(where, is_warning) for where, _, is_warning in found(edited, all_tags=True)] == [(TAGS, False)]
    with pytest.raises(NotFound, match="no tags that could be read"):
        found(edited, tags=("s1",))


def test_a_bomb_is_refused_as_a_certificate(editor, found):
    edited = editor()
    bomb = edited.store(b"\0" * 2**21, ObjectKind.CERTIFICATE)
    assert len(zlib.compress(b"\0" * 2**21)) < 2**12
    edited.reflog(edited.refer(bomb))
    edited.manifest(certificate=bomb)
    assert found(edited) == [("certificate", "inflates to more than 1048576 bytes", False)]
