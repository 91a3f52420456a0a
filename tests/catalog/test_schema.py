"""Versions, counters, and the query that recomputes them (FORMAT sections 5.9, 5.11)."""

import sqlite3

import pytest

from cvfs.catalog.reader import Catalog
from cvfs.catalog.schema import COUNT_ENTRIES, COUNTER_NAMES, UPGRADES, Counters, Version
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
        recomputed = Counters(*(value or 0 for value in connection.execute(COUNT_ENTRIES).fetchone()))
        prefix = connection.execute("SELECT value FROM properties WHERE key = 'root_prefix'").fetchone()
        connection.close()
        catalog = Catalog.open(str(file), prefix[0].encode() if prefix else b"")
        assert catalog.counters()[0] == recomputed
        assert catalog.missing_counters() == []
        total += recomputed
    # The fixtures have all of these, so no counter was compared as zero only.
    assert all(getattr(total, name) for name in COUNTER_NAMES if not name.startswith("external"))


def test_the_counters_below_are_the_sum_over_the_nested_catalogs(published):
    tree = published("tiny.example.org", "s5")
    below = Counters()
    for nested in tree.root().nested():
        own, deeper = tree.catalog_at(nested.path).counters()
        below += own + deeper
    assert below != Counters()
    assert tree.root().counters()[1] == below
