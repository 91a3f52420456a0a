"""Which directories of two revisions may differ: one pass over the two catalogs, instead of a query for each directory.

A hint that errs on one side only: what is called untouched lists the same on both sides, and so does everything below.
Source: FORMAT sections 5.2, 5.3, 5.10.
"""

import itertools
from collections.abc import Hashable, Iterable
from typing import TypeVar

from cvfs.catalog.reader import Catalog
from cvfs.catalog.tree import CatalogTree
from cvfs.hashes import path_hash

_Key = tuple[int, int]
_Item = TypeVar("_Item", bound=Hashable)


class TouchedDirectories:
    """Between two revisions. Used by one thread."""

    def __init__(self, old: CatalogTree, new: CatalogTree) -> None:
        self._old = old
        self._new = new
        self._touched: dict[bytes, set[_Key]] = {}

    def may_differ(self, path: bytes) -> bool:
        """Whether anything in or below the directory `path` may differ. Raises StoreError if a catalog cannot be had."""
        old, new = self._old.governing(path), self._new.governing(path)
        if (old.path, old.root_prefix) != (new.path, new.root_prefix):
            return True
        if old.content == new.content:
            return False
        if path == old.path:
            return True
        if old.path not in self._touched:
            self._touched[old.path] = _touched(self._old.catalog_at(old.path), self._new.catalog_at(old.path))
        return path_hash(new.root_prefix + path[len(new.path) :]) in self._touched[old.path]


def _touched(old: Catalog, new: Catalog) -> set[_Key]:
    """The hashes of the paths of directories in which something differs, and of all directories above them."""
    parents = {**old.parents(), **new.parents()}
    found = {row[2:4] for row in _unmatched(old.plain_rows(), new.plain_rows())}
    chunks = _unmatched(([row] for row in old.chunk_rows()), ([row] for row in new.chunk_rows()))
    found |= {parents[key] for key, _ in chunks if key in parents}
    before = {(nested.path, nested.content) for nested in old.nested()}
    after = {(nested.path, nested.content) for nested in new.nested()}
    found |= {path_hash(new.root_prefix + path[len(new.mountpoint) :]) for path, _ in before ^ after}
    return _with_ancestors(found, parents)


def _unmatched(old: Iterable[list[_Item]], new: Iterable[list[_Item]]) -> set[_Item]:
    """What only one of two streams has. What both have comes at about the same time, so that little is remembered."""
    left: set[_Item] = set()
    right: set[_Item] = set()
    nothing: list[_Item] = []
    for before, after in itertools.zip_longest(old, new, fillvalue=nothing):
        if before != after:
            left.update(before)
            right.update(after)
            both = left & right
            left -= both
            right -= both
    return left | right


def _with_ancestors(found: Iterable[_Key], parents: dict[_Key, _Key]) -> set[_Key]:
    touched: set[_Key] = set()
    for key in found:
        step: _Key | None = key
        while step is not None and step not in touched:
            touched.add(step)
            step = parents.get(step)
    return touched
