"""Follows the repository: after its time to live a mount fetches, trusts, compares, switches, and tells the kernel.

Works in a thread of its own. If anything fails the mount goes on with the revision it has, and tries again later.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cvfs.catalog.diff import Difference, directory_differences
from cvfs.client.inodes import ROOT, Node
from cvfs.client.manifest_fetch import fetch_revision
from cvfs.client.repository import Repository
from cvfs.client.volume import Volume, keeps_number
from cvfs.errors import CvfsError, TrustError, Unreachable
from cvfs.hashes import parent_path

log = logging.getLogger(__name__)

RETRY_AFTER = 180.0
_SETTLE = 10.0
# Whatever a catalog says, servers are not hammered, and a mistake does not last for ever.
_SHORTEST = 10
_LONGEST = 7 * 86400
_ATTEMPTS = 3


class Kernel(Protocol):
    """The mount's side that remembers: what it was told has to be taken back."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Forget a name, negative or not, and what lies beneath it."""

    def invalidate_inode(self, ino: int, *, data: bool) -> None:
        """Forget the attributes of a number, and its pages or cached listing too if `data`."""

    def settle(self, timeout: float) -> bool:
        """Wait until every request that is being answered now has been answered."""

    def flush_notifications(self, timeout: float) -> bool:
        """Wait until the kernel has been told everything so far."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How the last check for a new revision went. Times in Unix seconds; `trouble` is empty if all is well."""

    checked: float
    succeeded: float
    trouble: str = ""


class Refresher:
    """Keeps `volume` at the newest revision."""

    def __init__(
        self,
        volume: Volume,
        kernel: Kernel,
        fetch: Callable[[Repository], Repository | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._volume = volume
        self._kernel = kernel
        self._fetch = fetch
        self._clock = clock
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._stopped = False
        self.freshness = Freshness(clock(), clock())
        self.due = clock() + self._interval()
        if volume.repository.revision.offline:
            self.freshness = Freshness(clock(), 0.0, "no server answered: the last verified revision is shown")
            self.due = clock() + min(RETRY_AFTER, self._interval())

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="refresher", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end; does not wait for it."""
        self._stopped = True
        self._wake.set()

    def refresh(self) -> bool:
        """Check now. True if a new revision is shown. Raises CvfsError and changes nothing if that fails."""
        with self._lock:
            current = self._volume.repository
            newer = self._fetch(current)
            if newer is None:
                return False
            try:
                differences = self._switch(current, newer)
            except BaseException:
                newer.retire()
                raise
            self._tell(differences)
            self._kernel.flush_notifications(_SETTLE)
            current.retire()
            log.info("%s: revision %d is shown now", newer.settings.fqrn, newer.number)
            return True

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(max(1.0, self.due - self._clock()))
            if not self._stopped and self._clock() >= self.due:
                self._attempt()

    def _attempt(self) -> None:
        now = self._clock()
        try:
            self.refresh()
        except CvfsError as error:
            level = logging.ERROR if isinstance(error, TrustError) else logging.WARNING
            log.log(level, "no new revision, going on with the present one: %s", error)
            self.freshness = Freshness(now, self.freshness.succeeded, str(error))
            self.due = self._clock() + min(RETRY_AFTER, self._interval())
        except Exception as error:
            log.exception("the check for a new revision failed")
            self.freshness = Freshness(now, self.freshness.succeeded, f"{type(error).__name__}: {error}")
            self.due = self._clock() + RETRY_AFTER
        else:
            self.freshness = Freshness(now, now)
            self.due = self._clock() + self._interval()

    def _interval(self) -> float:
        repository = self._volume.repository
        ttl = repository.tree.root().ttl
        return float(max(_SHORTEST, min(ttl, repository.settings.max_ttl or ttl, _LONGEST)))

    def _switch(self, current: Repository, newer: Repository) -> list[Difference]:
        """Compare what the kernel may know, then show the new revision; all or nothing."""
        differences: list[Difference] = []
        compared: set[bytes] = set()
        for attempt in range(_ATTEMPTS):
            directories = self._not_compared(compared)
            differences += _differences(current, newer, directories)
            compared.update(node.path for node in directories)
            self._volume.remember(differences)
            # What was learned while we compared has to be compared too. A walk that never ends must not keep us for ever.
            if self._volume.switch(newer, differences, compared, force=attempt == _ATTEMPTS - 1):
                break
        self._kernel.settle(_SETTLE)
        return differences + self._catch_up(current, newer, self._not_compared(compared))

    def _not_compared(self, compared: set[bytes]) -> list[Node]:
        return [node for node in self._volume.known_directories() if node.path not in compared]

    def _catch_up(self, current: Repository, newer: Repository, late: list[Node]) -> list[Difference]:
        """Directories that the kernel learned of just before the switch, or since."""
        try:
            differences = _differences(current, newer, late)
        except CvfsError as error:
            log.warning("%d directories are forgotten, since they cannot be compared: %s", len(late), error)
            differences = [Difference(node.path, node.entry, None) for node in late]
        self._volume.follow(differences)
        return differences

    def _tell(self, differences: list[Difference]) -> None:
        self._kernel.invalidate_inode(ROOT, data=False)
        relisted: set[bytes] = set()
        for difference in differences:
            parent, name = parent_path(difference.path), difference.path.rpartition(b"/")[2]
            number = self._volume.number_of(difference.path)
            if keeps_number(difference.old, difference.new) and number is not None:
                self._kernel.invalidate_inode(number, data=False)
                continue
            where = self._volume.number_of(parent)
            if where is not None:
                self._kernel.invalidate_entry(where, name)
                relisted.add(parent)
        # Dropping an entry drops the cached listing only if the entry was cached itself: say it for each directory.
        for parent in relisted:
            where = self._volume.number_of(parent)
            if where is not None:
                self._kernel.invalidate_inode(where, data=True)


def newer_revision(current: Repository) -> Repository | None:
    """The repository at its newest revision, None if that is the one at hand. Raises TrustError, StoreError."""
    revision = fetch_revision(current.settings, current.plane)
    if revision.offline:
        raise Unreachable(f"{current.settings.fqrn}: no server answers")
    if revision.root_hash == current.revision.root_hash:
        return None
    newer = current.at(revision)
    # Refused whole, before anything is shown: the thread that follows goes by these numbers.
    newer.tree.root().check_numbers()
    return newer


def _differences(old: Repository, new: Repository, directories: list[Node]) -> list[Difference]:
    found: list[Difference] = []
    for node in directories:
        if old.tree.governing(node.path) != new.tree.governing(node.path):
            found += directory_differences(old.tree, new.tree, node.path)
    return found
