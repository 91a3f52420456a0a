"""All catalogs of a revision, from the root or a nested catalog down: each one as its parent names it, and the sums.

Catalogs are inflated into a scratch directory one at a time. Source: FORMAT sections 5.9, 5.10, 5.13, 5.14.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from cvfs.catalog.database import ForeignDatabase
from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.schema import Counters
from cvfs.errors import FormatError, NotFound, StoreError, StoreFull
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.store.base import Store
from cvfs_server.check.catalog import CatalogCheck, Progress
from cvfs_server.check.findings import Finding, fault, shown
from cvfs_server.check.objects import References, inflate
from cvfs_server.check.structure import counter_findings

MAX_CATALOG = 8 * 2**30
_EXTERNAL = int(Flag.EXTERNAL)
_AGREEING = ("name", "mode", "size", "mtime", "mtime_ns", "hardlinks", "symlink", "digest")


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A catalog's private copy on this machine and its length in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class CatalogFiles:
    """Catalogs of a store as files in the directory `scratch`."""

    store: Store
    scratch: str
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def fetch(self, nested: NestedCatalog) -> CatalogFile:
        """A private copy; the caller removes it. Raises StoreError."""
        path = f"{self.scratch}/{next(self._numbers)}"
        return CatalogFile(path, inflate(self.store, nested.content, path, MAX_CATALOG))

    def find(self, root: NestedCatalog, mountpoint: bytes) -> tuple[NestedCatalog, DirectoryEntry | None]:
        """The catalog mounted at a path, and the row of the path in the catalog above.

        Raises NotFound if the path is no mountpoint of a nested catalog, StoreError or FormatError on the way.
        """
        here, entry = root, None
        while here.path != mountpoint:
            file = self.fetch(here)
            try:
                with closing(Catalog.open(file.path, here.path)) as catalog:
                    below = [n for n in catalog.nested() if n.root_prefix and _leads_to(n.path, mountpoint)]
                    entry = catalog.find(below[0].path) if below else None
            finally:
                os.unlink(file.path)
            if not below:
                raise NotFound(f"{shown(mountpoint)} is no mountpoint of a nested catalog: name one that is")
            here = below[0]
        return here, entry


class _Visit:
    """A catalog's place in the walk; `mountpoint` is its row in the catalog above, if that is to be compared."""

    def __init__(self, nested: NestedCatalog, above: "_Visit | None", mountpoint: DirectoryEntry | None) -> None:
        self.nested = nested
        self.above = above
        self.mountpoint = mountpoint
        self.own: Counters | None = None
        self.recorded = Counters()
        self.missing: frozenset[str] = frozenset()
        self.below: Counters | None = Counters()


class CatalogWalk:
    """One walk over the catalogs of a revision. `revision` is what the root catalog has to say, None: not compared."""

    def __init__(
        self, files: CatalogFiles, references: References | None, progress: Progress, revision: int | None
    ) -> None:
        self._files = files
        self._references = references
        self._progress = progress
        self._revision = revision
        self._pending: list[_Visit] = []
        self._visits: list[_Visit] = []
        self._known: set[bytes] = set()

    def findings(self, top: NestedCatalog, mountpoint: DirectoryEntry | None) -> Iterator[Finding]:
        """Everything that is wrong from the catalog `top` downwards. Raises StoreFull."""
        self._pending.append(_Visit(top, None, mountpoint))
        while self._pending:
            visit = self._pending.pop()
            self._visits.append(visit)
            yield from self._visit(visit)
        yield from self._compare_sums()

    def _visit(self, visit: _Visit) -> Iterator[Finding]:
        nested = visit.nested
        try:
            file = self._files.fetch(nested)
        except StoreFull:
            raise
        except StoreError as error:
            yield fault(nested.path, f"its catalog cannot be had: {error}")
            return
        try:
            if nested.size not in {0, file.size}:
                yield fault(nested.path, f"its catalog has {file.size} bytes, {nested.size} are recorded")
            yield from self._open(visit, file)
        finally:
            os.unlink(file.path)

    def _open(self, visit: _Visit, file: CatalogFile) -> Iterator[Finding]:
        nested = visit.nested
        try:
            catalog = Catalog.open(file.path, nested.path, nested.root_prefix)
        except FormatError as error:
            yield fault(nested.path, f"its catalog cannot be opened: {error}")
            return
        database = ForeignDatabase.open(file.path, f"the catalog at {shown(nested.path)}")
        with closing(catalog), closing(database):
            yield from self._check_properties(catalog)
            check = CatalogCheck(catalog, database, self._references, self._progress)
            yield from check.findings()
        yield from _disagreements(nested.path, visit.mountpoint, check.root)
        visit.own, visit.recorded, visit.missing = check.own, check.below, check.missing
        yield from self._plan(visit, check)

    def _check_properties(self, catalog: Catalog) -> Iterator[Finding]:
        try:
            revision, _, _, _ = catalog.revision, catalog.last_modified, catalog.ttl, catalog.previous_revision
        except FormatError as error:
            yield fault(catalog.mountpoint, f"its catalog's properties: {error}")
            return
        if not catalog.mountpoint and self._revision not in {None, revision}:
            yield fault(b"", f"the root catalog says revision {revision}, it was published as {self._revision}")

    def _plan(self, visit: _Visit, check: CatalogCheck) -> Iterator[Finding]:
        """Note what is registered below, in an order that visits it by path."""
        for nested in sorted(check.nested, key=lambda nested: nested.path, reverse=True):
            if nested.path in self._known:
                # Its own place in the tree is the only one; following both would let catalogs multiply.
                visit.own = None
                yield fault(nested.path, "registered a second time as nested catalog: followed once")
                continue
            self._known.add(nested.path)
            self._pending.append(_Visit(nested, visit, check.mountpoints.get(nested.path)))

    def _compare_sums(self) -> Iterator[Finding]:
        """Counters of whole subtrees, from the leaves up; where a catalog could not be counted its ancestors cannot."""
        for visit in reversed(self._visits):
            if visit.own is not None and visit.below is not None:
                yield from counter_findings(visit.nested.path, "subtree", visit.below, visit.recorded, visit.missing)
            if visit.above is not None:
                visit.above.below = _sum(visit.above.below, visit.own, visit.below)


def _sum(*parts: Counters | None) -> Counters | None:
    total = Counters()
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _leads_to(prefix: bytes, path: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


def _disagreements(path: bytes, above: DirectoryEntry | None, below: DirectoryEntry | None) -> Iterator[Finding]:
    """How the two rows of a mountpoint differ (section 5.10)."""
    if above is None or below is None:
        return
    differing = [name for name in _AGREEING if getattr(above, name) != getattr(below, name)]
    if (above.xattr is None) != (below.xattr is None):
        differing.append("presence of extended attributes")
    if (above.flags ^ below.flags) & _EXTERNAL:
        differing.append("external flag")
    if differing:
        yield fault(path, f"its rows in the nested catalog and in the one above differ in: {', '.join(differing)}")
