"""Content-defined cut marks of large files, bit for bit those of the original; opens no file. Source: FORMAT section 4.5.

The rolling value of the cut rule at byte i is the XOR of byte[i-k] << k over the last 32 bytes, so it depends on no
state, and its bits 7 to 31 are a window of one sequence of bits: bit k is g(i-k), where g(n) is the XOR over m = 0…7 of
bit m of byte[n+m]. A block of file, read as one big integer of 8-bit lanes, gives all g(n) in three shifts. A value
near 0x7FFFFFFF is one bit followed by a run of its opposite; 0xFFFFFFFF is a run of ones. Hence only runs of equal g are
looked at, and only the rare byte behind such a run is computed exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cvfs.errors import UsageError
from cvfs.hashes import Bytes

WINDOW = 32
_MASK = 0xFFFFFFFF
_CENTRE = 0x7FFFFFFF
# Twenty-five bits of the value come from g; a run of n equal bits has n-1 places without a change.
_G_BITS = 25
_ALL_ONES = bytes(_G_BITS - 1)
# Large enough to amortise a call, small enough to stay in the processor's cache; measured.
_MAX_BLOCK = 64 * 1024
_MIN_BLOCK = 2 * 1024


def _lanes(value: int) -> int:
    return int.from_bytes(bytes([value]) * (_MAX_BLOCK + WINDOW), "little")


_BIT0, _LOW7, _LOW6, _LOW4 = _lanes(0x01), _lanes(0x7F), _lanes(0x3F), _lanes(0x0F)


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """Smallest, average and largest chunk in bytes. Raises UsageError unless 32 <= minimum < average < maximum."""

    minimum: int = 4 * 2**20
    average: int = 8 * 2**20
    maximum: int = 16 * 2**20

    def __post_init__(self) -> None:
        if not WINDOW <= self.minimum < self.average < self.maximum <= _MASK:
            raise UsageError(
                f"chunk sizes {self.minimum}/{self.average}/{self.maximum}: need 32 <= minimum < average < maximum < 4 GiB"
            )

    @property
    def threshold(self) -> int:
        """How near to 0x7FFFFFFF the rolling value must come."""
        return _MASK // self.average


class Cutter:
    """Finds the cuts of one file that is fed in pieces of any size, in order. Fastest with pieces of a megabyte."""

    def __init__(self, sizes: ChunkSizes) -> None:
        self._sizes = sizes
        self._finder = _Finder(sizes)
        self._last = 0
        self._end = 0
        self._tail = b""

    def feed(self, data: Bytes) -> list[int]:
        """The cuts that the next bytes of the file bring, as offsets in the file, ascending.

        A cut is the offset of the first byte of a new chunk, and that byte is in `data`: a cut at the end of the file
        does not exist, and no further call is needed at the end.
        """
        start = self._end
        window = b"".join((self._tail, data))
        base = start - len(self._tail)
        self._end += len(data)
        self._tail = window[1 - WINDOW :]
        cuts = []
        while (cut := self._next(window, base, start)) is not None:
            cuts.append(cut)
            self._last = cut
        return cuts

    def _next(self, window: bytes, base: int, start: int) -> int | None:
        first = max(self._last + self._sizes.minimum, start)
        limit = self._last + self._sizes.maximum
        found = self._finder.find(window, first - base, min(limit, self._end) - base)
        if found is not None:
            return base + found
        return limit if limit < self._end else None


def cut(data: Bytes, sizes: ChunkSizes) -> list[int]:
    """The cuts of a whole file in memory, ascending offsets; none means that the file is one piece."""
    return Cutter(sizes).feed(data)


class _Finder:
    """The first byte of a stretch whose rolling value asks for a cut."""

    def __init__(self, sizes: ChunkSizes) -> None:
        near = sizes.threshold
        # Every value nearer than the threshold shares these upper bits: 0111… or 1000…
        shared = min(32 - (near - 1).bit_length(), _G_BITS)
        self._lowest, self._highest = _CENTRE - near + 1, _CENTRE + near - 1
        self._run = bytes(shared - 2)
        # What is looked at behind a cut is looked at again: hence not much more than the least distance of two cuts.
        self._block = max(_MIN_BLOCK, min(_MAX_BLOCK, sizes.average // 4, sizes.minimum * 2))

    def find(self, data: bytes, first: int, stop: int) -> int | None:
        """Index of the first cut in [first, stop); the 31 bytes before `first` must be there."""
        for start in range(first, stop, self._block):
            block = data[start - WINDOW + 1 : min(start + self._block, stop)]
            for found in self._cuts(block):
                return start + found
        return None

    def _cuts(self, block: bytes) -> Iterator[int]:
        """Cuts of a block in ascending order, counted from its 32nd byte; lazily, as the first one suffices."""
        changes = _changes(block)
        run = changes.find(self._run)
        while 0 <= run <= len(block) - WINDOW + 1:
            end = changes.find(1, run + len(self._run))
            end = len(changes) if end < 0 else end
            if run and self._is_near(block[run - 1 : run - 1 + WINDOW]):
                yield run - 1
            if end - run >= len(_ALL_ONES):
                yield from _all_ones(block, run, end - len(_ALL_ONES))
            run = changes.find(self._run, end)

    def _is_near(self, window: bytes) -> bool:
        x = 0
        for byte in window:
            x = x << 1 ^ byte
        return self._lowest <= x & _MASK <= self._highest


def _changes(block: bytes) -> bytes:
    """For every n whether g(n) differs from g(n+1), as a byte 0 or 1."""
    x = int.from_bytes(block, "little")
    x ^= x >> 9
    x ^= x >> 18
    x ^= x >> 36
    x ^= x >> 8
    # The last eight lanes would need bytes behind the block.
    return (x & _BIT0).to_bytes(len(block) + 1, "little")[: max(len(block) - 8, 0)]


def _all_ones(block: bytes, first: int, last: int) -> Iterator[int]:
    """Windows in [first, last], known to have equal upper bits, whose value is 0xFFFFFFFF: their lowest byte tells."""
    stretch = block[first + WINDOW - 8 : last + WINDOW]
    x = int.from_bytes(stretch, "little")
    x ^= (x & _LOW7) << 9
    x ^= (x & _LOW6) << 18
    x ^= (x & _LOW4) << 36
    low = x.to_bytes(len(stretch) + 8, "little")[: len(stretch)]
    found = low.find(0xFF, 7)
    while found >= 0:
        yield first + found - 7
        found = low.find(0xFF, found + 1)
