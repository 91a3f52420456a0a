"""Writing one catalog file: what a new one looks like to the byte, and older ones brought up (FORMAT sections 5.2 to 5.13)."""

import sqlite3
import sys
from pathlib import Path

import pytest

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.schema import COUNTER_NAMES, Counters
from cvfs.catalog.writer import CatalogWriter
from cvfs.errors import FormatError, StoreFull
from cvfs.format.dirent import Chunk, pack_hardlinks
from cvfs.hashes import Algorithm, ContentHash, ObjectKind, path_hash

CONTENT = ContentHash(Algorithm.SHAKE128, b"\5" * 20, ObjectKind.CATALOG)
DIR, REG, LINK, FIFO = 0o040755, 0o100644, 0o120777, 0o010644
PIECES = (Chunk(0, 2, b"\1" * 20), Chunk(2, 1, b"\2" * 20))

TABLES = {
    "properties": ["key TEXT", "value TEXT"],
    "catalog": [
        *("md5path_1 INTEGER", "md5path_2 INTEGER", "parent_1 INTEGER", "parent_2 INTEGER", "hardlinks INTEGER"),
        *("hash BLOB", "size INTEGER", "mode INTEGER", "mtime INTEGER", "mtimens INTEGER", "flags INTEGER"),
        *("name TEXT", "symlink TEXT", "uid INTEGER", "gid INTEGER", "xattr BLOB"),
    ],
    "chunks": ["md5path_1 INTEGER", "md5path_2 INTEGER", "offset INTEGER", "size INTEGER", "hash BLOB"],
    "nested_catalogs": ["path TEXT", "sha1 TEXT", "size INTEGER"],
    "bind_mountpoints": ["path TEXT", "sha1 TEXT", "size INTEGER"],
    "statistics": ["counter TEXT", "value INTEGER"],
}


@pytest.fixture
def filled(tmp_path, entry):
    """A finished root catalog with one of everything; gives its path and its counters."""
    path = str(tmp_path / "root.db")
    writer = CatalogWriter.create(path, b"", entry(b"whatever", DIR, flags=0x21))
    writer.insert(b"/f", entry(b"f", xattr=b"\1\1\1\1kv"))
    writer.insert(b"/c", entry(b"c", flags=0x44, digest=None), PIECES)
    writer.insert(b"/l", entry(b"l", LINK, symlink=b"\xff/t", size=3))
    writer.insert(b"/p", entry(b"p", FIFO, size=0, mtime_ns=None))
    writer.insert_many([(b"/n", entry(b"n", DIR, flags=3), ()), (b"/s", entry(b"s", DIR, flags=0x4001), ())])
    writer.insert(b"/\xff\n'", entry(b"\xff\n'", flags=0x8084, size=100))
    writer.set_nested(b"/n", CONTENT, 4096)
    writer.set_bind(NestedCatalog(b"/s", CONTENT, 0, b""))
    return path, writer.finish(3, 1795331432, None, Counters(regular=9))


def rows(path: str, query: str) -> list:
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_tables_and_columns_are_exactly_those_of_the_format(filled):
    path, _ = filled
    names = rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {name.decode() for (name,) in names} == set(TABLES)
    for table, columns in TABLES.items():
        described = rows(path, f"PRAGMA table_info({table})")
        assert [f"{row[1].decode()} {row[2].decode()}" for row in described] == columns
    assert rows(path, "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%'") == [(b"idx_catalog_parent",)]
    assert rows(path, "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')") == []


def test_the_tables_are_those_of_the_original_tools(filled, catalog_files):
    path, _ = filled
    columns = (
        "SELECT m.name, c.name, c.type, c.pk FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    )
    original = rows(str(catalog_files[0]), columns)
    assert len(original) == 31
    assert sorted(rows(path, columns)) == sorted(original)


TYPES = {
    **{name: {b"integer"} for name in ("md5path_1", "md5path_2", "parent_1", "parent_2", "hardlinks", "size", "mode")},
    **{name: {b"integer"} for name in ("mtime", "flags", "uid", "gid")},
    "mtimens": {b"integer", b"null"},
    "name": {b"text"},
    "symlink": {b"text"},
    "hash": {b"blob", b"null"},
    "xattr": {b"blob", b"null"},
}


@pytest.mark.parametrize(("column", "types"), TYPES.items())
def test_types_of_the_catalog_columns(filled, column, types):
    assert {row[0] for row in rows(filled[0], f"SELECT typeof({column}) FROM catalog")} == types


@pytest.mark.parametrize(
    ("table", "types"),
    [
        ("properties", (b"text", b"text")),
        ("chunks", (b"integer", b"integer", b"integer", b"integer", b"blob")),
        ("nested_catalogs", (b"text", b"text", b"integer")),
        ("bind_mountpoints", (b"text", b"text", b"integer")),
        ("statistics", (b"text", b"integer")),
    ],
)
def test_types_of_the_other_columns(filled, table, types):
    columns = ", ".join(f"typeof({column.split()[0]})" for column in TABLES[table])
    assert set(rows(filled[0], f"SELECT {columns} FROM {table}")) == {types}


def test_the_file_is_in_rollback_journal_mode_and_alone(filled, tmp_path):
    header = (tmp_path / "root.db").read_bytes()[:100]
    assert header[18:20] == b"\1\1"
    assert int.from_bytes(header[16:18], "big") == 4096
    assert header[56:60] == b"\0\0\0\1"
    assert [file.name for file in tmp_path.iterdir()] == ["root.db"]
    assert rows(filled[0], "PRAGMA integrity_check") == [(b"ok",)]


def test_the_root_is_row_one_without_name_and_parent(filled):
    found = rows(
        filled[0], "SELECT rowid, name, parent_1, parent_2, flags FROM catalog WHERE md5path_1 = 338333539836370388"
    )
    assert found == [(1, b"", 0, 0, 1)]


def test_the_root_of_a_nested_catalog(tmp_path, entry):
    path = str(tmp_path / "nested.db")
    writer = CatalogWriter.create(path, b"/a/\xffb", entry(b"", DIR, flags=0x8003))
    writer.finish(1, 5, None, Counters())
    catalog = Catalog.open(path, b"/a/\xffb")
    root = catalog.find(b"/a/\xffb")
    assert (root.name, root.flags) == (b"\xffb", 0x8021), "the place's flags follow, the hidden one is kept"
    parent = rows(path, "SELECT rowid, parent_1, parent_2 FROM catalog")
    assert parent == [(1, *path_hash(b"/a"))]
    assert catalog.properties["previous_revision"] == "0" * 40
    assert catalog.previous_revision is None


def test_properties_of_a_new_root(filled):
    assert dict(rows(filled[0], "SELECT key, value FROM properties")) == {
        b"schema": b"2.5",
        b"schema_revision": b"7",
        b"revision": b"3",
        b"last_modified": b"1795331432",
    }


def test_all_counters_are_there_and_right(filled):
    path, own = filled
    assert own == Counters(
        regular=3, symlink=1, special=1, dir=3, nested=1, chunked=1, chunks=2, file_size=106, chunked_size=3, xattr=1,
        external=1, external_file_size=100,
    )  # fmt: skip
    catalog = Catalog.open(path)
    assert catalog.counters() == (own, Counters(regular=9))
    assert catalog.missing_counters() == []
    assert len(rows(path, "SELECT 1 FROM statistics")) == 2 * len(COUNTER_NAMES) == 24


def test_what_was_written_is_read(filled, entry):
    catalog = Catalog.open(filled[0])
    assert catalog.find(b"/f") == entry(b"f", xattr=b"\1\1\1\1kv")
    assert catalog.find(b"/l").symlink == b"\xff/t"
    assert catalog.find(b"/p").mtime_ns is None
    assert catalog.find(b"/\xff\n'").is_hidden
    assert catalog.chunks(b"/c") == list(PIECES)
    assert len(catalog.listing(b"")) == 7
    assert [(n.path, n.content, n.size, n.root_prefix) for n in catalog.nested()] == [
        (b"/n", CONTENT, 4096, b"/n"),
        (b"/s", CONTENT, 0, b""),
    ]


@pytest.mark.parametrize("name", [bytes([value]) for value in range(1, 256) if value != 0x2F] + [b"\xc3", b"%s", b"''"])
def test_names_and_targets_may_be_any_bytes(tmp_path, entry, name):
    path = str(tmp_path / "c.db")
    writer = CatalogWriter.create(path, b"", entry(b"", DIR))
    written = entry(b"x" + name, LINK, symlink=name)
    writer.insert(b"/x" + name, written)
    writer.finish(1, 1, None, Counters())
    assert Catalog.open(path).listing(b"") == [written]
    assert Catalog.open(path).find(b"/x" + name) == written


def test_changing_a_finished_catalog(filled, entry):
    path, _ = filled
    writer = CatalogWriter.open(path, b"")
    writer.update(b"/f", entry(b"f", flags=0x44, size=3, hardlinks=pack_hardlinks(7, 2)), PIECES)
    writer.update(b"/c", entry(b"c", LINK, symlink=b"t", size=1))
    writer.remove(b"/l")
    writer.remove(b"/never")
    writer.remove_nested(b"/n")
    writer.remove_nested(b"/s")
    writer.set_nested(b"/m\xff", CONTENT, 1)
    writer.set_nested(b"/m\xff", CONTENT, 2)
    assert writer.highest_group() == 7
    own = writer.finish(4, 6, CONTENT, Counters())
    catalog = Catalog.open(path)
    assert (catalog.revision, catalog.last_modified, catalog.previous_revision) == (4, 6, CONTENT)
    assert catalog.properties["previous_revision"] == str(CONTENT)
    assert catalog.chunks(b"/f") == list(PIECES)
    assert catalog.chunks(b"/c") == []
    assert catalog.find(b"/l") is None
    assert [(nested.path, nested.size) for nested in catalog.nested()] == [(b"/m\xff", 2)]
    assert (own.symlink, own.chunked, own.chunks) == (1, 1, 2)


def test_an_update_keeps_the_row_number_of_the_root(filled, entry):
    path, _ = filled
    writer = CatalogWriter.open(path, b"")
    writer.update(b"", entry(b"", DIR, size=9))
    writer.finish(4, 6, CONTENT, Counters())
    assert rows(path, "SELECT rowid, size FROM catalog WHERE name = ''") == [(1, 9)]


def test_a_row_that_is_not_there_cannot_be_updated(filled, entry):
    writer = CatalogWriter.open(filled[0], b"")
    with pytest.raises(FormatError, match="no row for b'/none'"):
        writer.update(b"/none", entry(b"none"))
    writer.abandon()


def test_a_path_cannot_be_inserted_twice(filled, entry):
    writer = CatalogWriter.open(filled[0], b"")
    with pytest.raises(FormatError, match="UNIQUE"):
        writer.insert(b"/f", entry(b"f"))
    writer.abandon()


def test_what_was_abandoned_is_not_in_the_file(filled, entry):
    path, _ = filled
    writer = CatalogWriter.open(path, b"")
    writer.insert(b"/more", entry(b"more"))
    writer.abandon()
    assert Catalog.open(path).find(b"/more") is None


def test_room_is_given_back_and_the_root_stays_row_one(tmp_path, entry):
    path = tmp_path / "c.db"
    writer = CatalogWriter.create(str(path), b"", entry(b"", DIR))
    writer.insert_many((b"/%d" % n, entry(b"%d" % n), ()) for n in range(3000))
    writer.finish(1, 1, None, Counters())
    before = path.stat().st_size
    writer = CatalogWriter.open(str(path), b"")
    for number in range(0, 3000, 2):
        writer.remove(b"/%d" % number)
    for number in range(1, 1500, 2):
        writer.remove(b"/%d" % number)
    assert writer.finish(2, 2, CONTENT, Counters()).regular == 750
    assert path.stat().st_size < before / 2
    assert rows(str(path), "SELECT rowid FROM catalog WHERE name = ''") == [(1,)]
    assert Catalog.open(str(path)).find(b"/2999").name == b"2999"


def test_a_full_disk_is_told_as_such(tmp_path, entry):
    path = str(tmp_path / "c.db")
    writer = CatalogWriter.create(path, b"", entry(b"", DIR))
    writer._execute("PRAGMA max_page_count = 40")
    with pytest.raises(StoreFull, match="full"):
        writer.insert_many((b"/%d" % n, entry(b"%d" % n), ()) for n in range(3000))
    writer.abandon()


def test_a_directory_that_is_not_there(tmp_path, entry):
    with pytest.raises(StoreFull, match="none"):
        CatalogWriter.create(str(tmp_path / "none" / "c.db"), b"", entry(b"", DIR))
    with pytest.raises(FormatError, match="No such file"):
        CatalogWriter.open(str(tmp_path / "c.db"), b"")


def test_an_existing_file_is_not_written_over(filled, entry):
    with pytest.raises(FormatError, match="already exists"):
        CatalogWriter.create(filled[0], b"", entry(b"", DIR))
    assert Catalog.open(filled[0]).find(b"/f")


# Older catalogs


@pytest.mark.parametrize("schema", ["2.5", 2.5])
@pytest.mark.parametrize("page_size", [1024, 4096])
@pytest.mark.parametrize("revision", [None, 1, 2, 3, 4, 5, 6, 7])
def test_older_catalogs_are_brought_up(hand_made, entry, revision, page_size, schema):
    made = hand_made(schema, revision, page_size=page_size).row(b"", entry(b"", DIR)).row(b"/f", entry(b"f"))
    made.row(b"/p", entry(b"p", FIFO, flags=0x4, size=0))
    made.row(b"/odd", entry(b"odd", flags=0x1FFF4 & ~0x3F10))
    path = str(made.done())
    mask = Catalog.open(path).version.flag_mask
    writer = CatalogWriter.open(path, b"")
    writer.insert(b"/new", entry(b"new", xattr=b"\1\1\1\1kv"), PIECES)
    writer.set_bind(NestedCatalog(b"/b", CONTENT, 4, b""))
    writer.set_nested(b"/n", CONTENT, 5)
    writer.finish(2, 2, CONTENT, Counters())
    catalog = Catalog.open(path)
    assert (catalog.version.schema, catalog.version.revision) == (2.5, 7)
    assert catalog.missing_counters() == []
    assert catalog.find(b"/new") == entry(b"new", xattr=b"\1\1\1\1kv")
    assert catalog.find(b"/f") == entry(b"f", mtime_ns=5 if (revision or 0) >= 7 else None)
    assert catalog.find(b"/odd").flags == 0x1FFF4 & ~0x3F10 & mask, "noise of an old revision does not become a meaning"
    assert catalog.find(b"/p").flags == (0x14 if (revision or 0) < 7 else 0x4)
    assert {nested.path: nested.size for nested in catalog.nested()} == {b"/b": 4, b"/n": 5}
    assert int.from_bytes(Path(path).read_bytes()[16:18], "big") == page_size


@pytest.mark.parametrize(
    ("schema", "revision"), [("2.4", None), ("1.0", None), (None, None), ("2.6", 7), ("2.5", 8), ("2.5", -1)]
)
def test_other_schemas_are_not_changed(hand_made, entry, schema, revision):
    made = hand_made("2.5", 7) if schema not in ("1.0", None) else hand_made(schema, revision)
    for key, value in (("schema", schema), ("schema_revision", revision)):
        if value is not None:
            made.property(key, value)
    path = made.row(b"", entry(b"", DIR)).done()
    before = path.read_bytes()
    with pytest.raises(FormatError, match="publish anew"):
        CatalogWriter.open(str(path), b"")
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", ["x", "", None])
def test_an_unreadable_schema_is_not_changed(hand_made, value):
    path = str(hand_made().property("schema", value).done())
    with pytest.raises(FormatError, match="unreadable"):
        CatalogWriter.open(path, b"")


@pytest.mark.parametrize(("claimed", "mountpoint"), [(None, b"/n"), ("/n", b""), ("/n", b"/m")])
def test_a_catalog_is_only_changed_in_its_place(hand_made, claimed, mountpoint):
    made = hand_made()
    if claimed:
        made.property("root_prefix", claimed)
    with pytest.raises(FormatError, match="was found at"):
        CatalogWriter.open(str(made.done()), mountpoint)


def test_programs_of_a_foreign_catalog_never_run(hand_made, entry):
    made = hand_made().row(b"", entry(b"", DIR))
    made.sql.execute("CREATE TRIGGER t AFTER INSERT ON catalog BEGIN DELETE FROM catalog; END")
    with pytest.raises(FormatError, match="more than tables"):
        CatalogWriter.open(str(made.done()), b"")


@pytest.mark.parametrize(
    "data", [b"", b"SQLite format 3\0", b"SQLite format 3\0\x10\0\1\1" + bytes(36) + b"\0\0\0\1" + bytes(5000)]
)
def test_what_is_no_catalog_is_not_written(tmp_path, data):
    path = tmp_path / "c.db"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        CatalogWriter.open(str(path), b"")
    assert path.read_bytes() == data


def test_a_table_that_is_cut_off(filled, tmp_path):
    path = tmp_path / "root.db"
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="cannot be written"):
        CatalogWriter.open(str(path), b"")


def test_largest_numbers(tmp_path, entry):
    path = str(tmp_path / "c.db")
    row = entry(b"x", size=sys.maxsize, mtime=-1, uid=2**32 - 2, gid=2**32 - 1, mtime_ns=999999999)
    writer = CatalogWriter.create(path, b"", entry(b"", DIR))
    writer.insert(b"/x", row)
    assert writer.finish(1, 1, None, Counters()).file_size == sys.maxsize
    assert Catalog.open(path).find(b"/x") == row
