"""What a storage lists, part by part, and what sizes alone give away."""

import pytest

from cvfs.compression import Compression
from cvfs.errors import StoreFull
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.store.base import Wanted
from cvfs_server.check.inventory import read_inventory, size_trouble, take_inventory

ONE, TWO = "data/00/" + "1" * 38, "data/ff/" + "2" * 38 + "-shake128P"


class Listing:
    def __init__(self, *objects):
        self._objects = objects

    def objects(self, since: float = 0):
        del since
        yield from self._objects


def test_objects_are_found_in_their_part(tmp_path):
    take_inventory(Listing((ONE, 5), (TWO, 0)), str(tmp_path))
    assert read_inventory(str(tmp_path), 0) == {ONE: 5}
    assert read_inventory(str(tmp_path), 255) == {TWO: 0}
    assert read_inventory(str(tmp_path), 7) == {}


@pytest.mark.parametrize("name", ["data/00/\n", "data/0\xe4/x", "data/txn/x", "other/00/x", "data", "data/001/x", ""])
def test_names_that_are_no_objects_are_left_out(tmp_path, name):
    take_inventory(Listing((name, 5), (ONE, 5)), str(tmp_path))
    assert sum(len(read_inventory(str(tmp_path), part)) for part in range(256)) == 1


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(StoreFull, match="cannot list the objects"):
        take_inventory(Listing(), str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("code", "size", "stored", "word"),
    [
        (Compression.ZLIB, 0, 8, None),
        (Compression.ZLIB, 0, 7, "truncated"),
        (Compression.ZLIB, 0, 0, "truncated"),
        (Compression.ZLIB, 10_320_000, 10_008, None),
        (Compression.ZLIB, 10_320_000, 10_007, "truncated"),
        (Compression.ZLIB, 1000, 6000, "more than"),
        (Compression.ZLIB, None, 8, None),
        (Compression.ZLIB, None, 0, "truncated"),
        (Compression.NONE, 1000, 1000, None),
        (Compression.NONE, 1000, 999, "truncated"),
        (Compression.NONE, 1000, 1001, "more than"),
        (Compression.NONE, 0, 0, None),
        (Compression.NONE, None, 0, None),
        (Compression.ZSTD, 10**9, 1, None),
        (Compression.ZSTD, 0, 0, "truncated"),
    ],
)
def test_sizes_that_cannot_be(code, size, stored, word):
    content = ContentHash(Algorithm.SHA1, b"\1" * 20, ObjectKind.FILE)
    trouble = size_trouble(Wanted(content, code, size), stored)
    assert trouble is None if word is None else word in trouble
