"""Condemned objects deleted in batches, each under a short lock; what was rescued or is kept after all is left out.

Between two batches publishers get their turn. Killed at any moment it is simply done again: what is gone stays gone.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from cvfs.hashes import DIGEST_SIZE, ContentHash
from cvfs_server.gc.condemned import CondemnedList, content_of, read_rescued, sweep_lock
from cvfs_server.gc.inventory import PARTS, Inventory
from cvfs_server.settings import RepositorySettings
from cvfs_server.storage.base import Storage

_AT_ONCE = 1000
_HOLD = 0.1
# Longer than a publisher who waits for the lock sleeps between two looks.
_YIELD = 0.05


class Sweep:
    """One pass over a list. `kept` are digests that are needed after all, `deleted` is told of each object."""

    def __init__(
        self,
        settings: RepositorySettings,
        storage: Storage,
        area: str,
        kept: Inventory,
        deleted: Callable[[ContentHash], None],
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._area = area
        self._kept = kept
        self._deleted = deleted
        self._rescued: set[bytes] = set()
        self._rescued_read = 0
        self.objects = 0

    def run(self, condemned: CondemnedList, between: Callable[[], None] = lambda: None) -> None:
        """Delete what is to be deleted; `between` is called before each batch. Raises StoreError, Locked."""
        for number in range(PARTS):
            kept = self._kept.part(number)
            victims = deque(r for r in condemned.part(number) if r[:DIGEST_SIZE] not in kept)
            while victims:
                between()
                self._batch(victims)
                if _others_at_work(self._settings):
                    time.sleep(_YIELD)

    def rescued(self) -> set[bytes]:
        """What has been rescued so far; the caller holds the sweep lock."""
        records, self._rescued_read = read_rescued(self._area, self._rescued_read)
        self._rescued.update(records)
        return self._rescued

    def _batch(self, victims: deque[bytes]) -> None:
        gone: list[bytes] = []
        with sweep_lock(self._area, "gc"):
            rescued, until = self.rescued(), time.monotonic() + _HOLD
            while victims:
                some = [victims.popleft() for _ in islice(range(_AT_ONCE), len(victims))]
                doomed = [record for record in some if record not in rescued]
                self._storage.discard_many(content_of(record).path for record in doomed)
                gone += doomed
                if time.monotonic() >= until:
                    break
        self.objects += len(gone)
        for record in gone:
            self._deleted(content_of(record))


def _others_at_work(settings: RepositorySettings) -> bool:
    try:
        return bool(os.listdir(f"{settings.spool}/publishers"))
    except FileNotFoundError:
        return False
