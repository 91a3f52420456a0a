"""One revision after another: compares what the kernel may know, switches the volume in one step, tells the kernel.

Until the switch anything may fail, and then nothing has changed; after it nothing is given up: what cannot be compared any
more is forgotten. It never looks for a revision by itself.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from cvfs.catalog.diff import Difference, directory_differences
from cvfs.client.inodes import ROOT, Node
from cvfs.client.repository import Repository
from cvfs.client.volume import Volume, keeps_number
from cvfs.errors import Unreachable
from cvfs.hashes import parent_path

log = logging.getLogger(__name__)

# Each catalog has a deadline of its own; this one is for all that have to be fetched for one comparison.
LONGEST_COMPARISON = 600.0
_SETTLE = 10.0
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


class Succession:
    """Replaces the revision that `volume` shows. Not for two threads at a time."""

    def __init__(self, volume: Volume, kernel: Kernel, clock: Callable[[], float] = time.monotonic) -> None:
        self._volume = volume
        self._kernel = kernel
        self._clock = clock

    def replace(self, newer: Repository) -> None:
        """Show `newer` from now on. Raises CvfsError: then the present revision stays, whole, and `newer` is retired."""
        current = self._volume.repository
        try:
            differences, compared = self._switch(current, newer)
        except BaseException:
            newer.retire()
            raise
        self._kernel.settle(_SETTLE)
        self._tell(differences + self._catch_up(current, newer, compared))
        self._kernel.flush_notifications(_SETTLE)
        current.retire()

    def _switch(self, current: Repository, newer: Repository) -> tuple[list[Difference], set[bytes]]:
        """Compare what the kernel may know, then show the new revision; all or nothing."""
        differences: list[Difference] = []
        compared: set[bytes] = set()
        deadline = self._clock() + LONGEST_COMPARISON
        for attempt in range(_ATTEMPTS):
            directories = self._not_compared(compared)
            differences += self._differences(current, newer, directories, deadline)
            compared.update(node.path for node in directories)
            self._volume.remember(differences)
            # What was learned while we compared has to be compared too. A walk that never ends must not keep us for ever.
            if self._volume.switch(newer, differences, compared, force=attempt == _ATTEMPTS - 1):
                break
        return differences, compared

    def _catch_up(self, current: Repository, newer: Repository, compared: set[bytes]) -> list[Difference]:
        """Directories that the kernel learned of just before the switch, or since."""
        late = self._not_compared(compared)
        try:
            differences = self._differences(current, newer, late, self._clock() + _SETTLE)
        except Exception as error:
            log.warning("%d directories are forgotten, since they cannot be compared: %s", len(late), error)
            differences = [Difference(node.path, node.entry, None) for node in late]
        self._volume.follow(differences)
        return differences

    def _not_compared(self, compared: set[bytes]) -> list[Node]:
        return [node for node in self._volume.known_directories() if node.path not in compared]

    def _differences(self, old: Repository, new: Repository, nodes: list[Node], deadline: float) -> list[Difference]:
        found: list[Difference] = []
        for node in nodes:
            if self._clock() > deadline:
                raise Unreachable(f"{new.settings.fqrn}: catalogs come too slowly to compare the new revision")
            if old.tree.governing(node.path) != new.tree.governing(node.path):
                found += directory_differences(old.tree, new.tree, node.path)
        return found

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
