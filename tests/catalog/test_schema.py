"""Versions, counters, and the query that recomputes them (FORMAT sections 5.9, 5.11)."""

import contextlib
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.catalog.reader import Catalog
from cvfs.catalog.schema import (
    COUNT_ENTRIES,
    COUNT_REFERENCES,
    COUNT_UNUSUAL,
    COUNTER_NAMES,
    CREATE_TABLES,
    UPGRADES,
    Counters,
    Version,
    own_counters,
)
from cvfs.errors import FormatError


@pytest.mark.parametrize("schema", [0.9, 1.0, 1.1, 1.2, 2.4, 2.5])
def test_versions_that_are_read(schema):
    Version(schema, 0).check_readable()


@pytest.mark.parametrize("schema", [0.0, 0.8, 2.0, 2.1, 2.3, 2.6, 3.0, -1.0, float("nan"), float("inf")])
def test_versions_that_nobody_reads(schema):
    with pytest.raises(FormatError, match="not supported"):
        Version(schema, 7).check_readable()


@pytest.mark.parametrize(
    ("schema", "revision", "mask"),
    [
        (1.0, 0, 0x2F),
        (1.2, 7, 0x2F),
        (2.4, 0, 0x76F),
        (2.5, 0, 0x76F),
        (2.5, 1, 0x76F),
        (2.5, 2, 0x76F),
        (2.5, 3, 0x3FEF),
        (2.5, 4, 0xFFEF),
        (2.5, 5, 0xFFFF),
        (2.5, 6, 0x1FFFF),
        (2.5, 7, 0x1FFFF),
    ],
)
def test_flags_mean_something_from_their_revision_on(schema, revision, mask):
    assert Version(schema, revision).flag_mask == mask


def test_every_older_revision_has_its_upgrade():
    assert sorted(UPGRADES) == list(range(7))


def test_counters_add_and_subtract():
    one, two = Counters(*range(12)), Counters(*range(100, 112))
    assert (one + two) - two == one
    assert (one + two).regular == 100
    assert one.entries == 0 + 1 + 2 + 3


def test_the_counter_names_are_those_of_the_format():
    assert sorted(COUNTER_NAMES) == sorted(
        [
            "regular",
            "symlink",
            "special",
            "dir",
            "nested",
            "chunked",
            "chunks",
            "file_size",
            "chunked_size",
            "xattr",
            "external",
            "external_file_size",
        ]
    )


def test_recomputed_counters_are_the_stored_ones_of_the_original_tools(catalog_files):
    total = Counters()
    for file in catalog_files:
        connection = sqlite3.connect(file)
        recomputed = _recounted(connection)
        prefix = connection.execute("SELECT value FROM properties WHERE key = 'root_prefix'").fetchone()
        connection.close()
        catalog = Catalog.open(str(file), prefix[0].encode() if prefix else b"")
        assert catalog.counters()[0] == recomputed
        assert catalog.missing_counters() == []
        total += recomputed
    # The fixtures have all of these, so no counter was compared as zero only.
    assert all(getattr(total, name) for name in COUNTER_NAMES if not name.startswith("external"))


_PLAIN_COUNT = """
SELECT
    SUM((mode & 61440) = 32768), SUM((mode & 61440) = 40960),
    SUM((mode & 61440) NOT IN (32768, 40960, 16384)), SUM((mode & 61440) = 16384),
    (SELECT COUNT(*) FROM nested_catalogs), SUM((flags & 64) <> 0), (SELECT COUNT(*) FROM chunks),
    SUM(CASE WHEN (mode & 61440) = 32768 THEN size END), SUM(CASE WHEN (flags & 64) <> 0 THEN size END),
    SUM(xattr IS NOT NULL), SUM((flags & 128) <> 0), SUM(CASE WHEN (flags & 128) <> 0 THEN size END)
FROM catalog
"""


def _recounted(connection):
    entries, unusual, references = (
        connection.execute(query).fetchall() for query in (COUNT_ENTRIES, COUNT_UNUSUAL, COUNT_REFERENCES)
    )
    return own_counters(entries[0], unusual, references[0])


_KINDS = (0o100000, 0o040000, 0o120000, 0o010000, 0o060000, 0o020000, 0o140000)


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(_KINDS),
            st.integers(0, 0o7777),
            st.integers(0, 2**40),
            st.sampled_from((1, 4, 4 | 64, 4 | 128, 4 | 64 | 128, 12, 20, 2 | 1, 0x8004)),
            st.sampled_from((None, b"", b"\1")),
        )
    ),
    references=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_counters_are_what_a_plain_count_of_each_says(rows, references):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in CREATE_TABLES:
            connection.execute(statement)
        for number, (kind, mode, size, flags, xattr) in enumerate(rows):
            row = (number, number, kind | mode, size, flags, xattr)
            columns = "md5path_1, md5path_2, mode, size, flags, xattr"
            connection.execute(f"INSERT INTO catalog ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        for number in range(references[0]):
            connection.execute("INSERT INTO nested_catalogs (path) VALUES (?)", (f"/{number}",))
        for number in range(references[1]):
            connection.execute("INSERT INTO chunks (offset) VALUES (?)", (number,))
        plain = connection.execute(_PLAIN_COUNT).fetchone()
        assert _recounted(connection) == Counters(*(value or 0 for value in plain))


def test_the_counters_below_are_the_sum_over_the_nested_catalogs(published):
    tree = published("tiny.example.org", "s5")
    below = Counters()
    for nested in tree.root().nested():
        own, deeper = tree.catalog_at(nested.path).counters()
        below += own + deeper
    assert below != Counters()
    assert tree.root().counters()[1] == below
