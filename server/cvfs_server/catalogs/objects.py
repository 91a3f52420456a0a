"""Catalogs of a repository as files: fetched, verified and inflated into a scratch directory, compressed and stored again.

Never looks at a row. What it inflates belongs to one publish and vanishes with the scratch directory.
Source: FORMAT sections 5.1, 5.13.
"""

import contextlib
import itertools
import os
from dataclasses import dataclass

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.compression import Compression, Encoder
from cvfs.errors import StoreFull
from cvfs.hashes import Algorithm, ContentHash, ObjectKind, new_hasher
from cvfs.store.base import Wanted
from cvfs.store.verified import Verified
from cvfs_server.storage.base import Storage

MAX_CATALOG = 8 * 2**30
_STEP = 2**20
_LARGEST_IN_MEMORY = 32 * 2**20
# Shared by all users of a scratch directory: a reader's copy must not take the place of a file that is being written.
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """A catalog as its parent or the manifest names it; `size` is that of the file in bytes, not compressed."""

    content: ContentHash
    size: int


@dataclass(frozen=True, slots=True)
class CatalogObjects:
    """Catalogs in a storage; `scratch` is a directory of the caller's. A `CatalogSource`."""

    storage: Storage
    scratch: str
    algorithm: Algorithm
    encoder: Encoder

    def open_catalog(self, nested: NestedCatalog, *, wait: bool = True) -> Catalog:
        """The verified catalog, attached at `nested.path`. Raises StoreError if it cannot be had."""
        del wait
        path = self.inflate(nested.content)
        try:
            return Catalog.open(path, nested.path, nested.root_prefix)
        finally:
            # An open file needs no name.
            os.unlink(path)

    def renew(self, nested: NestedCatalog) -> None:
        """Nothing: what is in the storage is all there is."""

    def inflate(self, content: ContentHash) -> str:
        """A private copy of a catalog's file: its path. Raises StoreError if it cannot be had or kept."""
        path = self.new_path()
        wanted = Wanted(content.as_kind(ObjectKind.CATALOG), Compression.ZLIB, None)
        try:
            with open(path, "wb") as file, contextlib.closing(Verified(self.storage).read(wanted)) as pieces:
                file.writelines(pieces)
        except OSError as error:
            raise StoreFull(f"cannot write {path}: {error.strerror}") from error
        return path

    def copy(self, catalog: Catalog, content: ContentHash) -> str:
        """A private copy of the file of a catalog that is open, whose hash is `content`: its path. Raises as `inflate`."""
        if catalog.file_size > _LARGEST_IN_MEMORY:
            return self.inflate(content)
        path = self.new_path()
        try:
            with open(path, "wb") as file:
                file.write(catalog.content())
        except OSError as error:
            raise StoreFull(f"cannot write {path}: {error.strerror}") from error
        return path

    def new_path(self) -> str:
        """Where a new catalog file may be made."""
        return f"{self.scratch}/{next(_numbers)}"

    def store(self, path: str) -> StoredCatalog:
        """Compress and store a finished file, which is removed. Raises StoreFull."""
        compressor, hasher = self.encoder.start(), new_hasher(self.algorithm)
        upload = self.storage.start_upload()
        try:
            with open(path, "rb") as file:
                while data := file.read(_STEP):
                    stored = compressor.compress(data)
                    hasher.update(stored)
                    upload.write(stored)
                size = file.tell()
            rest = compressor.flush()
            hasher.update(rest)
            upload.write(rest)
            content = ContentHash(self.algorithm, hasher.digest(), ObjectKind.CATALOG)
            upload.commit(content.path)
        finally:
            upload.abort()
        os.unlink(path)
        return StoredCatalog(content, size)
