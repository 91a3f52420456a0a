"""Reading one catalog file: every schema, places, rows and what they may say (FORMAT sections 5.1 to 5.11)."""

import contextlib
import gc
import os
import sqlite3

import pytest

from cvfs.catalog.reader import Catalog
from cvfs.catalog.schema import Counters
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk
from cvfs.hashes import ContentHash, ObjectKind, path_hash

SHA1 = "0123456789abcdef0123456789abcdef01234567"
DIR, REG = 0o040755, 0o100644


VERSIONS = [("1.0", None), ("1.2", None), (None, None), ("2.4", None), *(("2.5", n) for n in (None, *range(1, 8)))]


@pytest.mark.parametrize(("schema", "revision"), VERSIONS)
@pytest.mark.parametrize("page_size", [1024, 4096])
def test_every_schema_is_read(small, entry, schema, revision, page_size):
    catalog = Catalog.open(str(small(schema, revision, page_size=page_size).done()))
    found = catalog.find(b"/a")
    age = revision or 0
    ancient = catalog.version.is_ancient
    assert found == entry(
        b"a",
        flags=0x1FFFF & ~0x3F00 & catalog.version.flag_mask,
        uid=0 if ancient else 1000,
        gid=0 if ancient else 100,
        mtime_ns=5 if age >= 7 else None,
    )
    assert catalog.listing(b"") == [found]
    assert catalog.find(b"/b") is None
    assert len(list(catalog.rows())) == 2
    assert catalog.nested() == []


def test_a_catalog_that_nobody_uses_is_closed_at_once(small):
    """Not when the garbage collector comes by: a mount sees many revisions before that."""
    place = str(small().done())
    gc.disable()
    try:
        catalog = Catalog.open(place)
        assert catalog.find(b"/a")
        assert open_files(place) == 1
        del catalog
        assert open_files(place) == 0
    finally:
        gc.enable()


def open_files(place: str) -> int:
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{number}") == place
    return found


@pytest.mark.parametrize("schema", ["2.0", "2.3", "2.6", "0.8", "nan", "x", "", "1e999"])
def test_other_schemas_are_refused(small, schema):
    file = small().property("schema", schema).done()
    with pytest.raises(FormatError):
        Catalog.open(str(file))


@pytest.mark.parametrize("revision", ["x", "", "1.5", "9" * 5000])
def test_an_unreadable_schema_revision_is_refused(small, revision):
    with pytest.raises(FormatError):
        Catalog.open(str(small().property("schema_revision", revision).done()))


def test_properties_may_be_numbers(hand_made, entry):
    made = hand_made().property("schema", 2.5).property("schema_revision", 7).property("revision", 12)
    # A column without a type keeps what it is given.
    made.sql.executescript(
        "CREATE TABLE p (key, value); INSERT INTO p SELECT key, CAST(value AS REAL) FROM properties WHERE key = 'schema';"
        "INSERT INTO p SELECT key, CAST(value AS INTEGER) FROM properties WHERE key <> 'schema';"
        "DROP TABLE properties; ALTER TABLE p RENAME TO properties"
    )
    assert made.sql.execute("SELECT DISTINCT typeof(value) FROM properties").fetchall() == [("real",), ("integer",)]
    catalog = Catalog.open(str(made.done()))
    assert (catalog.version.schema, catalog.version.revision, catalog.revision) == (2.5, 7, 12)


def test_properties(small):
    made = small().property("TTL", "600").property("last_modified", "1795331432").property("unknown", None)
    catalog = Catalog.open(str(made.property("previous_revision", SHA1 + "-shake128").done()))
    assert (catalog.ttl, catalog.last_modified, catalog.revision) == (600, 1795331432, 0)
    assert catalog.previous_revision == ContentHash.parse(SHA1 + "-shake128", ObjectKind.CATALOG)


def test_properties_that_are_absent(small):
    catalog = Catalog.open(str(small().done()))
    assert (catalog.ttl, catalog.previous_revision) == (240, None)
    assert Catalog.open(str(small().property("previous_revision", "0" * 40).done())).previous_revision is None


def test_a_property_that_is_no_number_is_refused_when_asked_for(small):
    catalog = Catalog.open(str(small().property("TTL", "soon").done()))
    with pytest.raises(FormatError, match="TTL"):
        catalog.ttl


def test_no_index_is_needed(small):
    catalog = small()
    assert not catalog.sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'idx_catalog_parent'").fetchone()
    assert [row.name for row in Catalog.open(str(catalog.done())).listing(b"")] == [b"a"]


def test_what_lies_beside_the_file_is_ignored(small):
    file = small().done()
    for suffix in ("-journal", "-wal", "-shm"):
        file.with_name(file.name + suffix).write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(2000))
    assert Catalog.open(str(file)).find(b"/a")
    assert sorted(os.listdir(file.parent)) == sorted(file.name + suffix for suffix in ("", "-journal", "-shm", "-wal"))


@pytest.mark.parametrize("name", ["plain", "a b%41?c#d", "ä&=;x", "\udcff"])
def test_odd_paths_of_files(small, tmp_path, name):
    file = small().done().rename(tmp_path / name)
    assert Catalog.open(str(file)).find(b"/a")
    assert Catalog.open("/" + str(file)).find(b"/a")


def test_a_file_without_a_name_is_read_through_its_descriptor(small):
    file = small().done()
    descriptor = os.open(file, os.O_RDONLY)
    memory = os.memfd_create("catalog")
    os.write(memory, file.read_bytes())
    file.unlink()
    for fd in (descriptor, memory):
        catalog = Catalog.open(f"/proc/self/fd/{fd}")
        os.close(fd)
        assert catalog.find(b"/a").name == b"a"


def test_it_cannot_be_written(small):
    file = small().done()
    before = file.read_bytes()
    catalog = Catalog.open(str(file))
    with pytest.raises(FormatError, match="readonly"):
        catalog._query("DELETE FROM catalog")
    assert file.read_bytes() == before


def test_a_missing_file(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        Catalog.open(str(tmp_path / "none"))
    with pytest.raises(FormatError):
        Catalog.open(str(tmp_path))
    with pytest.raises(FormatError):
        Catalog.open("a\0b")


@pytest.mark.parametrize("missing", ["properties", "catalog"])
def test_a_table_that_is_missing_is_an_error_and_not_an_empty_answer(small, missing):
    made = small()
    made.sql.execute(f"DROP TABLE {missing}")
    with pytest.raises(FormatError):
        Catalog.open(str(made.done())).find(b"/a")


# Places


def test_a_nested_catalog_keeps_absolute_paths(hand_made, entry):
    made = hand_made().property("root_prefix", "/n/m").row(b"/n/m", entry(b"m", DIR, flags=0x21))
    file = made.row(b"/n/m/f", entry(b"f")).done()
    catalog = Catalog.open(str(file), b"/n/m")
    assert catalog.find(b"/n/m").is_nested_root
    assert [row.name for row in catalog.listing(b"/n/m")] == [b"f"]


@pytest.mark.parametrize(
    ("claimed", "mountpoint"), [(None, b"/n"), ("/n", b""), ("/n", b"/m"), ("/n/", b"/n"), ("n", b"/n")]
)
def test_a_catalog_that_belongs_elsewhere_is_refused(small, claimed, mountpoint):
    made = small()
    if claimed:
        made.property("root_prefix", claimed)
    with pytest.raises(FormatError, match="was found at"):
        Catalog.open(str(made.done()), mountpoint)


def test_a_mountpoint_may_be_any_bytes(hand_made, entry):
    path = b"/\xff\xfe\n%"
    made = hand_made().row(path, entry(path[1:], DIR, flags=0x21))
    made.sql.execute("INSERT INTO properties VALUES ('root_prefix', CAST(? AS TEXT))", (path,))
    assert Catalog.open(str(made.done()), path).find(path).name == path[1:]


def test_below_a_bind_mountpoint_paths_are_translated(small, entry):
    made = small().row(b"/d", entry(b"d", DIR)).row(b"/d/f", entry(b"f"))
    made.sql.execute("INSERT INTO nested_catalogs VALUES ('/d/n', ?, 7)", (SHA1,))
    catalog = Catalog.open(str(made.done()), b"/.cvmfs/snapshots/x", b"")
    shown = b"/.cvmfs/snapshots/x"
    assert catalog.find(shown).is_directory
    assert catalog.find(shown + b"/d/f").name == b"f"
    assert {row.name for row in catalog.listing(shown)} == {b"a", b"d"}
    (nested,) = catalog.nested()
    assert (nested.path, nested.root_prefix, nested.size) == (shown + b"/d/n", b"/d/n", 7)


def test_nested_catalogs_and_bind_mountpoints(small):
    made = small()
    made.sql.execute("INSERT INTO nested_catalogs VALUES ('/n', ?, 4096)", (SHA1,))
    made.sql.execute("INSERT INTO nested_catalogs VALUES ('/o', ?, NULL)", (SHA1 + "-rmd160",))
    made.sql.execute("INSERT INTO bind_mountpoints VALUES ('/b', ?, 0)", (SHA1 + "-shake128",))
    found = {nested.path: nested for nested in Catalog.open(str(made.done())).nested()}
    assert {path: (str(n.content), n.size, n.root_prefix) for path, n in found.items()} == {
        b"/n": (SHA1, 4096, b"/n"),
        b"/o": (SHA1 + "-rmd160", 0, b"/o"),
        b"/b": (SHA1 + "-shake128", 0, b""),
    }
    assert all(nested.content.kind is ObjectKind.CATALOG for nested in found.values())


def test_the_oldest_catalogs_cannot_name_their_nested_ones(small):
    catalog = Catalog.open(str(small("0.9", None).done()))
    assert catalog.find(b"/a")
    with pytest.raises(FormatError, match=r"0\.9"):
        catalog.nested()


def test_revision_0_has_no_sizes_of_nested_catalogs(small):
    made = small("2.5", None)
    made.sql.execute("INSERT INTO nested_catalogs VALUES ('/n', ?)", (SHA1,))
    assert [nested.size for nested in Catalog.open(str(made.done())).nested()] == [0]


BAD_MOUNTPOINTS = [
    *("", "/", "n", "/n/", "//n", "/n//m", "/.", "/..", "/./n", "/n/..", "/n/../m", "/n/./m", b"/n\0", None),
    7,
]


@pytest.mark.parametrize("path", BAD_MOUNTPOINTS)
@pytest.mark.parametrize("table", ["nested_catalogs", "bind_mountpoints"])
def test_mountpoints_that_are_no_paths_below_are_refused(small, table, path):
    made = small()
    made.sql.execute(f"INSERT INTO {table} VALUES (?, ?, 0)", (path, SHA1))
    with pytest.raises(FormatError):
        Catalog.open(str(made.done())).nested()


@pytest.mark.parametrize("path", ["/n", "/nm", "/nx/m", "/", "/m/n/x", "/n/../m"])
def test_mountpoints_outside_of_the_parent_are_refused(hand_made, path):
    made = hand_made().property("root_prefix", "/n")
    made.sql.execute("INSERT INTO nested_catalogs VALUES (?, ?, 0)", (path, SHA1))
    with pytest.raises(FormatError, match="outside of its parent"):
        Catalog.open(str(made.done()), b"/n").nested()


@pytest.mark.parametrize("path", ["/.n", "/...", "/..n/.m.", "/n/a b", b"/\xff\n/x"])
def test_mountpoints_with_odd_names_are_fine(small, path):
    made = small()
    made.sql.execute("INSERT INTO nested_catalogs VALUES (CAST(? AS TEXT), ?, 0)", (path, SHA1))
    expected = path if isinstance(path, bytes) else path.encode()
    assert [nested.path for nested in Catalog.open(str(made.done())).nested()] == [expected]


@pytest.mark.parametrize("text", ["", None, SHA1 + "C", SHA1[:-1], SHA1.upper()[:39] + "G", b"\xff" * 40, 5])
def test_a_nested_catalog_needs_a_hash(small, text):
    made = small()
    made.sql.execute("INSERT INTO nested_catalogs VALUES ('/n', ?, 0)", (text,))
    with pytest.raises(FormatError):
        Catalog.open(str(made.done())).nested()


# Rows


@pytest.mark.parametrize(
    "columns",
    [
        {"mode": "x"},
        {"mode": None},
        {"mode": 2**40},
        {"mode": -1},
        {"mode": 1.5},
        {"size": "x"},
        {"size": None},
        {"size": -1},
        {"size": b"\1"},
        {"mtime": "x"},
        {"mtime": None},
        {"mtimens": "x"},
        {"mtimens": -1},
        {"mtimens": 10**9},
        {"uid": "x"},
        {"uid": -1},
        {"gid": 2**32},
        {"gid": None},
        {"hardlinks": None},
        {"hardlinks": "x"},
        {"hardlinks": -(2**40)},
        {"flags": "x"},
        {"flags": None},
        {"flags": b"\4"},
        {"hash": 1.5},
        {"hash": 7},
        {"xattr": 7},
        {"symlink": None},
        {"symlink": b"a\0b"},
        {"symlink": 1.5, "name": None},
    ],
)
def test_columns_that_make_no_sense_are_refused(small, entry, columns):
    made = small().row(b"/d", entry(b"d", DIR)).row(b"/d/x", entry(b"x"), **columns)
    catalog = Catalog.open(str(made.done()))
    for refused in (lambda: catalog.find(b"/d/x"), lambda: catalog.listing(b"/d"), lambda: list(catalog.rows())):
        with pytest.raises(FormatError):
            refused()
    assert catalog.find(b"/a"), "the other rows stay readable"


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"\0", b"x" * 1025, None, 5])
def test_names_that_are_none_are_refused(small, entry, name):
    catalog = Catalog.open(str(small().row(b"/d", entry(b"d", DIR)).row(b"/d/x", entry(b"x"), name=name).done()))
    if name == 5:  # a number in a text column is its decimal text
        assert catalog.find(b"/d/x").name == b"5"
        return
    for refused in (lambda: catalog.find(b"/d/x"), lambda: catalog.listing(b"/d"), lambda: list(catalog.rows())):
        with pytest.raises(FormatError):
            refused()


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 1025])
def test_one_impossible_name_among_others_is_found(small, entry, name):
    made = small().row(b"/d", entry(b"d", DIR)).row(b"/d/bad", entry(b"bad"), name=name)
    for other in (b"...", b".a", b"z."):
        made.row(b"/d/" + other, entry(other))
    with pytest.raises(FormatError, match="impossible name"):
        Catalog.open(str(made.done())).listing(b"/d")


@pytest.mark.parametrize("name", [b"...", b".a", b"a\n", b"\n", b"\xff\xfe", b"x" * 1024, "ä日".encode(), b" "])
def test_names_may_be_any_bytes(small, entry, name):
    catalog = Catalog.open(str(small().row(b"/d", entry(b"d", DIR)).row(b"/d/" + name, entry(name)).done()))
    assert catalog.find(b"/d/" + name).name == name
    assert [row.name for row in catalog.listing(b"/d")] == [name]


def test_the_name_of_the_root_row_does_not_matter(hand_made, entry):
    catalog = Catalog.open(str(hand_made().row(b"", entry(b"ignored/", DIR)).done()))
    assert catalog.find(b"").is_directory
    assert len(list(catalog.rows())) == 1


@pytest.mark.parametrize("digest", [b"short", b"x" * 21])
def test_a_hash_of_another_length_is_refused_when_it_is_needed(small, entry, digest):
    found = Catalog.open(str(small().row(b"/x", entry(b"x", digest=digest)).done())).find(b"/x")
    with pytest.raises(FormatError):
        found.content


def test_hidden_rows_are_listed_with_their_flag(small, entry):
    catalog = Catalog.open(str(small().row(b"/h", entry(b"h", flags=0x8004)).done()))
    assert {row.name: row.is_hidden for row in catalog.listing(b"")}[b"h"] is True


def test_chunks_come_in_order(small, entry):
    made = small().row(b"/c", entry(b"c", flags=0x44))
    for offset in (300, 0, 100):
        made.sql.execute("INSERT INTO chunks VALUES (?, ?, ?, 9, ?)", (*path_hash(b"/c"), offset, bytes([9] * 20)))
    catalog = Catalog.open(str(made.done()))
    assert catalog.chunks(b"/c") == [Chunk(offset, 9, bytes([9] * 20)) for offset in (0, 100, 300)]
    assert list(catalog.chunk_rows()) == [(path_hash(b"/c"), chunk) for chunk in catalog.chunks(b"/c")]
    assert catalog.chunks(b"/a") == []


@pytest.mark.parametrize("values", [("x", 9, b"h"), (0, "x", b"h"), (0, 9, None), (None, 9, b"h"), (0, None, b"h")])
def test_chunks_with_columns_of_the_wrong_type_are_refused(small, values):
    made = small()
    made.sql.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", (*path_hash(b"/a"), *values))
    with pytest.raises(FormatError):
        Catalog.open(str(made.done())).chunks(b"/a")


@pytest.mark.parametrize("key", [("x", 1), (1, None), (b"\1", 2), (1, 1.5), (None, None)])
def test_path_hashes_must_be_numbers(small, entry, key):
    own, parent = small().row(b"/x", entry(b"x"), md5path_1=key[0], md5path_2=key[1]), small()
    parent.row(b"/x", entry(b"x"), parent_1=key[0], parent_2=key[1])
    for made in (own, parent):
        with pytest.raises(FormatError, match="path hash"):
            list(Catalog.open(str(made.done())).rows())


@pytest.mark.parametrize("row", [("x", 1, 0, 1), (1, "x", 0, 1), (1, 1, "x", 1), (1, 1, 0, "x"), (1, 1, 0, b"\1")])
def test_keys_of_chunks_must_be_numbers(small, row):
    made = small()
    made.sql.execute("INSERT INTO chunks VALUES (1, 1, 0, 0, x'00')")
    made.sql.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, x'00')", row)
    with pytest.raises(FormatError, match="path hash"):
        list(Catalog.open(str(made.done())).chunk_rows())


def test_the_oldest_catalogs_have_neither_chunks_nor_statistics(small):
    catalog = Catalog.open(str(small("1.0", None).done()))
    assert catalog.chunks(b"/a") == list(catalog.chunk_rows()) == []
    assert catalog.counters() == (Counters(), Counters())
    assert len(catalog.missing_counters()) == 24


def test_long_tables_are_read_page_by_page(small, entry, monkeypatch):
    monkeypatch.setattr("cvfs.catalog.reader._ROWS_AT_ONCE", 7)
    made = small()
    names = [b"%d" % number for number in range(50)]
    for name in names:
        made.row(b"/" + name, entry(name))
        for offset in range(3):
            made.sql.execute("INSERT INTO chunks VALUES (?, ?, ?, 1, x'00')", (*path_hash(b"/" + name), offset))
    catalog = Catalog.open(str(made.done()))
    rows = list(catalog.rows())
    assert [(own, row.name) for own, _, row in rows] == [
        (path_hash(path), path[1:]) for path in (b"", b"/a", *(b"/" + n for n in names))
    ]
    assert {parent for _, parent, _ in rows} == {(0, 0), path_hash(b"")}
    chunks = list(catalog.chunk_rows())
    assert sorted(chunks) == chunks
    assert {(key, chunk.offset) for key, chunk in chunks} == {(path_hash(b"/" + n), o) for n in names for o in range(3)}


@pytest.mark.parametrize("value", [None, "many", b"\1", 1.5])
def test_statistics_must_be_numbers(small, value):
    made = small()
    made.sql.execute("INSERT INTO statistics VALUES ('self_dir', ?)", (value,))
    catalog = Catalog.open(str(made.done()))
    with pytest.raises(FormatError):
        catalog.counters()
    with pytest.raises(FormatError):
        catalog.missing_counters()


def test_missing_counters_are_named(small):
    made = small()
    made.sql.execute("INSERT INTO statistics VALUES ('self_dir', 3), ('subtree_regular', 4)")
    catalog = Catalog.open(str(made.done()))
    own, below = catalog.counters()
    assert (own.dir, below.regular, own.regular) == (3, 4, 0)
    assert len(catalog.missing_counters()) == 22
    assert not {"self_dir", "subtree_regular"} & set(catalog.missing_counters())


def test_sqlite_is_built_for_several_threads():
    assert sqlite3.threadsafety == 3, "one connection is used by many threads"
