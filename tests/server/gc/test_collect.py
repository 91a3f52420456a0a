"""What garbage collection keeps and deletes, by the rules of the original."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from cvfs.errors import CorruptObject, FormatError, Locked, NotFound, UsageError
from cvfs.format.signature import sign_manifest
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.gc.collect import collect_if_due
from cvfs_server.lock import publisher_lock
from cvfs_server.publishers import registered
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_server.signing.keys import load_private_key
from cvfs_server.statistics import place, read_table
from cvfs_server.status import read_status
from cvfs_server.storage.local import LocalStorage
from cvfs_server.tags.branches import check_out
from cvfs_server.tags.tags import remove_tags
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import Record, create_record, remove_record


def _roots(past, *revisions):
    """The root catalogs of some of the five published revisions, the latest being 0."""
    found = list(past.roots.values())
    return [found[-1 - revision] for revision in revisions]


@pytest.mark.parametrize(
    ("keeping", "kept"),
    [
        ({"revisions": 0}, (0, 1, 3)),
        ({"revisions": 1}, (0, 1, 3)),
        ({"revisions": 2}, (0, 1, 2, 3)),
        ({"since": 2**40}, (0, 1, 3)),
    ],
)
def test_what_is_left_is_what_the_kept_revisions_need(past, keeping, kept):
    """`trunk-previous` keeps the last but one, the tag `kept` the second."""
    wanted = past.closure(*_roots(past, *kept))
    before = past.objects()
    report = past.collect(**keeping)
    wanted |= past.documents()
    assert past.objects() == wanted < before
    assert report.deleted == report.condemned == len(before - wanted)
    assert not report.waits_for
    past.assert_sound()


@pytest.mark.parametrize("keeping", [{"revisions": 10}, {"since": 0}])
def test_nothing_is_garbage_while_all_history_is_kept(past, keeping):
    before = past.objects()
    assert past.collect(**keeping).condemned == 0
    assert past.objects() == before
    assert not past.area("condemned").exists()


def test_a_date_keeps_what_was_published_since_and_one_before(past):
    """So that the tree as it was at that date can be seen."""
    times = {root: number for number, root in enumerate(_roots(past, 4, 3, 2, 1, 0))}
    reflog = past.own.storage / ".cvmfsreflog"
    with sqlite3.connect(reflog) as connection:
        for root, number in times.items():
            connection.execute("UPDATE refs SET timestamp = ? WHERE hash = ?", (1000 * number, str(root)))
    connection.close()
    past.collect(since=2500)
    assert past.objects() >= past.closure(*_roots(past, 0, 1, 2))
    assert _roots(past, 4)[0].path not in past.objects()
    past.collect(since=3000)
    assert _roots(past, 2)[0].path in past.objects()
    past.collect(since=3500)
    assert _roots(past, 2)[0].path not in past.objects()


def test_a_tag_that_is_removed_keeps_nothing_any_more(past):
    past.collect()
    remove_tags(past.own.site, past.own.fqrn, ["kept"])
    past.collect()
    assert past.objects() == past.closure(*_roots(past, 0, 1)) | past.documents()


def test_the_reflog_forgets_what_is_gone_and_is_recorded(past):
    settings = past.own.settings
    past.collect()
    left = past.references()
    assert {content for content in left if content.kind is ObjectKind.CATALOG} == set(_roots(past, 0, 1, 3))
    digest = ContentHash.of((past.own.storage / ".cvmfsreflog").read_bytes(), settings.algorithm)
    with open(f"{settings.spool}/reflog.chksum", encoding="ascii") as file:
        assert file.read() == str(digest)
    assert all((past.own.storage / content.path).exists() for content in left)
    # The digest in the manifest is stale until the next publish, as after the original's collection: who knows no other warns.
    assert [finding.is_warning for finding in past.own.check()] == [True]
    assert past.own.check(reflog_digest=digest) == []
    past.publish("after")
    assert past.own.check() == []


def test_old_documents_go_and_those_of_the_manifest_stay(past):
    histories = [content for content in past.references() if content.kind is ObjectKind.HISTORY]
    past.collect()
    present = past.own.manifest().history
    assert len(histories) > 2
    assert present.path in past.objects()
    with sqlite3.connect(past.own.storage / ".cvmfsreflog") as connection:
        connection.execute("UPDATE refs SET timestamp = 1 WHERE type = 2")
    connection.close()
    past.publish("another")
    past.collect()
    assert not {content.path for content in histories} & past.objects()


def test_a_dry_run_shows_what_would_go_and_deletes_nothing(past):
    before, reflog = past.objects(), (past.own.storage / ".cvmfsreflog").read_bytes()
    shown, gone = [], []
    report = past.collect(dry_run=True, deleted=shown.append)
    assert past.objects() == before
    assert (past.own.storage / ".cvmfsreflog").read_bytes() == reflog
    assert read_status(LocalStorage(past.own.settings.storage)) == {}
    assert (report.condemned, report.deleted) == (len(shown), 0)
    past.collect(deleted=gone.append)
    assert [content.path for content in shown] == [content.path for content in gone]
    assert {content.path for content in gone} == before - past.objects()
    assert {ObjectKind.FILE, ObjectKind.CHUNK, ObjectKind.CATALOG} <= {content.kind for content in gone}


@pytest.mark.parametrize("algorithm", ["RMD160", "SHAKE128"])
def test_other_hashes(new_past, algorithm):
    from cvfs.hashes import Algorithm

    past = new_past(algorithm=Algorithm[algorithm])
    for number in range(3):
        past.write("file", b"%d" % number)
        past.write("large", os.urandom(40_000))
        past.publish()
    past.collect()
    assert past.objects() == past.closure(*_roots(past, 0, 1)) | past.documents()
    past.assert_sound()


def test_equal_catalogs_are_read_once_and_many_in_parallel(new_past):
    past = new_past()
    for number in range(40):
        past.write(f"d{number}/.cvmfscatalog", b"")
        past.write(f"d{number}/file", b"%d" % number)
    past.publish("first")
    past.write("d7/file", b"changed")
    past.publish("second")
    past.write("d7/file", b"changed again")
    past.publish()
    remove_tags(past.own.site, past.own.fqrn, ["first"])
    report = past.collect(workers=2)
    # 41 of the newest revision, the changed one and the root of the one before.
    assert (report.preserved_catalogs, report.condemned_catalogs) == (43, 4)
    assert past.objects() == past.closure(*_roots(past, 0, 1)) | past.documents()
    past.assert_sound()


def test_it_can_be_forbidden(past):
    configuration = past.own.site.configuration(past.own.fqrn)
    with open(configuration, encoding="utf-8") as file:
        text = file.read()
    with open(configuration, "a", encoding="utf-8") as file:
        file.write("CVMFS_GARBAGE_COLLECTION=false\n")
    before = past.objects()
    with pytest.raises(UsageError, match="Garbage Collection is not enabled for"):
        past.collect()
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(text)
    _sign(past, garbage_collectable=False)
    with pytest.raises(UsageError, match="says that nothing may be collected"):
        past.collect()
    assert past.objects() == before


def _sign(past, **changes):
    import dataclasses

    manifest = dataclasses.replace(past.own.manifest(), **changes)
    key = load_private_key(past.own.site.key(past.own.fqrn, "key"))
    document = sign_manifest(manifest.serialise(), past.own.settings.algorithm, key)
    (past.own.storage / ".cvmfspublished").write_bytes(document)


def test_one_at_a_time(past):
    past.area("").mkdir()
    with publisher_lock(str(past.area("lock")), "gc"), pytest.raises(Locked, match=r"locked by process \d+, gc"):
        past.collect()


def test_a_damaged_revision_that_has_to_be_kept_ends_it(past):
    nested = past.closure(_roots(past, 3)[0]) - past.closure(*_roots(past, 0, 1, 2, 4))
    catalog = next(place for place in nested if place.endswith("C") and place != _roots(past, 3)[0].path)
    (past.own.storage / catalog).write_bytes(b"damaged")
    before = past.objects()
    with pytest.raises(CorruptObject, match="nothing was deleted"):
        past.collect()
    assert past.objects() == before
    assert not past.area("condemned").exists()
    assert [row[-1] for row in read_table(place(past.own.settings), "gc_statistics").rows] == [0]


def test_a_damaged_revision_that_is_to_go_goes_as_far_as_it_can_be_read(past):
    old = _roots(past, 4)[0]
    nested = past.closure(old) - past.closure(*_roots(past, 0, 1, 2, 3))
    catalog = next(place for place in nested if place.endswith("C") and place != old.path)
    (past.own.storage / catalog).unlink()
    told = []
    past.collect(warn=told.append)
    assert len(told) == 1
    assert "nested" in told[0]
    assert old.path not in past.objects()
    past.assert_sound()


def test_a_repository_without_a_reflog_is_left_alone(past):
    (past.own.storage / ".cvmfsreflog").unlink()
    with pytest.raises(NotFound, match="check -r"):
        past.collect()


def test_a_reflog_that_cannot_be_read_is_named_with_what_to_do(past):
    place = past.own.storage / ".cvmfsreflog"
    place.write_bytes(b"no database")
    with pytest.raises(FormatError, match=rf"^{place}: .*check -r"):
        past.collect()


def test_what_is_collected_already_is_no_damage(past):
    """The chain of predecessors ends where an earlier collection, maybe the original's, cut it off."""
    past.collect()
    past.write("more", b"more")
    past.publish()
    report = past.collect(revisions=10)
    assert report.condemned == 0
    past.assert_sound()


def test_what_is_checked_out_is_kept(past):
    wanted = past.closure(_roots(past, 3)[0])
    check_out(past.own.site, past.own.fqrn, "branch", "kept")
    mark = Path(past.own.settings.spool) / "checkout"
    mark.rename(mark.with_suffix(".aside"))
    remove_tags(past.own.site, past.own.fqrn, ["kept"])
    mark.with_suffix(".aside").rename(mark)
    past.collect()
    assert wanted <= past.objects()
    mark.unlink()
    past.collect()
    assert not wanted <= past.objects()


def test_the_base_of_an_open_transaction_is_kept(past):
    old = _roots(past, 4)[0]
    wanted = past.closure(old)
    layout = Layout.of(past.own.site, past.own.settings)
    create_record(layout, Record(str(old), "", 0, 0))
    past.collect()
    assert wanted <= past.objects()
    remove_record(layout)
    past.collect()
    assert old.path not in past.objects()


def test_so_is_what_it_began_with_as_a_draft(past):
    """A template's copy: its catalogs are in no reflog, and orphans to anybody who does not ask."""
    base = _roots(past, 0)[0]
    with registered(past.own.settings, "template") as publisher:
        objects = PublishedRepository.open(past.own.site, past.own.fqrn, publisher.storage).catalogs(publisher.scratch)
        path = objects.inflate(base)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE properties SET value = 77 WHERE key = 'revision'")
        connection.close()
        draft = objects.store(path).content
    layout = Layout.of(past.own.site, past.own.settings)
    create_record(layout, Record(str(base), "", 0, 0, str(draft)))
    past.collect(orphans_before=time.time() + 10)
    assert draft.path in past.objects()
    remove_record(layout)
    past.collect(orphans_before=time.time() + 10)
    assert draft.path not in past.objects()


class TestOrphans:
    """Objects that no revision ever named."""

    def _leave(self, past):
        with registered(past.own.settings, "publish") as publisher:
            content = ContentHash.of(b"left behind", past.own.settings.algorithm, ObjectKind.CHUNK)
            publisher.storage.put(content.path, b"left behind")
        return content.path

    def test_they_stay_unless_they_are_asked_for(self, past):
        orphan = self._leave(past)
        past.collect()
        assert orphan in past.objects()
        past.collect(orphans_before=time.time() + 10)
        assert past.objects() == past.closure(*_roots(past, 0, 1, 3)) | past.documents()
        past.assert_sound()

    def test_young_ones_stay(self, past):
        young, old = self._leave(past), past.own.storage / "data/00" / ("0" * 38)
        old.write_bytes(b"old")
        os.utime(old, (1000, 1000))
        past.collect(orphans_before=2000)
        assert young in past.objects()
        assert not old.exists()

    def test_what_has_no_object_s_name_is_nobody_s_business(self, past):
        strange = past.own.storage / "data/00/README"
        strange.write_bytes(b"")
        past.collect(orphans_before=time.time() + 10)
        assert strange.exists()


class TestAfterAPublish:
    """CVMFS_AUTO_GC."""

    @pytest.fixture
    def configured(self, past):
        def configure(*lines):
            with open(past.own.site.configuration(past.own.fqrn), "a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            return collect_if_due(past.own.site, past.own.fqrn)

        return configure

    def test_off_by_default(self, configured):
        assert configured() is None

    def test_three_days_are_kept(self, past, configured):
        before = past.objects()
        assert configured("CVMFS_AUTO_GC=true").condemned == 0
        assert past.objects() == before

    def test_not_again_before_the_lapse(self, past, configured):
        timespan = "CVMFS_AUTO_GC_TIMESPAN='2100-01-01'"
        assert configured("CVMFS_AUTO_GC=true", timespan).deleted > 0
        assert read_status(LocalStorage(past.own.settings.storage))["last_gc"].endswith(
            time.strftime("UTC %Y", time.gmtime())
        )
        assert configured() is None
        assert configured("CVMFS_AUTO_GC_LAPSE='2100-01-01'").deleted == 0

    def test_a_status_that_means_nothing_is_no_reason_to_wait(self, past, configured):
        (past.own.storage / ".cvmfs_status.json").write_text('{"last_gc": "long ago", "last_check": "x"}')
        assert configured("CVMFS_AUTO_GC=true") is not None
        assert read_status(LocalStorage(past.own.settings.storage))["last_check"] == "x"

    def test_what_means_no_date_is_said(self, configured):
        with pytest.raises(UsageError, match="'soon' is no date"):
            configured("CVMFS_AUTO_GC=true", "CVMFS_AUTO_GC_TIMESPAN=soon")


def test_it_is_written_down(past):
    past.collect()
    assert load_settings(past.own.site, past.own.fqrn).auto_gc_lapse == "1 day ago"
    table = read_table(place(past.own.settings), "gc_statistics")
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["success"] == 1
    assert row["n_condemned_objects"] > 0


def test_the_bytes_of_what_goes_are_counted_on_request(past):
    with open(past.own.site.configuration(past.own.fqrn), "a", encoding="utf-8") as file:
        file.write("CVMFS_EXTENDED_GC_STATS=true\n")
    before = sum((past.own.storage / path).stat().st_size for path in past.objects())
    past.collect()
    after = sum((past.own.storage / path).stat().st_size for path in past.objects())
    table = read_table(place(past.own.settings), "gc_statistics")
    assert dict(zip(table.columns, table.rows[0], strict=True))["sz_condemned_bytes"] == before - after > 0
