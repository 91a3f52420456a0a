"""Any file at all: a catalog opens and gives rows, or says FormatError; nothing else, and it comes to an end."""

import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvfs.catalog.reader import Catalog
from cvfs.catalog.schema import Counters
from cvfs.catalog.writer import CatalogWriter
from cvfs.errors import FormatError, StoreFull
from cvfs.format.dirent import DirectoryEntry

FQRN = "tiny.example.org"
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def originals(fixture_repository, scratch) -> list[tuple[bytes, bytes]]:
    """Catalog files of the original tools and where they belong, small ones first."""
    stored = (fixture_repository(FQRN).storage / "data").glob("??/*C")
    files = sorted({zlib.decompress(file.read_bytes()) for file in stored}, key=lambda data: (len(data), data))
    return [(data, _mountpoint(data, scratch)) for data in files]


def _mountpoint(data: bytes, scratch: Path) -> bytes:
    scratch.write_bytes(data)
    with closing(sqlite3.connect(scratch)) as connection:
        row = connection.execute("SELECT value FROM properties WHERE key = 'root_prefix'").fetchone()
    return row[0].encode() if row else b""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "catalog.db"


def read_everything(file: Path, mountpoint: bytes = b"") -> int:
    """Ask a catalog all there is to ask; the number of questions it answered."""
    answered = 0
    try:
        catalog = Catalog.open(str(file), mountpoint)
    except FormatError:
        return answered
    questions = (
        lambda: catalog.find(mountpoint),
        lambda: catalog.find(mountpoint + b"/files/hello.txt"),
        lambda: [understood(row) for row in catalog.listing(mountpoint)],
        lambda: catalog.chunks(b"/chunked/random_1m"),
        catalog.nested,
        catalog.counters,
        catalog.missing_counters,
        lambda: [understood(row) for _, _, row in catalog.rows()],
        lambda: list(catalog.chunk_rows()),
        lambda: (catalog.revision, catalog.ttl, catalog.last_modified, catalog.previous_revision),
    )
    for question in questions:
        with suppress(FormatError):
            question()
            answered += 1
    catalog.close()
    return answered


def understood(row: DirectoryEntry) -> None:
    """A row that was handed out can be asked anything as well."""
    assert row.is_directory + row.is_regular + row.is_link + row.is_device <= 1
    assert row.linkcount >= 1
    assert row.hardlink_group >= 0
    try:
        assert row.content is None or row.content.path
    except FormatError:
        assert row.digest


def write_something(file: Path, mountpoint: bytes = b"") -> bool:
    """Change a catalog; whether it could be changed."""
    try:
        writer = CatalogWriter.open(str(file), mountpoint)
    except FormatError:
        return False
    try:
        writer.remove(b"/files/hello.txt")
        writer.set_property("revision", "9")
        writer.finish(9, 9, None, Counters())
    except (FormatError, StoreFull):
        writer.abandon()
        return False
    return True


def test_the_undamaged_ones_answer_everything(originals, scratch):
    assert len(originals) > 20
    for data, mountpoint in originals:
        scratch.write_bytes(data)
        assert read_everything(scratch, mountpoint) == 10
        assert write_something(scratch, mountpoint)


@PATIENT
@given(st.binary(max_size=4096))
def test_any_bytes(scratch, data):
    scratch.write_bytes(data)
    assert read_everything(scratch) == 0


@PATIENT
@given(st.binary(max_size=4000))
def test_any_bytes_behind_a_good_header(originals, scratch, data):
    scratch.write_bytes(originals[0][0][:100] + data)
    read_everything(scratch)
    write_something(scratch)


@settings(PATIENT, max_examples=300)
@given(data=st.data())
def test_flipped_bits(originals, scratch, data):
    original, mountpoint = data.draw(st.sampled_from(originals))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        # The start of the file and of its pages is where the structure is.
        page = data.draw(st.integers(0, len(original) // 1024 - 1)) * 1024
        place = page + data.draw(st.one_of(st.integers(0, 40), st.integers(0, 1023)))
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    scratch.write_bytes(damaged)
    read_everything(scratch, mountpoint)
    write_something(scratch, mountpoint)


@PATIENT
@given(data=st.data())
def test_cut_off_files(originals, scratch, data):
    original, mountpoint = data.draw(st.sampled_from(originals))
    scratch.write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
    read_everything(scratch, mountpoint)


@PATIENT
@given(data=st.data())
def test_pages_that_are_exchanged(originals, scratch, data):
    """Each page is sound by itself, but the tree they form is not."""
    original, mountpoint = data.draw(st.sampled_from(originals))
    damaged = bytearray(original)
    pages = st.integers(1, len(damaged) // 1024 - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        to, source = data.draw(pages) * 1024, data.draw(pages) * 1024
        damaged[to : to + 1024] = damaged[source : source + 1024]
    scratch.write_bytes(damaged)
    read_everything(scratch, mountpoint)
    write_something(scratch, mountpoint)
