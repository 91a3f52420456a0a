"""What the kernel takes each path for, where it knows files by their paths; it asks no file system but for attributes.

libfuse 2 gives a path one number, so the kernel keeps one size and one set of pages for it, whatever the repository shows
there. If a file is replaced while it is open, or while the kernel still believes its size, bytes of the two would mix: such
a path goes on meaning the old file, for everybody, until the last one has closed it and the kernel has to ask again.
"""

import itertools
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from cvfs.attributes import Attributes
from cvfs.fuse.filesystem import Filesystem

LIMIT = 16384
"""Paths that are remembered, with a reference to their nodes: a node that nobody holds may get another number."""

# The kernel counts from when it gets an answer, and we from when it is made.
_ON_ITS_WAY = 1.0


class Known:
    """The node that a path means: `believed_until` the kernel asks no more for its attributes, `opens` readers have it.

    `cached` is the node that the pages are of.
    """

    __slots__ = ("believed_until", "cached", "ino", "listed", "opens", "regular")

    def __init__(self, found: Attributes) -> None:
        self.ino = found.ino
        self.regular = stat.S_ISREG(found.mode)
        self.believed_until = 0.0
        self.opens = 0
        self.cached = 0
        self.listed = True


class KnownPaths:
    """Paths and what they mean. Safe to use from several threads.

    A node that is handed in comes with a reference, which is kept with the path or given back.
    """

    def __init__(
        self, filesystem: Filesystem, timeout: float, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._filesystem = filesystem
        self._timeout = timeout + _ON_ITS_WAY if timeout else 0.0
        self._limit = limit
        self._clock = clock
        self._by_path: OrderedDict[bytes, Known] = OrderedDict()
        self._handles: dict[int, Known] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_path)

    def tell(self, path: bytes, found: Attributes) -> Attributes:
        """What the kernel is told of a path at which `found` was found. Raises CvfsError."""
        with self._lock:
            known, surplus = self._take(path, found, lambda known: known.opens > 0)
            known.believed_until = self._clock() + self._timeout
        self._give_back(surplus)
        return found if known.ino == found.ino else self._filesystem.getattr(known.ino, wait=True)

    def open(self, path: bytes, found: Attributes) -> tuple[int, int]:
        """A handle for a reader of the path, and the node that is read."""
        with self._lock:
            known, surplus = self._take(path, found, self._is_settled)
            known.opens += 1
            handle = next(self._numbers)
            self._handles[handle] = known
        self._give_back(surplus)
        return handle, known.ino

    def read(self, handle: int) -> int:
        """The node that a handle reads. From now on the kernel has pages of it, and of nothing else."""
        known = self._handles[handle]
        known.cached = known.ino
        return known.ino

    def node_of(self, handle: int) -> int:
        """The node of a handle, for its attributes."""
        return self._handles[handle].ino

    def has_its_pages(self, handle: int) -> bool:
        """Whether the pages that the kernel may have of the path are those of the handle's node."""
        known = self._handles[handle]
        return known.cached == known.ino

    def close(self, handle: int) -> int:
        """The end of a handle; the node that it read."""
        with self._lock:
            known = self._handles.pop(handle)
            known.opens -= 1
            surplus = [] if known.opens or known.listed else [known.ino]
        self._give_back(surplus)
        return known.ino

    def drop(self, nodes: Collection[int]) -> None:
        """Give these nodes back, as far as the kernel does not depend on them."""
        with self._lock:
            now = self._clock()
            unused = [
                path
                for path, known in self._by_path.items()
                if known.ino in nodes and not known.opens and now >= known.believed_until
            ]
            surplus = [self._by_path.pop(path).ino for path in unused]
        self._give_back(surplus)

    def _is_settled(self, known: Known) -> bool:
        return known.opens > 0 or self._clock() < known.believed_until

    def _take(self, path: bytes, found: Attributes, stays: Callable[[Known], bool]) -> tuple[Known, list[int]]:
        """What the path means from now on, and the references that are too many. Under the lock."""
        known = self._by_path.get(path)
        if known is None:
            self._by_path[path] = known = Known(found)
            return known, self._forget_oldest(known)
        self._by_path.move_to_end(path)
        if known.ino == found.ino:
            return known, [found.ino]
        # Where the type changes, the kernel itself makes an end of the old one.
        if known.regular and stat.S_ISREG(found.mode) and stays(known):
            return known, [found.ino]
        return self._replace(path, known, found)

    def _replace(self, path: bytes, known: Known, found: Attributes) -> tuple[Known, list[int]]:
        known.listed = False
        self._by_path[path] = new = Known(found)
        # What pages there are of the path are still those of whom it meant before.
        new.cached = known.cached
        return new, [] if known.opens else [known.ino]

    def _forget_oldest(self, newest: Known) -> list[int]:
        surplus: list[int] = []
        for _ in range(len(self._by_path)):
            if len(self._by_path) <= self._limit:
                break
            path, known = self._by_path.popitem(last=False)
            if known.opens or known is newest:
                self._by_path[path] = known
            else:
                surplus.append(known.ino)
        return surplus

    def _give_back(self, nodes: list[int]) -> None:
        for node in nodes:
            self._filesystem.forget(node, 1)
