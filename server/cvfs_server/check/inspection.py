"""One catalog of a store against the rules of the format, as a task: fetched, inflated, looked at; never follows another.

What a task brings back is bounded: of a catalog full of faults the first thousand are told. Source: FORMAT section 5.14.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.catalog.database import ForeignDatabase
from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.schema import Counters
from cvfs.errors import FormatError, StoreError, StoreFull
from cvfs.format.dirent import DirectoryEntry
from cvfs.store.base import Store
from cvfs_server.check.catalog import CatalogCheck
from cvfs_server.check.findings import Finding, fault, shown
from cvfs_server.check.inventory import Listed, take_inventory
from cvfs_server.check.objects import ObjectCheck, PartResult, inflate
from cvfs_server.check.references import References

MAX_CATALOG = 8 * 2**30
_MOST_FINDINGS = 1000
_numbers = itertools.count()


class CatalogTask(NamedTuple):
    """A catalog that is to be looked at, and the number that it has to say as a root catalog, None: not compared."""

    nested: NestedCatalog
    revision: int | None


@dataclass(slots=True)
class CatalogReport:
    """What was found. `size` is the length of its file, None if there was none; `own` None if it could not be counted.

    `entries` is what it says of itself and everything below, which nobody has checked yet; `mountpoints` are the rows of
    nested catalogs' mountpoints by path.
    """

    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    entries: int = 0
    size: int | None = None
    root: DirectoryEntry | None = None
    nested: list[NestedCatalog] = field(default_factory=list)
    mountpoints: dict[bytes, DirectoryEntry] = field(default_factory=dict)
    own: Counters | None = None
    below: Counters = field(default_factory=Counters)
    missing: frozenset[str] = frozenset()

    def count(self, rows: int) -> None:
        """So many more rows have been looked at."""
        self.rows += rows


@dataclass(frozen=True, slots=True)
class CheckKit:
    """What every process of a check has. `references` is None where objects are not asked for."""

    store: Store
    scratch: str
    references: References | None
    objects: ObjectCheck

    def let_go(self) -> None:
        """Each process writes references to files of its own."""
        if self.references is not None:
            self.references.close()


def inspect_catalog(kit: CheckKit, task: CatalogTask) -> CatalogReport:
    """Look at one catalog. Raises StoreFull, FormatError where this machine lacks a hash."""
    report = CatalogReport()
    findings = _inspect(kit, task, report)
    report.findings += itertools.islice(findings, _MOST_FINDINGS)
    if more := sum(1 for _ in findings):
        report.findings.append(fault(task.nested.path, f"its catalog has {more} more faults, which are not told"))
    if kit.references is not None:
        kit.references.flush()
    return report


def check_part(kit: CheckKit, part: int) -> PartResult:
    """Look at the objects of one part."""
    return kit.objects.check_part(part)


def list_objects(kit: CheckKit, directory: str) -> None:
    """Write down what the storage holds, which has to be one that can tell."""
    assert isinstance(kit.store, Listed)
    take_inventory(kit.store, directory)


def _inspect(kit: CheckKit, task: CatalogTask, report: CatalogReport) -> Iterator[Finding]:
    nested, path = task.nested, f"{kit.scratch}/{os.getpid()}.{next(_numbers)}"
    try:
        report.size = inflate(kit.store, nested.content, path, MAX_CATALOG)
    except StoreFull:
        raise
    except StoreError as error:
        yield fault(nested.path, f"its catalog cannot be had: {error}")
        return
    try:
        yield from _open(kit, task, path, report)
    finally:
        os.unlink(path)


def _open(kit: CheckKit, task: CatalogTask, path: str, report: CatalogReport) -> Iterator[Finding]:
    nested = task.nested
    try:
        catalog = Catalog.open(path, nested.path, nested.root_prefix)
    except FormatError as error:
        yield fault(nested.path, f"its catalog cannot be opened: {error}")
        return
    database = ForeignDatabase.open(path, f"the catalog at {shown(nested.path)}")
    with closing(catalog), closing(database):
        yield from _check_properties(catalog, task.revision)
        with contextlib.suppress(FormatError):  # which the check itself will tell
            report.entries = sum(counters.entries for counters in catalog.counters())
        check = CatalogCheck(catalog, database, kit.references, report.count)
        yield from check.findings()
    report.root, report.own, report.below, report.missing = check.root, check.own, check.below, check.missing
    report.nested = check.nested
    wanted = {nested.path for nested in check.nested}
    report.mountpoints = {path: entry for path, entry in check.mountpoints.items() if path in wanted}


def _check_properties(catalog: Catalog, expected: int | None) -> Iterator[Finding]:
    try:
        revision, _, _, _ = catalog.revision, catalog.last_modified, catalog.ttl, catalog.previous_revision
    except FormatError as error:
        yield fault(catalog.mountpoint, f"its catalog's properties: {error}")
        return
    if not catalog.mountpoint and expected not in {None, revision}:
        yield fault(b"", f"the root catalog says revision {revision}, it was published as {expected}")
