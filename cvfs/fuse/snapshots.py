"""The listings whose readers are under way, bounded in number; it reads no directory itself."""

import threading
from collections import OrderedDict

from cvfs.fuse.filesystem import Listing


class Snapshots:
    """The listings that are being read, so that each stays as it was when its reader began; the oldest give way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, node: int) -> Listing | None:
        """The listing whose reader is under way."""
        with self._lock:
            return self._listings.get(node)

    def put(self, node: int, listing: Listing) -> None:
        """A reader begins."""
        with self._lock:
            self._listings[node] = listing
            self._listings.move_to_end(node)
            if len(self._listings) > self._limit:
                self._listings.popitem(last=False)
