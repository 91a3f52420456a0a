"""Files made to do harm: a catalog is refused, or gives its rows, and every question comes to an end (FORMAT section 5.1)."""

import os

import pytest

from cvfs.catalog.reader import Catalog
from cvfs.errors import FormatError

SHA1 = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("offset", "bytes_"),
    [(0, b"SQLite format 4\0"), (18, b"\2"), (19, b"\2"), (18, b"\2\2"), (56, b"\0\0\0\2"), (56, b"\0\0\0\3")],
)
def test_headers_that_are_refused(small, offset, bytes_):
    file = small().done()
    data = bytearray(file.read_bytes())
    data[offset : offset + len(bytes_)] = bytes_
    file.write_bytes(data)
    with pytest.raises(FormatError):
        Catalog.open(str(file))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON catalog BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "ALTER TABLE catalog ADD bomb TEXT GENERATED ALWAYS AS (hex(zeroblob(500000000)))",
        "CREATE TABLE g (a INTEGER, b TEXT AS(a))",
    ],
)
def test_whatever_computes_is_refused(small, statement):
    made = small()
    made.sql.execute(statement)
    with pytest.raises(FormatError, match="more than tables and indexes"):
        Catalog.open(str(made.done()))


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("table", "CREATE/**/VIRTUAL TABLE chunks USING dbstat"),
        ("index", "CREATE VIEW chunks AS SELECT * FROM catalog, catalog"),
        ("table", "CREATE  VIEW chunks AS SELECT 1"),
        ("table", "create table chunks (a, b/**/AS/**/(1))"),
        ("table", "CREATE TABLE chunks\n(a, b TEXT\tgenerated always\nas(1))"),
    ],
)
def test_definitions_in_disguise_are_refused(small, kind, sql):
    made = small()
    made.sql.executescript("PRAGMA writable_schema = ON")
    made.sql.execute("UPDATE sqlite_master SET type = ?, sql = ? WHERE name = 'chunks'", (kind, sql))
    with pytest.raises(FormatError):
        Catalog.open(str(made.done()))


def test_a_view_in_place_of_the_catalog(hand_made, entry):
    made = hand_made()
    made.sql.executescript(
        "ALTER TABLE catalog RENAME TO other; CREATE VIEW catalog AS WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT other.*, i FROM other, n"
    )
    with pytest.raises(FormatError):
        Catalog.open(str(made.done()))


def test_a_value_that_is_too_long_is_refused(small, entry):
    made = small().row(b"/x", entry(b"x", xattr=bytes(2 * 2**20)))
    with pytest.raises(FormatError):
        Catalog.open(str(made.done())).find(b"/x")


def _page_with_itself_as_children(data: bytearray, page_size: int, root: int) -> None:
    """An interior table page all of whose children are the leaf that it replaces."""
    leaf = len(data) // page_size + 1
    start = (root - 1) * page_size
    data += data[start : start + page_size]
    cells = 400
    page = bytearray(page_size)
    page[0] = 5
    page[3:5] = cells.to_bytes(2, "big")
    page[8:12] = leaf.to_bytes(4, "big")
    content = page_size - 5 * cells
    page[5:7] = content.to_bytes(2, "big")
    for cell in range(cells):
        at = content + 5 * cell
        page[12 + 2 * cell : 14 + 2 * cell] = at.to_bytes(2, "big")
        page[at : at + 4] = leaf.to_bytes(4, "big")
        page[at + 4] = cell % 128
    data[start : start + page_size] = page


def test_pages_that_point_to_one_another_again_and_again_come_to_an_end(small):
    """Twenty levels of four hundred pointers each: a file of 100 kB with more rows than anybody can count."""
    made = small()
    made.sql.execute("INSERT INTO nested_catalogs VALUES ('/n', ?, 1)", (SHA1,))
    (root,) = made.sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'nested_catalogs'").fetchone()
    file = made.done()
    data = bytearray(file.read_bytes())
    for _ in range(8):
        _page_with_itself_as_children(data, 4096, root)
    data[28:32] = (len(data) // 4096).to_bytes(4, "big")
    file.write_bytes(data)
    catalog = Catalog.open(str(file))
    with pytest.raises(FormatError, match="interrupted"):
        catalog.nested()


def test_rows_that_come_again_are_refused(small):
    made = small()
    (root,) = made.sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'catalog'").fetchone()
    file = made.done()
    data = bytearray(file.read_bytes())
    _page_with_itself_as_children(data, 4096, root)
    data[28:32] = (len(data) // 4096).to_bytes(4, "big")
    file.write_bytes(data)
    with pytest.raises(FormatError, match="out of order"):
        list(Catalog.open(str(file)).rows())


def test_a_header_that_promises_billions_of_pages(small):
    file = small().done()
    data = bytearray(file.read_bytes())
    data[28:32] = b"\xff\xff\xff\xfe"
    file.write_bytes(data)
    with pytest.raises(FormatError, match="malformed"):
        Catalog.open(str(file))


def test_a_catalog_that_is_cut_off(small, entry):
    made = small()
    for number in range(200):
        made.row(b"/%d" % number, entry(b"%d" % number))
    file = made.done()
    data = file.read_bytes()
    file.write_bytes(data[:4096])
    with pytest.raises(FormatError):
        Catalog.open(str(file)).listing(b"")


def test_errors_name_the_catalog(small):
    made = small()
    made.sql.execute("DROP TABLE statistics")
    with pytest.raises(FormatError, match="catalog at /"):
        Catalog.open(str(made.done())).counters()


def test_a_refused_file_is_closed_again(small):
    file = str(small().property("schema", "7").done())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(FormatError):
            Catalog.open(file)
        with pytest.raises(FormatError):
            Catalog.open(file, b"/elsewhere")
    assert len(os.listdir("/proc/self/fd")) == before
