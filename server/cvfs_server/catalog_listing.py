"""The catalogs of a revision as a list, each above what is mounted in it; changes nothing.

Source: FORMAT sections 5.9, 5.10.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.hashes import ContentHash
from cvfs_server.repository import PublishedRepository


@dataclass(frozen=True, slots=True)
class ListedCatalog:
    """A catalog, how many catalogs stand above it, the length of its file in bytes, the entries that it holds itself."""

    path: bytes
    level: int
    content: ContentHash
    size: int
    entries: int


def list_catalogs(repository: PublishedRepository, root: ContentHash, scratch: str) -> Iterator[ListedCatalog]:
    """Every catalog below the root catalog `root`, by path. Raises StoreError, FormatError."""
    files = repository.catalogs(scratch)
    pending = [(0, NestedCatalog(b"", root, 0, b""))]
    while pending:
        level, nested = pending.pop()
        path = files.inflate(nested.content)
        try:
            size = os.path.getsize(path)
            with closing(Catalog.open(path, nested.path, nested.root_prefix)) as catalog:
                own, _ = catalog.counters()
                # What a bind mountpoint shows is listed where it lies.
                below = [nested for nested in catalog.nested() if nested.root_prefix]
        finally:
            os.unlink(path)
        yield ListedCatalog(nested.path, level, nested.content, size, own.entries)
        pending += [(level + 1, nested) for nested in sorted(below, key=lambda nested: nested.path, reverse=True)]
