"""Garbage collection, top to bottom: mark → condemn → wait → forget → sweep; beside publishers and readers.

Marking holds no lock. Condemning writes a list, under the locks, for a moment. Publishers that began before it are waited
for, later ones know the list and rescue what they need. Whatever this is killed at, the next run finishes the list first.
Source: FORMAT section 10; docs/decisions.md, "Garbage collection beside publishers", says why nothing gets lost.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from cvfs import reflog
from cvfs.durable import sync_directory
from cvfs.errors import UsageError
from cvfs.hashes import DIGEST_SIZE, ContentHash, ObjectKind
from cvfs.reflog import Reflog
from cvfs_server.gc.catalog import CatalogReading
from cvfs_server.gc.condemned import (
    RECORD_SIZE,
    CondemnedList,
    area_of,
    content_of,
    list_path,
    read_rescued,
    record_of,
    rescued_path,
    sweep_lock,
    write_list,
)
from cvfs_server.gc.inventory import PARTS, Inventory
from cvfs_server.gc.orphans import add_orphans, content_at
from cvfs_server.gc.preserved import (
    Keeping,
    Snapshot,
    condemned_roots,
    fetch_reflog,
    mark_preserved,
    take_snapshot,
)
from cvfs_server.gc.sweep import Sweep
from cvfs_server.gc.walk import CatalogWalk
from cvfs_server.lock import publisher_lock
from cvfs_server.publishers import publishing, registry, switching, unaware
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.site import Site
from cvfs_server.state import make_directory, write_state
from cvfs_server.statistics import GcNumbers, record_gc
from cvfs_server.status import read_status, update_status
from cvfs_server.storage.base import Storage
from cvfs_server.storage.choice import storage_of
from cvfs_server.tags.dates import parse_date, print_date

_ATTEMPTS = 2
_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class GcOptions:
    """What is kept, and how to go about it.

    `orphans_before`, a Unix time, also condemns older objects that no revision ever named: what failed publishes left.
    `patience` is how many seconds publishers are waited for that began before the list was written; then it is left to the
    next run. `stage` is told what begins, `deleted` each object, or what a dry run would delete.
    """

    keeping: Keeping
    dry_run: bool = False
    orphans_before: float | None = None
    patience: float = 600
    workers: int | None = None
    stage: Callable[[str], None] = lambda _: None
    deleted: Callable[[ContentHash], None] = lambda _: None
    warn: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was found and done. `condemned` counts the objects of the list, `deleted` those that were not rescued.

    `waits_for` names the publishers because of whom the list is left to the next run.
    """

    preserved_catalogs: int = 0
    condemned_catalogs: int = 0
    condemned: int = 0
    deleted: int = 0
    waits_for: tuple[str, ...] = ()
    statistics: GcNumbers = field(default_factory=GcNumbers)


def collect(site: Site, fqrn: str, options: GcOptions) -> GcReport:
    """Delete what no kept revision needs.

    Raises UsageError where it is not allowed, Locked if it is done already, FormatError or StoreError if something is
    damaged that has to be kept; then nothing was deleted.
    """
    settings, started = load_settings(site, fqrn), time.time()
    if not settings.garbage_collection:
        raise UsageError(
            f"Garbage Collection is not enabled for {fqrn}: CVMFS_GARBAGE_COLLECTION=true in server.conf does it"
        )
    with _collecting(settings) as scratch:
        collection = Collection(site, settings, options, scratch)
        success = False
        try:
            report = collection.run()
            success = True
        finally:
            collection.close()
            if not options.dry_run:
                record_gc(settings, collection.numbers(), started, success=success)
    return replace(report, statistics=collection.numbers())


def collect_if_due(site: Site, fqrn: str, patience: float = 0) -> GcReport | None:
    """What a publish does at its end, when it is no publisher any more: None if there was nothing to do, or no time.

    Source: CVMFS_AUTO_GC, CVMFS_AUTO_GC_LAPSE, CVMFS_AUTO_GC_TIMESPAN, as the original takes them.
    """
    settings, now = load_settings(site, fqrn), time.time()
    if not (settings.garbage_collection and settings.auto_gc):
        return None
    since = parse_date(settings.auto_gc_timespan, now)
    last = read_status(storage_of(settings)).get("last_gc", "")
    if last and _moment(last, now) >= parse_date(settings.auto_gc_lapse, now):
        return None
    return collect(site, fqrn, GcOptions(Keeping(since=since), patience=patience))


def _moment(text: str, now: float) -> int:
    """When that was; at no time, if nobody knows."""
    try:
        return parse_date(text, now)
    except UsageError:
        return 0


@contextlib.contextmanager
def _collecting(settings: RepositorySettings) -> Iterator[str]:
    """Only one at a time; a directory for its work, cleared of what a killed one left. Raises Locked, StoreFull."""
    area = area_of(settings)
    scratch = f"{area}/scratch"
    make_directory(area)
    with publisher_lock(f"{area}/lock", "gc"):
        shutil.rmtree(scratch, ignore_errors=True)
        make_directory(scratch)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class Collection:
    """One run. `marks` are digests that are kept, `candidates` complete records of what might go."""

    def __init__(self, site: Site, settings: RepositorySettings, options: GcOptions, scratch: str) -> None:
        self._site = site
        self._settings = settings
        self._options = options
        self._scratch = scratch
        self._area = area_of(settings)
        self._storage = storage_of(settings)
        self._marks = Inventory(f"{scratch}/marks", DIGEST_SIZE)
        self._candidates = Inventory(f"{scratch}/candidates", RECORD_SIZE)
        reading = CatalogReading(self._storage, scratch, self._marks, complete=False)
        self._preserved = CatalogWalk(reading, options.workers)
        reading = CatalogReading(self._storage, scratch, self._candidates, complete=True)
        self._doomed = CatalogWalk(reading, options.workers, options.warn, self._preserved)
        self._sweep = Sweep(settings, self._storage, self._area, self._marks, options.deleted)
        self._condemned = 0
        self._condemned_bytes: int | None = None

    def close(self) -> None:
        """End the workers."""
        self._preserved.close()
        self._doomed.close()

    def numbers(self) -> GcNumbers:
        """What was done so far, for the statistics."""
        return GcNumbers(self._preserved.catalogs, self._doomed.catalogs, self._condemned, self._condemned_bytes)

    def run(self) -> GcReport:
        """The whole."""
        self._start()
        left = CondemnedList.open(list_path(self._area))
        if left and self._options.dry_run:
            self._candidates.add(left)
        elif left and (waits_for := self._finish_earlier(left)):
            return self._report(waits_for)
        path, snapshot = self._mark()
        if self._options.dry_run:
            self._show(path)
            return self._report()
        condemned = self._condemn(path, snapshot)
        waits_for = self._finish(condemned) if condemned else set()
        if not waits_for:
            self._note_time()
        return self._report(waits_for)

    def _start(self) -> None:
        self._marks.start()
        self._candidates.start()

    def _finish_earlier(self, left: CondemnedList) -> set[str]:
        """Go on with the list of a run that was killed, or did not wait any longer.

        Apart: for that list everything counts that is not on it, which would keep what has become garbage since.
        """
        scratch = f"{self._scratch}/earlier"
        make_directory(scratch)
        earlier = Collection(self._site, self._settings, self._options, scratch)
        try:
            earlier._start()
            return earlier._finish(left)
        finally:
            earlier.close()
            self._sweep.objects += earlier._sweep.objects

    def _report(self, waits_for: set[str] | None = None) -> GcReport:
        catalogs = (self._preserved.catalogs, self._doomed.catalogs)
        return GcReport(*catalogs, self._condemned, self._sweep.objects, tuple(sorted(waits_for or ())))

    def _mark(self) -> tuple[str, Snapshot]:
        """The list that follows from the present state, still without any effect."""
        self._options.stage("mark")
        snapshot = self._snapshot()
        oldest = mark_preserved(snapshot, self._options.keeping, self._preserved)
        roots = list(condemned_roots(snapshot, self._preserved, oldest))
        gone = {content.digest for content in roots}
        self._marks.add(r.content.digest for r in snapshot.references if r.content.digest not in gone)
        self._marks.add(content.digest for content in snapshot.named)
        self._candidates.add(record_of(c.digest, c.algorithm, c.kind) for c in roots)
        self._candidates.add(read_rescued(self._area)[0])
        self._doomed.plan(content for content in roots if content.kind is ObjectKind.CATALOG)
        self._doomed.finish()
        if self._options.orphans_before is not None:
            add_orphans(self._storage, self._options.orphans_before, self._candidates, self._scratch)
        path = f"{self._scratch}/condemned"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._condemned = write_list(path, self._list())
        if self._settings.extended_gc_stats:
            self._condemned_bytes = self._stored_bytes(path)
        return path, snapshot

    def _stored_bytes(self, path: str) -> int:
        """The length of everything on a list; the whole storage has to be listed for that."""
        listed = CondemnedList.open(path)
        sizes = ((content_at(place), size) for place, size in self._storage.objects())
        return sum(size for content, size in sizes if listed and content and _is_listed(listed, content, set()))

    def _snapshot(self) -> Snapshot:
        snapshot = take_snapshot(self._site, self._settings, self._scratch)
        if not snapshot.manifest.garbage_collectable:
            raise UsageError(
                f"the manifest of {self._settings.fqrn} says that nothing may be collected (G): publish first"
            )
        return snapshot

    def _list(self) -> Iterator[bytes]:
        for number in range(PARTS):
            kept = self._marks.part(number)
            yield from sorted(r for r in self._candidates.part(number) if r[:DIGEST_SIZE] not in kept)

    def _show(self, path: str) -> None:
        for record in CondemnedList.open(path) or []:
            self._options.deleted(content_of(record))

    def _condemn(self, path: str, snapshot: Snapshot) -> CondemnedList | None:
        """Put the list in force. What was published since it was made is marked first; at last nobody may publish."""
        self._options.stage("condemn")
        for _ in range(_ATTEMPTS):
            with switching(self._settings, "gc"):
                if self._snapshot() == snapshot:
                    return self._put_in_force(path)
            path, snapshot = self._mark()
        with switching(self._settings, "gc"):
            if self._snapshot() != snapshot:
                path, snapshot = self._mark()
            return self._put_in_force(path)

    def _put_in_force(self, path: str) -> CondemnedList | None:
        """The caller holds `switching`."""
        with registry(self._settings), sweep_lock(self._area, "gc"):
            if self._condemned:
                os.replace(path, list_path(self._area))
                sync_directory(self._area)
            # Not before: what was rescued from the last list is in this one, unless it is kept.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(rescued_path(self._area))
        return CondemnedList.open(list_path(self._area))

    def _finish(self, condemned: CondemnedList) -> set[str]:
        """Delete what a list in force says. Returns the publishers that it has to wait for, or none if it is done."""
        if waits_for := self._wait(condemned.name):
            return waits_for
        self._options.stage("keep")
        self._mark_unlisted(condemned)
        self._options.stage("forget")
        self._forget(condemned)
        self._options.stage("sweep")
        self._sweep.run(condemned, lambda: self._options.stage("batch"))
        self._options.stage("finish")
        with registry(self._settings), sweep_lock(self._area, "gc"):
            os.unlink(list_path(self._area))
        return set()

    def _wait(self, name: str) -> set[str]:
        self._options.stage("wait")
        deadline = time.monotonic() + self._options.patience
        while True:
            with registry(self._settings):
                waits_for = unaware(self._settings, name)
            if not waits_for or time.monotonic() >= deadline:
                return waits_for
            time.sleep(_PAUSE)

    def _mark_unlisted(self, condemned: CondemnedList) -> None:
        """Every root that stays in the reflog is whole afterwards: also those that publishers released meanwhile."""
        snapshot = self._snapshot()
        references = [reference.content for reference in snapshot.references]
        unlisted = [content for content in references if not condemned.matching(content.digest)]
        self._marks.add(content.digest for content in (*unlisted, *snapshot.named))
        self._preserved.plan(content for content in unlisted if content.kind is ObjectKind.CATALOG)
        self._preserved.plan(snapshot.roots)
        self._preserved.finish()

    def _forget(self, condemned: CondemnedList) -> None:
        """Take the condemned roots out of the reflog; the manifest's digest of it is stale until the next publish."""
        path = f"{self._scratch}/reflog"
        with publishing(self._settings, "gc") as publisher, sweep_lock(self._area, "gc"):
            snapshot, rescued = self._snapshot(), self._sweep.rescued()
            needed = {content.digest for content in (*snapshot.named, *snapshot.roots)}
            gone = [
                reference.content
                for reference in snapshot.references
                if _is_listed(condemned, reference.content, rescued) and reference.content.digest not in needed
            ]
            if gone:
                fetch_reflog(self._storage, path)
                self._replace_reflog(path, gone, publisher.storage)
                os.unlink(path)

    def _replace_reflog(self, path: str, gone: list[ContentHash], storage: Storage) -> None:
        with Reflog.open(path) as log:
            log.remove(gone)
            log.compact()
        digest = reflog.digest(path, self._settings.algorithm)
        with open(path, "rb") as file:
            storage.replace(reflog.NAME, file.read())
        write_state(f"{self._settings.spool}/reflog.chksum", str(digest).encode())

    def _note_time(self) -> None:
        with publishing(self._settings, "gc") as publisher:
            update_status(publisher.storage, last_gc=print_date(time.time()))


def _is_listed(condemned: CondemnedList, content: ContentHash, rescued: set[bytes]) -> bool:
    record = record_of(content.digest, content.algorithm, content.kind)
    return record in condemned.matching(content.digest) and record not in rescued
