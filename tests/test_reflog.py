"""The reflog: the original's files, what is kept and what is refused."""

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from cvfs import reflog
from cvfs.errors import FormatError, StoreFull, UsageError
from cvfs.format import manifest
from cvfs.format.signature import split_signed
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.reflog import Reference, Reflog

FQRN = "tiny.example.org"


def content(text: str, kind: ObjectKind = ObjectKind.CATALOG) -> ContentHash:
    return ContentHash.of(text.encode(), Algorithm.SHA1, kind)


def stored(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "reflog")


@pytest.fixture
def rows(path):
    """The file as another program sees it."""

    def read(query: str) -> list[tuple]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(query).fetchall()

    return read


@pytest.mark.parametrize("fqrn", [FQRN, "tiny-shake128.example.org"])
def test_the_originals_reflog(fixture_repository, path, fqrn):
    storage = fixture_repository(fqrn).storage
    published = manifest.parse(split_signed((storage / ".cvmfspublished").read_bytes()).payload)
    shutil.copy(storage / ".cvmfsreflog", path)
    assert reflog.digest(path, published.reflog.algorithm) == published.reflog
    with Reflog.open(path) as log:
        assert log.fqrn == fqrn
        known = [reference.content for reference in log.references()]
        counts = [len(log.references(kind)) for kind in (ObjectKind.CATALOG, ObjectKind.HISTORY)]
    for named in (published.root_catalog, published.history, published.certificate, published.metainfo):
        assert named in known
    assert counts == [7, 6]
    assert all((storage / reference.path).is_file() for reference in known)
    assert reflog.digest(path, published.reflog.algorithm) == published.reflog


def test_a_new_one_is_like_the_originals(fixture_repository, path, rows):
    with Reflog.create(path, FQRN):
        pass
    own = set(rows("SELECT name, type FROM sqlite_master")), sorted(rows("SELECT * FROM properties"))
    columns = [rows(f"SELECT name, type, pk FROM pragma_table_info('{table}')") for table in ("refs", "properties")]
    shutil.copy(fixture_repository(FQRN).storage / ".cvmfsreflog", path)
    assert own == (set(rows("SELECT name, type FROM sqlite_master")), sorted(rows("SELECT * FROM properties")))
    assert columns == [
        rows(f"SELECT name, type, pk FROM pragma_table_info('{table}')") for table in ("refs", "properties")
    ]


KINDS = [ObjectKind.CATALOG, ObjectKind.CERTIFICATE, ObjectKind.HISTORY, ObjectKind.METAINFO]


def test_types_and_text(path, rows):
    with Reflog.create(path, FQRN) as log:
        for number, kind in enumerate(KINDS):
            log.add(ContentHash(Algorithm.SHAKE128, bytes([number] * 20), kind), 100 + number)
    assert rows("SELECT * FROM refs") == [
        (f"{number:02x}" * 20 + "-shake128", number, 100 + number) for number in range(4)
    ]
    with Reflog.open(path) as log:
        assert [(found.content.kind, found.timestamp) for found in log.references()] == [
            (kind, 100 + number) for number, kind in enumerate(KINDS)
        ]
        certificate = ContentHash(Algorithm.SHAKE128, b"\1" * 20, ObjectKind.CERTIFICATE)
        assert log.references(ObjectKind.CERTIFICATE) == [Reference(certificate, 101)]
        assert log.references(ObjectKind.CHUNK) == []


@pytest.mark.parametrize("kind", [kind for kind in ObjectKind if kind not in KINDS])
def test_only_root_objects_have_a_place(path, kind):
    with Reflog.create(path, FQRN) as log, pytest.raises(UsageError, match="no root object"):
        log.add(content("x", kind), 1)


def test_an_object_that_comes_again_is_written_down_anew(path):
    with Reflog.create(path, FQRN) as log:
        log.add(content("a"), 1)
        log.add(content("b"), 2)
        log.add(content("a"), 3)
        assert log.references() == [Reference(content("b"), 2), Reference(content("a"), 3)]


def test_removing_and_compacting(path):
    with Reflog.create(path, FQRN) as log:
        for number in range(2000):
            log.add(content(str(number)), number)
    full = reflog.digest(path, Algorithm.SHA1), os.path.getsize(path)
    with Reflog.open(path) as log:
        log.remove(content(str(number)) for number in range(1, 2000))
        log.remove([content("never there")])
        log.compact()
        assert log.references() == [Reference(content("0"), 0)]
    assert os.path.getsize(path) < full[1] / 10
    with Reflog.open(path) as log:
        log.add(content("more"), 5)
    with Reflog.open(path) as log:
        assert [found.timestamp for found in log.references()] == [0, 5]


def test_an_error_leaves_the_file_as_it_was(path):
    with Reflog.create(path, FQRN) as log:
        log.add(content("a"), 1)
    before = reflog.digest(path, Algorithm.SHA1)

    def fail_halfway():
        with Reflog.open(path) as log:
            log.add(content("b"), 2)
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert reflog.digest(path, Algorithm.SHA1) == before


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_digest_is_over_the_plain_file(path, algorithm):
    data = bytes(range(256)) * 10_000
    with open(path, "wb") as file:
        file.write(data)
    assert reflog.digest(path, algorithm) == ContentHash.of(data, algorithm)
    if algorithm is Algorithm.SHA1:
        assert str(reflog.digest(path, algorithm)) == hashlib.sha1(data).hexdigest()


def test_the_file_is_in_rollback_mode_and_nothing_lies_beside_it(path, tmp_path):
    with Reflog.create(path, FQRN) as log:
        log.add(content("a"), 1)
    assert stored(path)[18:20] == b"\1\1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["reflog"]


def test_an_existing_file_is_not_made_anew(path):
    with Reflog.create(path, FQRN):
        pass
    with pytest.raises(UsageError, match="already"):
        Reflog.create(path, FQRN)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(StoreFull):
        Reflog.create(str(tmp_path / "none" / "reflog"), FQRN)
    with pytest.raises(FormatError):
        Reflog.open(str(tmp_path / "none"))


def test_a_full_disk(path):
    with Reflog.create(path, FQRN) as log:
        log.add(content("a"), 1)

    def fill():
        with Reflog.open(path) as log:
            log._execute("PRAGMA max_page_count = 5")
            for number in range(2000):
                log.add(content(str(number)), number)

    with pytest.raises(StoreFull):
        fill()
    with Reflog.open(path) as log:
        assert log.references() == [Reference(content("a"), 1)]


def made(path: str, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


PROPERTIES = ("CREATE TABLE properties (key TEXT, value TEXT)", "INSERT INTO properties VALUES ('schema', '1.0')")
REFS = "CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER)"


@pytest.mark.parametrize(
    "statements",
    [
        (REFS,),
        (PROPERTIES[0], "INSERT INTO properties VALUES ('schema', '2.0')", REFS),
        (*PROPERTIES, REFS, "CREATE TRIGGER t AFTER INSERT ON refs BEGIN DELETE FROM refs; END"),
        (*PROPERTIES, "CREATE VIEW refs AS SELECT 1"),
    ],
)
def test_files_that_are_refused(path, statements):
    made(path, *statements)
    with pytest.raises(FormatError):
        Reflog.open(path)


@pytest.mark.parametrize(
    "row",
    [
        "'nonsense', 0, 1",
        f"'{content('a')}', 4, 1",
        f"'{content('a')}', NULL, 1",
        f"'{content('a')}', 0, 'x'",
        f"'{content('a')}X', 0, 1",
    ],
)
def test_rows_that_are_refused(path, row):
    made(path, *PROPERTIES, REFS, f"INSERT INTO refs VALUES ({row})")
    with Reflog.open(path) as log, pytest.raises(FormatError):
        log.references()


@pytest.mark.parametrize("data", [b"", b"x" * 200, b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_database_is_refused(path, data):
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(FormatError):
        Reflog.open(path)
    assert stored(path) == data
