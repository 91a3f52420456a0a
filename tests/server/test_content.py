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
from cvfs_server import content
from cvfs_server.content import ContentReader, StorageForm
from cvfs_server.sources.base import Place

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
        self.read = os.read

    def __call__(self, descriptor, count):
        if self.times:
            self.times -= 1
            self.change(self.path, self.times)
        return self.read(descriptor, count)


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
    monkeypatch.setattr(os, "read", Meddler(path, 2, change))
    taken = ContentReader(storage, StorageForm()).take(Place(path))
    monkeypatch.undo()
    now = Path(os.fsdecode(path)).read_bytes()
    assert taken.size == len(now)
    assert taken.mtime_ns == os.stat(path).st_mtime_ns
    assert zlib.decompress(_stored(storage, taken.digest, ObjectKind.FILE)) == now
    assert not os.listdir(f"{storage.base}/data/txn")


def test_a_file_that_never_holds_still_is_refused(storage, file, monkeypatch):
    path = file(_random(100))
    monkeypatch.setattr(os, "read", Meddler(path, -1, _append))
    with pytest.raises(Unpublishable, match="changed while it was read, 3 times"):
        ContentReader(storage, StorageForm()).take(Place(path))
