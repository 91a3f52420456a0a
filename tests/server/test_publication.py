"""What a single publish may be told: number, compression, external contents, direct I/O."""

import os

import pytest

from cvfs.compression import Compression
from cvfs.errors import UsageError
from cvfs_server import changes


@pytest.fixture
def own(new_repository, monkeypatch):
    # Each edit is made long enough after the scan before it, as seen by the kernel's clock.
    monkeypatch.setattr(changes, "_CTIME_GRAIN_NS", 0)
    made = new_repository()
    (made.tree / "file").write_text("text" * 1000)
    made.publish()
    return made


def _row(own, path=b"/file"):
    with own.open() as repository:
        return repository.lookup(path)


def test_the_number_of_a_revision(own):
    assert own.publish(revision=10).revision == 10
    assert own.publish().revision == 11
    for number in (1, 11):
        with pytest.raises(UsageError, match="not above 11"):
            own.publish(revision=number)
    assert own.check() == []


def test_no_number_is_larger_than_a_tag_can_hold(own):
    for number in (2**63, 2**64):
        with pytest.raises(UsageError, match="no revisions above 9223372036854775807; the present one is 2"):
            own.publish(revision=number)
    assert own.publish(revision=2**63 - 1).revision == 2**63 - 1
    with pytest.raises(UsageError, match="no revisions above"):
        own.publish()
    assert own.check() == []


def test_another_compression(own):
    (own.tree / "other").write_text("text" * 1000)
    own.publish(compression="none")
    assert _row(own, b"/other").compression is Compression.NONE
    assert _row(own).compression is Compression.ZLIB
    with pytest.raises(UsageError, match="compression lzma"):
        own.publish(compression="lzma")
    assert own.check() == []


def test_external_contents_are_hashed_and_not_stored(own):
    (own.tree / "other").write_text("elsewhere")
    report = own.publish(external=True)
    # What was in the repository is external now, too: the tree was published as such.
    assert (_row(own).is_external, _row(own, b"/other").is_external) == (True, True)
    assert (report.bytes_stored, report.objects) == (0, 0)
    again = own.publish(external=True)
    assert (again.modified, again.added) == (0, 0)
    own.publish(external=False)
    assert not _row(own).is_external
    with own.open() as repository:
        assert repository.read(b"/other") == b"elsewhere"
    assert own.check() == []


def test_an_external_repository(new_repository):
    own = new_repository(external=True)
    (own.tree / "file").write_text("elsewhere")
    own.publish()
    assert _row(own).is_external
    assert own.check() == []


def test_direct_io(own):
    (own.tree / "log").write_text("changes while it is read")
    own.publish(direct_io=True)
    assert (_row(own, b"/log").is_direct_io, _row(own).is_direct_io) == (True, False)
    own.publish()
    assert _row(own, b"/log").is_direct_io
    assert own.check() == []


def _configure(own, *lines):
    with open(own.site.configuration(own.fqrn), "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_garbage_is_collected_after_a_publish(new_repository):
    own = new_repository(auto_gc=True, auto_tag=False)
    _configure(own, "CVMFS_AUTO_GC_LAPSE=2100-01-01", "CVMFS_AUTO_GC_TIMESPAN=2100-01-01")
    roots = []
    for text in ("first", "second", "third"):
        (own.tree / "file").write_text(text)
        own.publish()
        roots.append(own.manifest().root_catalog.path)
    # trunk-previous names the second one.
    assert [(own.storage / root).exists() for root in roots] == [False, True, True]
    assert [finding for finding in own.check() if not finding.is_warning] == []


def test_a_collection_that_fails_does_not_undo_the_publish(new_repository):
    own, said = new_repository(auto_gc=True), []
    _configure(own, "CVMFS_AUTO_GC_TIMESPAN=soon")
    (own.tree / "file").write_text("text")
    assert own.publish(warn=said.append).revision == 2
    assert len(said) == 1
    assert "is published, but its garbage was not collected: " in said[0]


def test_a_scan_that_cannot_be_remembered_is_said_and_no_failure(new_repository):
    own, said = new_repository(), []
    (own.tree / "file").write_text("text")
    # Where it would be written first.
    os.makedirs(f"{own.settings.spool}/last_scan.new")
    assert own.publish(warn=said.append).revision == 2
    assert own.manifest().revision == 2
    assert len(said) == 1
    assert "is published, but what was seen is not remembered" in said[0]
    assert own.check() == []
