"""The statistics database: rows are added, old ones forgotten, files of the original's brought up, two of them merged."""

import dataclasses
import logging
import os
import sqlite3
import time

import pytest

from cvfs.errors import FormatError, NotFound, UsageError
from cvfs_server.settings import RepositorySettings
from cvfs_server.statistics import (
    GcNumbers,
    PublishNumbers,
    merge,
    place,
    printed,
    read_table,
    record_gc,
    record_publish,
)

FQRN = "stats.example.org"
NOW = time.time()


@pytest.fixture
def settings(tmp_path):
    return RepositorySettings(FQRN, str(tmp_path / "storage"), str(tmp_path / "spool"))


def rows(settings, table="publish_statistics"):
    found = read_table(place(settings), table)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def old_file(path, fqrn=FQRN, start="2026-01-01 00:00:00"):
    """A file as the first version of the original made it, with a row in each table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));"
        f"INSERT INTO properties VALUES ('schema', '1.0'), ('schema_revision', '1'), ('repo_name', '{fqrn}');"
        "CREATE TABLE publish_statistics (publish_id INTEGER PRIMARY KEY, start_time TEXT, finished_time TEXT,"
        " files_added INTEGER, files_removed INTEGER, files_changed INTEGER, duplicated_files INTEGER,"
        " directories_added INTEGER, directories_removed INTEGER, directories_changed INTEGER, sz_bytes_added INTEGER,"
        " sz_bytes_removed INTEGER, sz_bytes_uploaded INTEGER);"
        "CREATE TABLE gc_statistics (gc_id INTEGER PRIMARY KEY, start_time TEXT, finished_time TEXT,"
        " n_preserved_catalogs INTEGER, n_condemned_catalogs INTEGER, n_condemned_objects INTEGER,"
        " sz_condemned_bytes INTEGER);"
        f"INSERT INTO publish_statistics VALUES (1, '{start}', '{start}', 5, 0, 0, 2, 1, 0, 0, 10, 0, 7);"
        f"INSERT INTO gc_statistics VALUES (1, '{start}', '{start}', 3, 2, 1, NULL);"
    )
    connection.close()
    return path


def test_a_publish_is_a_row(settings):
    record_publish(settings, PublishNumbers(revision=2, files_added=7, sz_bytes_added=100), NOW - 5)
    record_publish(settings, PublishNumbers(revision=3), NOW, success=False)
    first, second = rows(settings)
    assert place(settings) == f"{settings.spool}/stats.db"
    assert (first["publish_id"], first["revision"], first["files_added"], first["success"]) == (1, 2, 7, 1)
    assert (second["publish_id"], second["success"]) == (2, 0)
    assert first["start_time"] == time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW - 5))
    assert first["finish_time"] >= first["start_time"]
    assert dict(read_table(place(settings), "properties").rows) == {
        "schema": "1.0",
        "schema_revision": "4",
        "repo_name": FQRN,
    }


def test_a_collection_is_a_row_and_its_volume_may_be_unknown(settings):
    record_gc(settings, GcNumbers(n_preserved_catalogs=3, n_condemned_objects=9), NOW)
    record_gc(settings, GcNumbers(sz_condemned_bytes=12), NOW)
    assert [row["sz_condemned_bytes"] for row in rows(settings, "gc_statistics")] == [None, 12]


def test_the_place_is_a_parameter(settings, tmp_path):
    elsewhere = dataclasses.replace(settings, statistics_db=str(tmp_path / "a" / "b" / "my.db"))
    record_publish(elsewhere, PublishNumbers(), NOW)
    assert len(rows(elsewhere)) == 1
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(("days", "kept"), [(365, [2]), (0, [1, 2])])
def test_old_rows_are_forgotten(settings, days, kept):
    settings = dataclasses.replace(settings, statistics_days=days)
    record_publish(settings, PublishNumbers(revision=1), NOW - 400 * 86400)
    record_publish(settings, PublishNumbers(revision=2), NOW)
    assert [row["revision"] for row in rows(settings)] == kept


def test_a_file_of_the_originals_first_version_is_brought_up(settings, tmp_path):
    old_file(tmp_path / "spool" / "stats.db", start=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW)))
    record_publish(settings, PublishNumbers(revision=9), NOW)
    record_gc(settings, GcNumbers(), NOW)
    old, new = rows(settings)
    assert (old["files_added"], old["chunks_duplicated"], old["revision"]) == (5, 2, None)
    assert new["revision"] == 9
    assert len(rows(settings, "gc_statistics")) == 2
    assert dict(read_table(place(settings), "properties").rows)["schema_revision"] == "4"


@pytest.mark.parametrize("trouble", ["directory", "garbage", "another repository", "newer"])
def test_what_cannot_be_written_is_a_warning_and_no_more(settings, tmp_path, caplog, trouble):
    path = tmp_path / "spool" / "stats.db"
    if trouble == "directory":
        path.mkdir(parents=True)
    elif trouble == "garbage":
        path.parent.mkdir()
        path.write_bytes(b"no database" * 100)
    else:
        old_file(path, fqrn="other.example.org" if trouble == "another repository" else FQRN)
        with sqlite3.connect(path) as connection:
            if trouble == "newer":
                connection.execute("UPDATE properties SET value = '5' WHERE key = 'schema_revision'")
    with caplog.at_level(logging.WARNING):
        record_publish(settings, PublishNumbers(), NOW)
    assert "no statistics were written" in caplog.text


def test_reading_what_is_not_there(settings, tmp_path):
    with pytest.raises(NotFound, match="no statistics have been written yet"):
        read_table(place(settings), "gc_statistics")
    with pytest.raises(UsageError, match="is no table"):
        read_table(place(settings), "sqlite_master")
    (tmp_path / "garbage").write_bytes(b"x" * 5000)
    with pytest.raises(FormatError, match="no statistics database"):
        read_table(str(tmp_path / "garbage"), "gc_statistics")


def test_two_files_are_merged(settings, tmp_path):
    first = dataclasses.replace(settings, statistics_db=str(tmp_path / "1.db"))
    second = dataclasses.replace(settings, statistics_db=str(tmp_path / "2.db"))
    for where, numbers in ((first, (1, 2)), (second, (3,))):
        for number in numbers:
            record_publish(where, PublishNumbers(revision=number), NOW)
    record_gc(second, GcNumbers(n_condemned_objects=4), NOW)
    merge(place(first), place(second), str(tmp_path / "both.db"))
    both = dataclasses.replace(settings, statistics_db=str(tmp_path / "both.db"))
    assert [(row["publish_id"], row["revision"]) for row in rows(both)] == [(1, 1), (2, 2), (3, 3)]
    assert [row["n_condemned_objects"] for row in rows(both, "gc_statistics")] == [4]
    with pytest.raises(UsageError, match="is there already"):
        merge(place(first), place(second), str(tmp_path / "both.db"))


def test_files_of_two_repositories_are_not_merged(settings, tmp_path):
    record_publish(settings, PublishNumbers(), NOW)
    with pytest.raises(UsageError, match="differ in repo_name"):
        merge(place(settings), str(old_file(tmp_path / "other.db", "other.example.org")), str(tmp_path / "both.db"))
    assert not (tmp_path / "both.db").exists()


def test_an_old_file_is_merged_and_stays_what_it_was(settings, tmp_path):
    record_publish(settings, PublishNumbers(revision=8), NOW)
    old = old_file(tmp_path / "old.db")
    before = old.read_bytes()
    merge(place(settings), str(old), str(tmp_path / "both.db"))
    both = dataclasses.replace(settings, statistics_db=str(tmp_path / "both.db"))
    assert [(row["revision"], row["chunks_duplicated"]) for row in rows(both)] == [(8, 0), (None, 2)]
    assert old.read_bytes() == before


def test_the_numbers_as_lines():
    assert printed(GcNumbers(1, 2, 3)) == [
        "n_preserved_catalogs|1",
        "n_condemned_catalogs|2",
        "n_condemned_objects|3",
        "sz_condemned_bytes|",
        "n_duplicate_delete_requests|0",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_writes_down_belongs_to_the_owner(settings):
    os.makedirs(settings.spool)
    os.chown(settings.spool, 1234, 1234)
    record_publish(settings, PublishNumbers(), NOW)
    assert os.stat(place(settings)).st_uid == 1234
    assert len(read_table(place(settings), "publish_statistics").rows) == 1
