"""Catalog files of one publish: never two under one name, verified before they are opened, gone when they are stored."""

import contextlib
import os
from pathlib import Path

import pytest

from cvfs.catalog.reader import NestedCatalog
from cvfs.catalog.schema import Counters
from cvfs.catalog.writer import CatalogWriter
from cvfs.compression import ZLIB
from cvfs.errors import CorruptObject, MissingObject, StoreFull
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs_server.catalogs.objects import CatalogObjects
from cvfs_server.storage.local import LocalStorage

ROOT = DirectoryEntry(b"", 0o40755, 4096, 1, 0, 0, 0, 2, None, int(Flag.DIRECTORY))


@pytest.fixture
def storage(tmp_path):
    storage = LocalStorage(str(tmp_path / "storage"))
    storage.create()
    return storage


def objects_in(storage, tmp_path, algorithm=Algorithm.SHA1):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return CatalogObjects(storage, str(scratch), algorithm, ZLIB)


def stored_root(objects):
    writer = CatalogWriter.create(objects.new_path(), b"", ROOT)
    writer.finish(7, 1, None, Counters())
    return objects.store(writer.path)


def test_two_users_of_a_scratch_directory_never_get_the_same_name(storage, tmp_path):
    reading, writing = objects_in(storage, tmp_path), objects_in(storage, tmp_path)
    paths = [objects.new_path() for _ in range(5) for objects in (reading, writing)]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_was_stored_is_opened_again(storage, tmp_path, algorithm):
    objects = objects_in(storage, tmp_path, algorithm)
    stored = stored_root(objects)
    assert stored.content.algorithm is algorithm
    assert stored.content.kind is ObjectKind.CATALOG
    catalog = objects.open_catalog(NestedCatalog(b"", stored.content, stored.size, b""))
    assert catalog.revision == 7
    assert catalog.find(b"") == ROOT
    copy = objects.inflate(stored.content)
    assert os.path.getsize(copy) == stored.size
    catalog.close()


def test_nothing_stays_in_scratch_or_staging_area(storage, tmp_path):
    objects = objects_in(storage, tmp_path)
    stored = stored_root(objects)
    objects.open_catalog(NestedCatalog(b"", stored.content, stored.size, b"")).close()
    assert os.listdir(objects.scratch) == []
    assert os.listdir(tmp_path / "storage" / "data" / "txn") == []


def test_a_flipped_bit_is_refused_before_sqlite_sees_it(storage, tmp_path):
    objects = objects_in(storage, tmp_path)
    stored = stored_root(objects)
    place = tmp_path / "storage" / stored.content.path
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(CorruptObject, match="hash"):
        objects.inflate(stored.content)


def test_a_missing_catalog_is_named(storage, tmp_path):
    content = ContentHash(Algorithm.SHA1, bytes(20), ObjectKind.CATALOG)
    with pytest.raises(MissingObject, match=r"data/00/0{38}C"):
        objects_in(storage, tmp_path).inflate(content)


@pytest.mark.parametrize("largest", [0, 2**20])
def test_a_copy_of_an_open_catalog(storage, tmp_path, monkeypatch, largest):
    monkeypatch.setattr("cvfs_server.catalogs.objects._LARGEST_IN_MEMORY", largest)
    objects = objects_in(storage, tmp_path)
    stored = stored_root(objects)
    with contextlib.closing(objects.open_catalog(NestedCatalog(b"", stored.content, stored.size, b""))) as catalog:
        assert catalog.file_size == stored.size
        copies = [Path(objects.copy(catalog, stored.content)) for _ in range(2)]
    assert copies[0] != copies[1]
    assert copies[0].read_bytes() == copies[1].read_bytes() == Path(objects.inflate(stored.content)).read_bytes()


def test_a_copy_needs_room(storage, tmp_path):
    objects = objects_in(storage, tmp_path)
    stored = stored_root(objects)
    with contextlib.closing(objects.open_catalog(NestedCatalog(b"", stored.content, stored.size, b""))) as catalog:
        (tmp_path / "scratch").rmdir()
        with pytest.raises(StoreFull, match="cannot write"):
            objects.copy(catalog, stored.content)
