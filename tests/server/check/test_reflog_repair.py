"""The reflog put right: its checksum, rows that it lacks, a file that is gone, damaged or somebody else's."""

import os
import sqlite3
from pathlib import Path

import pytest

from cvfs.reflog import NAME, Reflog, digest
from cvfs_server.check.reflog_repair import repair_reflog


@pytest.fixture
def own(new_repository):
    made = new_repository()
    for number in range(3):
        (made.tree / "file").write_bytes(b"%d" % number)
        made.publish(tag=f"v{number}")
    return made


def listed(own):
    with Reflog.open(str(own.storage / NAME)) as log:
        return {reference.content for reference in log.references()}


def checksum(own):
    return Path(own.settings.spool, "reflog.chksum")


def assert_sound(own):
    recorded = digest(str(own.storage / NAME), own.settings.algorithm)
    assert checksum(own).read_text() == str(recorded)
    assert [finding for finding in own.check(reflog_digest=recorded) if not finding.is_warning] == []
    (own.tree / "after").write_bytes(b"more")
    own.publish()
    assert own.check() == []


def test_a_sound_reflog_is_left_alone(own):
    before = (own.storage / NAME).read_bytes()
    assert repair_reflog(own.site, own.fqrn) == []
    assert (own.storage / NAME).read_bytes() == before


def test_its_checksum(own):
    right = checksum(own).read_text()
    checksum(own).write_text("ab" * 20)
    assert repair_reflog(own.site, own.fqrn) == [f"restored reflog checksum as {right} (was: {'ab' * 20})"]
    os.unlink(checksum(own))
    assert repair_reflog(own.site, own.fqrn) == [f"re-created missing reflog checksum as {right}"]
    assert_sound(own)


@pytest.mark.parametrize("damage", ["missing", "garbage", "another's"])
def test_a_reflog_that_is_gone_is_made_anew_with_everything_that_is_left(own, damage):
    before = listed(own)
    if damage == "garbage":
        (own.storage / NAME).write_bytes(b"no database" * 200)
    else:
        os.unlink(own.storage / NAME)
    if damage == "another's":
        Reflog.create(str(own.storage / NAME), "other.example.org").close()
    first, *_ = repair_reflog(own.site, own.fqrn)
    assert first.startswith("reflog ")
    assert first.endswith("made anew from what manifest, tags and catalogs name")
    assert listed(own) == before
    assert_sound(own)


def test_predecessors_are_found_as_far_as_they_are_stored(new_repository):
    own = new_repository(auto_tag=False)
    roots = []
    for number in range(4):
        (own.tree / "file").write_bytes(b"%d" % number)
        own.publish()
        roots.append(own.manifest().root_catalog)
    os.unlink(own.storage / NAME)
    repair_reflog(own.site, own.fqrn)
    assert set(roots) <= listed(own)
    # What was collected is passed by: older tag databases lead on.
    os.unlink(own.storage / roots[1].path)
    os.unlink(own.storage / NAME)
    repair_reflog(own.site, own.fqrn)
    assert listed(own) & set(roots) == {roots[0], roots[2], roots[3]}
    assert_sound(own)


def test_rows_that_are_lacking(own):
    before = listed(own)
    with sqlite3.connect(own.storage / NAME) as connection:
        connection.execute("DELETE FROM refs WHERE type IN (1, 2)")
        connection.execute("DELETE FROM refs WHERE hash = ?", (str(own.manifest().root_catalog),))
    lost = before - listed(own)
    done = repair_reflog(own.site, own.fqrn)
    assert done[0].startswith("reflog: 3 root objects were not listed")
    assert {own.manifest().root_catalog, own.manifest().history} <= listed(own) & lost
    assert_sound(own)
