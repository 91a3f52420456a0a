"""What goes first when a cache is too full: pure choice over the records; it removes nothing.

Volatile contents first, then data in the order of their last use, catalogs at last: without its catalogs a repository
cannot even be listed. But catalogs beyond their share of the quota count as data: a repository that is published every
few minutes leaves a root catalog behind each time.
"""

import itertools
from array import array
from collections.abc import Callable, Container, Iterable, Iterator

from cvfs.client.cache.books import Record
from cvfs.hashes import ObjectKind

_DATA, _CATALOG, _VOLATILE = range(3)
# Room for a time in nanoseconds until the year 2116; the rank stands above it.
_TIMES = 2**62
_NOBODY = -(2**63)

Records = Callable[[], Iterable[tuple[str, Record]]]


def departing(records: Records, held: Container[str], excess: int, share: int) -> Iterator[str]:
    """Names of contents that go, so that `excess` bytes become free; the newest stays: it was fetched to be read.

    `share` is how many bytes of catalogs are spared as long as there is data. The records are gone through twice.
    """
    table = _Table()
    for name, record in records():
        if name not in held:
            table.add(name, record)
    since = table.catalogs_spared_since(share)
    last, left = table.bound(excess, since)
    for name, record in records() if last != _NOBODY else ():
        order = _order(_kind(name, record), record.last_use, since)
        if name in held or name == table.newest or order > last:
            continue
        # Several may have been used at the same moment: only as many of them as are needed.
        if order < last or left > 0:
            left -= record.size if order == last else 0
            yield name


def _kind(name: str, record: Record) -> int:
    if record.volatile:
        return _VOLATILE
    return _CATALOG if name.endswith(ObjectKind.CATALOG.value) else _DATA


def _order(kind: int, last_use: int, catalogs_since: int) -> int:
    rank = -1 if kind == _VOLATILE else 1 if kind == _CATALOG and last_use >= catalogs_since else 0
    return rank * _TIMES + min(max(last_use, 0), _TIMES - 1)


class _Table:
    """Time, size and kind of every record, and no names: a cache may hold a million of them."""

    def __init__(self) -> None:
        self._times = array("q")
        self._sizes = array("q")
        self._kinds = array("b")
        self._last_index = 0
        self.newest = ""

    def add(self, name: str, record: Record) -> None:
        if not self.newest or record.last_use >= self._times[self._last_index]:
            self.newest, self._last_index = name, len(self._times)
        self._times.append(record.last_use)
        self._sizes.append(record.size)
        self._kinds.append(_kind(name, record))

    def catalogs_spared_since(self, share: int) -> int:
        """Catalogs used since then are within their share."""
        since = 2**63 - 1
        catalogs = (index for index, kind in enumerate(self._kinds) if kind == _CATALOG)
        for index in sorted(catalogs, key=self._times.__getitem__, reverse=True):
            share -= self._sizes[index]
            if share < 0:
                break
            since = self._times[index]
        return since

    def bound(self, excess: int, catalogs_since: int) -> tuple[int, int]:
        """The place in the order up to which all go, and how many bytes of those at this very place."""
        order = array("q", map(_order, self._kinds, self._times, itertools.repeat(catalogs_since)))
        last, at_last, left = _NOBODY, 0, excess
        for index in sorted(range(len(order)), key=order.__getitem__):
            if left <= 0:
                break
            if index == self._last_index:
                continue
            at_last = self._sizes[index] + (at_last if order[index] == last else 0)
            last = order[index]
            left -= self._sizes[index]
        return last, at_last
