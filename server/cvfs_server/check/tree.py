"""All catalogs of revisions, from the root or a nested catalog down: each one as its parent names it, and the sums.

Catalogs are looked at by whoever is free, and reported in the order of the tree. One that several revisions share is looked
at once. Source: FORMAT sections 5.9, 5.10, 5.13, 5.14.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.schema import Counters
from cvfs.errors import NotFound
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.store.base import Store
from cvfs_server.check.crew import Crew
from cvfs_server.check.findings import Finding, fault, shown
from cvfs_server.check.inspection import CatalogReport, CatalogTask, CheckKit, inspect_catalog
from cvfs_server.check.objects import inflate
from cvfs_server.check.structure import counter_findings

MAX_CATALOG = 8 * 2**30
_EXTERNAL = int(Flag.EXTERNAL)
_AGREEING = ("name", "mode", "size", "mtime", "mtime_ns", "hardlinks", "symlink", "digest")
# Fewer entries than these are looked at before another process would be there.
_INLINE_ENTRIES = 1000
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Start:
    """Where a walk begins: a catalog, and its row in the catalog above.

    `revision` is the number that a root catalog has to say, None: not compared. `name` is said where something is found.
    """

    top: NestedCatalog
    mountpoint: DirectoryEntry | None = None
    revision: int | None = None
    name: str = ""


def find_start(store: Store, scratch: str, root: Start, subtree: bytes) -> Start:
    """The catalog mounted at `subtree` in the tree that begins at `root`.

    Raises NotFound if it is no mountpoint of a nested catalog, StoreError or FormatError on the way.
    """
    here, entry = root.top, None
    while here.path != subtree:
        path = f"{scratch}/way"
        inflate(store, here.content, path, MAX_CATALOG)
        try:
            with closing(Catalog.open(path, here.path)) as catalog:
                below = [n for n in catalog.nested() if n.root_prefix and _leads_to(n.path, subtree)]
                entry = catalog.find(below[0].path) if below else None
        finally:
            os.unlink(path)
        if not below:
            raise NotFound(f"{shown(subtree)} is no mountpoint of a nested catalog: name one that is")
        here = below[0]
    return Start(here, entry, None if here.path else root.revision, root.name)


class _Place:
    """A catalog's place in one revision; `mountpoint` is its row in the catalog above, if that is to be compared.

    Its report is asked for once. `known` has come with an earlier revision: then nothing below is visited.
    """

    def __init__(self, nested: NestedCatalog, above: "_Place | None", mountpoint: DirectoryEntry | None) -> None:
        self.nested = nested
        self.above = above
        self.mountpoint = mountpoint
        self.wait: Callable[[], CatalogReport] | None = None
        self.known: _Summary | None = None
        self.own: Counters | None = None
        self.below: Counters | None = Counters()
        self.recorded = Counters()
        self.missing: frozenset[str] = frozenset()

    @property
    def key(self) -> NestedCatalog:
        """The same catalog at the same place; the size is what the catalog above says."""
        return NestedCatalog(self.nested.path, self.nested.content, 0, self.nested.root_prefix)


@dataclass(frozen=True, slots=True)
class _Summary:
    """What other revisions need of a catalog that was visited: its own row, its length, the sum of its whole subtree."""

    root: DirectoryEntry | None
    size: int | None
    total: Counters | None


@dataclass(slots=True)
class CatalogWalk:
    """Walks over the catalogs of one revision after the other. `progress` is told of the entries looked at."""

    crew: Crew[CheckKit]
    progress: Callable[[int], None]
    _pending: list[_Place] = field(default_factory=list)
    _places: list[_Place] = field(default_factory=list)
    _paths: set[bytes] = field(default_factory=set)
    _summaries: dict[NestedCatalog, _Summary] = field(default_factory=dict)

    def findings(self, start: Start) -> Iterator[Finding]:
        """Everything that is wrong from there downwards. Raises StoreFull, and StoreError if a process died."""
        self._places, self._paths = [], set()
        self._begin(_Place(start.top, None, start.mountpoint), start.revision)
        while self._pending:
            place = self._pending.pop()
            self._places.append(place)
            yield from _named(start.name, self._visit(place))
        yield from _named(start.name, self._compare_sums())

    def _begin(self, place: _Place, revision: int | None = None) -> None:
        place.known = self._summaries.get(place.key)
        if place.known is None:
            place.wait = self.crew.submit(inspect_catalog, CatalogTask(place.nested, revision))
        self._pending.append(place)

    def _visit(self, place: _Place) -> Iterator[Finding]:
        if place.known is not None:
            yield from _compare_size(place.nested, place.known.size)
            yield from _disagreements(place.nested.path, place.mountpoint, place.known.root)
            return
        assert place.wait is not None
        report = place.wait()
        place.wait = None
        yield from _compare_size(place.nested, report.size)
        yield from report.findings
        yield from _disagreements(place.nested.path, place.mountpoint, report.root)
        self._tell(report.rows)
        place.own, place.recorded, place.missing = report.own, report.below, report.missing
        if place.above is None and report.entries > _INLINE_ENTRIES:
            self.crew.grow()
        self._summaries[place.key] = _Summary(report.root, report.size, None)
        yield from self._plan(place, report)

    def _tell(self, rows: int) -> None:
        for start in range(0, rows, _ROWS_AT_ONCE):
            self.progress(min(_ROWS_AT_ONCE, rows - start))

    def _plan(self, place: _Place, report: CatalogReport) -> Iterator[Finding]:
        """Note what is registered below, in an order that visits it by path."""
        for nested in sorted(report.nested, key=lambda nested: nested.path, reverse=True):
            if nested.path in self._paths:
                # Its own place in the tree is the only one; following both would let catalogs multiply.
                place.own = None
                yield fault(nested.path, "registered a second time as nested catalog: followed once")
                continue
            self._paths.add(nested.path)
            self._begin(_Place(nested, place, report.mountpoints.get(nested.path)))

    def _compare_sums(self) -> Iterator[Finding]:
        """Counters of whole subtrees, from the leaves up; where a catalog could not be counted its ancestors cannot."""
        for place in reversed(self._places):
            if place.known is not None:
                total = place.known.total
            else:
                if place.own is not None and place.below is not None:
                    yield from counter_findings(
                        place.nested.path, "subtree", place.below, place.recorded, place.missing
                    )
                total = _sum(place.own, place.below)
                summary = self._summaries[place.key]
                self._summaries[place.key] = _Summary(summary.root, summary.size, total)
            if place.above is not None:
                place.above.below = _sum(place.above.below, total)


def _named(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield finding._replace(where=f"{name}: {finding.where}") if name else finding


def _sum(*parts: Counters | None) -> Counters | None:
    total = Counters()
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _leads_to(prefix: bytes, path: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


def _compare_size(nested: NestedCatalog, size: int | None) -> Iterator[Finding]:
    if size is not None and nested.size not in {0, size}:
        yield fault(nested.path, f"its catalog has {size} bytes, {nested.size} are recorded")


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
