"""One file into objects: which, how cut, what if it changes, what is refused."""

import hashlib
import os
import socket
import zlib
from pathlib import Path

import pytest

from cvfs import chunking
from cvfs.chunking import ChunkSizes
from cvfs.compression import Compression, decode
from cvfs.errors import Unpublishable
from cvfs.format import xattrs
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs_server.ingest import content
from cvfs_server.ingest.content import ContentReader, StorageForm
from cvfs_server.ingest.pieces import NewObject
from cvfs_server.sources.base import Part, Place

SIZES = ChunkSizes(1024, 2048, 4096)
EMPTY_ZLIB = "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78"


@pytest.fixture
def file(tmp_path):
    """Writes a source file."""

    def write(data=b"content", name="file"):
        path = tmp_path / name
        path.write_bytes(data)
        return os.fsencode(path)

    return write


def _stored(storage, digest, kind, algorithm=Algorithm.SHA1):
    stored = b"".join(storage.fetch(ContentHash(algorithm, digest, kind).path))
    assert ContentHash.of(stored, algorithm, kind).digest == digest
    return stored


def _random(size, seed=1):
    return hashlib.shake_256(b"%d" % seed).digest(size)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("size", [0, 1, 1024, 2**20, 2**20 + 1])
def test_a_whole_file(storage, file, algorithm, size):
    data = _random(size)
    taken = ContentReader(storage, StorageForm(algorithm)).take(Place(file(data)))
    assert (taken.chunks, taken.xattr, taken.size) == ((), None, size)
    assert zlib.decompress(_stored(storage, taken.digest, ObjectKind.FILE, algorithm)) == data
    assert (taken.objects, taken.stored) == (1, next(storage.objects())[1])


def test_known_digest_of_nothing(storage, file):
    reader = ContentReader(storage, StorageForm())
    for place in (Place(file(b"")), None):
        assert reader.take(place).digest.hex() == EMPTY_ZLIB


@pytest.mark.parametrize("compression", ["zlib", "zlib-fast", "none", "zstd"])
@pytest.mark.parametrize("size", [10_000, 3 * 2**20])
@pytest.mark.parametrize("chunked", [False, True])
def test_every_form_reads_back(storage, file, compression, size, chunked):
    data = _random(size // 2) + b"\0" * (size - size // 2)
    form = StorageForm(compression=compression, chunking=SIZES if chunked else None)
    taken = ContentReader(storage, form).take(Place(file(data)))
    code = {"none": Compression.NONE, "zstd": Compression.ZSTD}.get(compression, Compression.ZLIB)
    named = [(chunk.digest, ObjectKind.CHUNK, chunk.size) for chunk in taken.chunks]
    named = named or [(taken.digest, ObjectKind.FILE, size)]
    pieces = [decode(_stored(storage, d, kind), code, length) for d, kind, length in named]
    assert b"".join(pieces) == data


@pytest.mark.parametrize("size", [1024, 1025, 4096, 4097, 20_000, 2**20 + 5])
@pytest.mark.parametrize("bulk", [False, True])
def test_chunks(storage, file, size, bulk):
    data = _random(size)
    form = StorageForm(Algorithm.SHAKE128, "none", SIZES, bulk)
    taken = ContentReader(storage, form).take(Place(file(data)))
    cuts = chunking.cut(data, SIZES) if size > SIZES.minimum else []
    assert [chunk.offset for chunk in taken.chunks] == ([0, *cuts] if cuts else [])
    for chunk in taken.chunks:
        piece = data[chunk.offset : chunk.offset + chunk.size]
        assert _stored(storage, chunk.digest, ObjectKind.CHUNK, Algorithm.SHAKE128) == piece
    assert sum(chunk.size for chunk in taken.chunks) in (0, size)
    whole = bulk or not cuts
    assert (taken.digest is not None) is whole
    if whole:
        assert _stored(storage, taken.digest, ObjectKind.FILE, Algorithm.SHAKE128) == data
    assert taken.objects == len(taken.chunks) + whole
    assert not os.listdir(f"{storage.base}/data/txn")


def test_what_is_there_is_not_counted_again(storage, file):
    reader = ContentReader(storage, StorageForm(chunking=SIZES))
    data = _random(30_000)
    first, again = reader.take(Place(file(data))), reader.take(Place(file(data, "copy")))
    assert first.objects > 3
    assert (again.objects, again.stored) == (0, 0)
    assert again.chunks == first.chunks


def test_extended_attributes(storage, file):
    path = file()
    for name, value in (("user.b", b"\0\xff"), ("user.a", b"")):
        os.setxattr(path, name, value)
    taken = ContentReader(storage, StorageForm()).take(Place(path))
    assert taken.xattr == xattrs.pack({b"user.a": b"", b"user.b": b"\0\xff"})
    assert ContentReader(storage, StorageForm(xattrs=False)).take(Place(path)).xattr is None


def test_labels_of_the_machine_are_left_out(file, monkeypatch):
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["security.selinux", "user.a"])
    monkeypatch.setattr(os, "getxattr", lambda *_, **__: b"value")
    assert content.pack_attributes(file(), b"/x") == xattrs.pack({b"user.a": b"value"})
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["security.selinux"])
    assert content.pack_attributes(file(), b"/x") is None


def test_an_attribute_too_long_for_the_format_is_refused(storage, file):
    path = file()
    os.setxattr(path, "user.long", b"x" * 256)
    with pytest.raises(Unpublishable, match=r"file.*nothing was published"):
        ContentReader(storage, StorageForm()).take(Place(path))


def _make_fifo(path):
    os.mkfifo(path)


def _make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (os.mkdir, "regular file"),
        (_make_fifo, "regular file"),
        (lambda path: os.symlink("elsewhere", path), "symbolic link"),
        (_make_socket, "No such device"),
    ],
    ids=["nothing", "directory", "fifo", "link", "socket"],
)
def test_what_is_no_file_any_more_is_refused(storage, tmp_path, make, reason):
    path = os.fsencode(tmp_path / "it")
    make(path)
    with pytest.raises(Unpublishable, match=f"it: .*{reason}"):
        ContentReader(storage, StorageForm()).take(Place(path))


class Meddler:
    """Somebody who changes the file at the first so many reads of it."""

    def __init__(self, path, times, change):
        self.path, self.times, self.change = path, times, change
        self.read = os.pread

    def __call__(self, descriptor, count, offset):
        if self.times:
            self.times -= 1
            self.change(self.path, self.times)
        return self.read(descriptor, count, offset)


def _append(path, _):
    with open(path, "ab") as file:
        file.write(b"more")


def _shorten(path, _):
    os.truncate(path, os.path.getsize(path) - 1)


def _rewrite(path, round_number):
    with open(path, "r+b") as file:
        file.write(b"%d" % round_number)
    os.utime(path, (round_number, round_number))


@pytest.mark.parametrize("change", [_append, _shorten, _rewrite])
@pytest.mark.parametrize("size", [100, 2**20 + 100])
def test_a_file_that_changes_is_read_again(storage, file, monkeypatch, change, size):
    path = file(_random(size))
    monkeypatch.setattr(os, "pread", Meddler(path, 2, change))
    taken = ContentReader(storage, StorageForm()).take(Place(path))
    monkeypatch.undo()
    now = Path(os.fsdecode(path)).read_bytes()
    assert taken.size == len(now)
    assert taken.mtime_ns == os.stat(path).st_mtime_ns
    assert zlib.decompress(_stored(storage, taken.digest, ObjectKind.FILE)) == now
    assert not os.listdir(f"{storage.base}/data/txn")


def test_a_file_that_never_holds_still_is_refused(storage, file, monkeypatch):
    path = file(_random(100))
    monkeypatch.setattr(os, "pread", Meddler(path, -1, _append))
    with pytest.raises(Unpublishable, match="changed while it was read, 3 times"):
        ContentReader(storage, StorageForm()).take(Place(path))


def sparse(path, size, *written):
    """A file of holes, with some bytes written at offsets."""
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, data in written:
            file.seek(offset)
            file.write(data)
    return os.fsencode(path)


def dense(path, copy):
    """The same bytes without holes."""
    data = Path(os.fsdecode(path)).read_bytes()
    copy.write_bytes(data)
    return os.fsencode(copy)


SPARSE = {
    "nothing but a hole": (300_000, ()),
    "exactly full chunks": (2 * 16_384, ()),
    "one byte more than a chunk": (16_385, ()),
    "ends with data": (200_000, ((199_990, b"0123456789"),)),
    "data at the start": (200_000, ((0, b"x" * 5_000),)),
    "islands": (500_000, ((40_000, b"a" * 9_000), (41_000, b"b"), (333_333, b"c" * 70_000))),
    "a small hole only": (40_000, ((0, b"a" * 8_192), (36_864, b"b" * 3_136))),
}


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("case", SPARSE)
def test_holes_are_the_zeros_that_they_show(storage, tmp_path, case, bulk):
    size, written = SPARSE[case]
    form = StorageForm(chunking=ChunkSizes(4_096, 8_192, 16_384), bulk=bulk)
    holes = sparse(tmp_path / "holes", size, *written)
    found = ContentReader(storage, form).take(Place(holes))
    expected = ContentReader(storage, form).take(Place(dense(holes, tmp_path / "dense")))
    assert found[:3] == expected[:3]
    assert found.size == size
    assert [chunk.offset for chunk in found.chunks] == [chunk.offset for chunk in expected.chunks]


def test_holes_without_chunks_are_zeros_too(storage, tmp_path):
    holes = sparse(tmp_path / "holes", 3 * 2**20, (2**20, b"data"))
    found = ContentReader(storage, StorageForm()).take(Place(holes))
    expected = ContentReader(storage, StorageForm()).take(Place(dense(holes, tmp_path / "dense")))
    assert found.digest == expected.digest


def test_a_chunk_of_zeros_is_compressed_once(storage, tmp_path, monkeypatch):
    fed = []
    monkeypatch.setattr(
        NewObject, "feed", lambda self, data, feed=NewObject.feed: (fed.append(len(data)), feed(self, data))
    )
    form = StorageForm(chunking=ChunkSizes(4_096, 8_192, 16_384))
    content = ContentReader(storage, form).take(Place(sparse(tmp_path / "holes", 2**30)))
    assert len(content.chunks) == 2**16
    assert len({chunk.digest for chunk in content.chunks}) == 1
    assert sum(fed) < 100_000


def test_a_part_is_read_where_it_is(storage, tmp_path):
    whole = tmp_path / "whole"
    whole.write_bytes(b"before" + _random(50_000) + b"behind")
    part = tmp_path / "part"
    part.write_bytes(whole.read_bytes()[6:-6])
    form = StorageForm(chunking=ChunkSizes(4_096, 8_192, 16_384))
    found = ContentReader(storage, form).take(Place(os.fsencode(whole), Part(6, 50_000, 7, b"packed")))
    expected = ContentReader(storage, form).take(Place(os.fsencode(part)))
    assert found[:2] == expected[:2]
    assert (found.xattr, found.size, found.mtime_ns) == (b"packed", 50_000, 7)


def test_a_part_with_holes_is_read_where_it_is(storage, tmp_path):
    holes = sparse(tmp_path / "holes", 500_000, (100_000, b"x" * 10_000))
    part = tmp_path / "part"
    part.write_bytes(Path(os.fsdecode(holes)).read_bytes()[50_000:450_000])
    form = StorageForm(chunking=ChunkSizes(4_096, 8_192, 16_384))
    found = ContentReader(storage, form).take(Place(holes, Part(50_000, 400_000, 0)))
    assert found[:2] == ContentReader(storage, form).take(Place(os.fsencode(part)))[:2]


def test_a_part_of_something_else_than_was_opened_is_refused(storage, file):
    path = file(b"archive")
    with pytest.raises(Unpublishable, match="changed since it was opened"):
        ContentReader(storage, StorageForm()).take(Place(path, Part(0, 3, 0, None, archive_mtime_ns=1)))


@pytest.mark.parametrize("size", [0, 100, 3 * 2**20, 40_000])
def test_external_contents_are_hashed_and_not_stored(storage, file, size):
    form = StorageForm(chunking=ChunkSizes(4_096, 8_192, 16_384)).as_external()
    data = _random(size)
    content = ContentReader(storage, form).take(Place(file(data)))
    assert (content.objects, content.stored) == (0, 0)
    assert list(storage.objects()) == []
    pieces = [data[chunk.offset : chunk.offset + chunk.size] for chunk in content.chunks] or [data]
    digests = [chunk.digest for chunk in content.chunks] or [content.digest]
    assert digests == [hashlib.sha1(piece).digest() for piece in pieces]


def test_external_contents_in_compressed_form_are_not_cut():
    form = StorageForm(chunking=ChunkSizes(), bulk=True).as_external("zlib")
    assert (form.compression, form.chunking, form.bulk, form.external) == ("zlib", None, False, True)
    assert StorageForm(chunking=ChunkSizes()).as_external("none").chunking is not None


def test_generated_markers_are_stored_in_external_repositories_too(storage):
    content = ContentReader(storage, StorageForm().as_external()).take(None)
    assert content.objects == 1
