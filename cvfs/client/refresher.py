"""Follows the repository: after its time to live a mount asks for a newer revision, and shows it if there is one.

Works in a thread of its own. If anything fails the mount goes on with the revision it has, says so, and tries again later;
it never trusts anything by itself, and never gives up.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cvfs.client.manifest_fetch import Revision, newest_revision
from cvfs.client.repository import Repository
from cvfs.client.schedule import Schedule
from cvfs.client.settings import Settings
from cvfs.client.succession import Kernel, Succession
from cvfs.client.volume import Volume
from cvfs.errors import CvfsError, Locked, TrustError, Unreachable
from cvfs.hashes import ContentHash

log = logging.getLogger(__name__)

# How long one check waits for another one to end.
PATIENCE = 10.0
_DAY = 86400.0
# A thread that wakes in vain must not spin.
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """How the last check for a new revision went. Times in Unix seconds; `trouble` is empty if all is well.

    `offline_since` is when checks began to find no server at all; None as soon as one answers, whatever it says.
    """

    checked: float
    succeeded: float
    trouble: str = ""
    offline_since: float | None = None


class Refresher:
    """Keeps `volume` at the newest revision."""

    def __init__(
        self,
        volume: Volume,
        kernel: Kernel,
        fetch: Callable[[Repository], Repository | None],
        clock: Callable[[], float] = time.time,
        schedule: Schedule | None = None,
    ) -> None:
        self._volume = volume
        self._fetch = fetch
        self._clock = clock
        self._succession = Succession(volume, kernel)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._stopped = False
        self._reminded = 0.0
        repository = volume.repository
        self._schedule = schedule or Schedule(repository.tree.root().ttl, repository.settings.max_ttl)
        self.freshness = Freshness(clock(), clock())
        if repository.revision.trouble:
            since = clock() if repository.revision.offline else None
            self.freshness = Freshness(clock(), 0.0, repository.revision.trouble, since)
            self._schedule.failed()

    @property
    def due(self) -> float:
        """When the next check is made, in Unix seconds; far away while `held`."""
        return self._clock() + self._schedule.remaining()

    @property
    def held(self) -> bool:
        """No check is made until somebody asks for one: `show` was called."""
        return self._schedule.held

    @property
    def max_ttl(self) -> float | None:
        """No time to live counts for longer than this, in seconds; None for no such limit."""
        return self._schedule.max_ttl

    def set_max_ttl(self, seconds: float | None) -> None:
        """Another limit, from now on."""
        self._schedule.limit(seconds or None)
        self._wake.set()

    def start(self) -> None:
        """Start the thread."""
        self._remind()
        threading.Thread(target=self._run, name="refresher", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end; does not wait for it."""
        self._stopped = True
        self._wake.set()

    def refresh(self) -> bool:
        """Check now. True if a new revision is shown.

        Raises CvfsError if that fails: the present revision stays, and `freshness` tells of it. Raises Locked if another
        check is still under way after `PATIENCE`.
        """
        with self._alone():
            now = self._clock()
            try:
                newer = self._fetch(self._volume.repository)
                if newer is not None:
                    self._succession.replace(newer)
                self._note_success(now)
            except Exception as error:
                self._note_failure(now, error)
                raise
            if newer is not None:
                log.info("%s: revision %d is shown now", newer.settings.fqrn, newer.number)
            return newer is not None

    def show(self, root: ContentHash) -> None:
        """Show this root catalog, unverified but for its hash, and stay there until `refresh` is called.

        Raises CvfsError and changes nothing if it cannot be had, Locked if a check is under way.
        """
        with self._alone():
            current = self._volume.repository
            if root != current.revision.root_hash:
                self._succession.replace(_opened(current, Revision(root)))
            self._schedule.hold()
            log.warning("%s: root catalog %s is shown by request, new revisions are not", current.settings.fqrn, root)

    def reload(self, settings: Settings) -> None:
        """Obey other settings (keys, blacklists, limits, time to live) from the next check on, which is due now.

        What a mount is made of, as cache, servers and view, is not changed here. Raises Locked if a check is under way.
        """
        with self._alone():
            self._volume.repository.settings = settings
            self._schedule.limit(settings.max_ttl)
            if not self.held and not settings.pinned:
                self._schedule.hurry()
        self._wake.set()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=PATIENCE):
            raise Locked(f"{self._volume.repository.settings.fqrn}: a check for a new revision is under way, ask again")
        try:
            yield
        finally:
            self._lock.release()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(max(_PAUSE, self._schedule.remaining()))
            self._wake.clear()
            if not self._stopped and not self._schedule.remaining():
                self._attempt()

    def _attempt(self) -> None:
        try:
            self.refresh()
        except Exception as error:
            # Whatever went wrong was noted and logged where it did; the thread has to live.
            log.debug("the check that was due ended with %r", error)

    def _note_success(self, now: float) -> None:
        if self.freshness.trouble:
            log.warning("%s: follows the repository again", self._volume.repository.settings.fqrn)
        self.freshness = Freshness(now, now)
        self._schedule.succeeded(self._volume.repository.tree.root().ttl)
        self._remind()

    def _note_failure(self, now: float, error: Exception) -> None:
        before = self.freshness
        trouble = str(error) if isinstance(error, CvfsError) else f"{type(error).__name__}: {error}"
        since = (before.offline_since or now) if isinstance(error, Unreachable) else None
        self.freshness = Freshness(now, before.succeeded, trouble, since)
        self._schedule.failed()
        # Said once, not every few minutes for as long as it lasts.
        repeated = trouble == before.trouble
        level = logging.ERROR if isinstance(error, TrustError) else logging.WARNING
        log.log(
            logging.DEBUG if repeated else level,
            "no new revision, going on with the present one: %s; next attempt in %d s",
            trouble,
            self._schedule.remaining(),
            exc_info=None if isinstance(error, CvfsError) else error,
        )

    def _remind(self) -> None:
        """A whitelist that is about to expire ends every update: say so in time, once a day."""
        repository, now = self._volume.repository, self._clock()
        days = repository.revision.whitelist_days(now)
        if days is None or days >= repository.settings.trust.whitelist_warn_days or now - self._reminded < _DAY:
            return
        self._reminded = now
        log.warning("%s: the whitelist expires in %d days, it must be signed anew", repository.settings.fqrn, days)


def newer_revision(current: Repository) -> Repository | None:
    """The repository at its newest revision, None if that is the one at hand. Raises TrustError, StoreError."""
    revision = newest_revision(current.settings, current.plane)
    if revision.root_hash == current.revision.root_hash:
        # The whitelist may have been signed anew.
        current.revision = revision
        return None
    return _opened(current, revision)


def _opened(current: Repository, revision: Revision) -> Repository:
    """Refused whole, before anything is shown: the thread that follows goes by the numbers of the root catalog."""
    newer = current.at(revision)
    try:
        newer.tree.root().check_numbers()
    except BaseException:
        newer.retire()
        raise
    return newer
