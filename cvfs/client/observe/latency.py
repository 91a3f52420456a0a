"""How long requests took: a histogram by powers of two for each operation; only there if CVMFS_INSTRUMENT_FUSE asks for it."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

BINS = 40
"""Upper bounds of 2, 4, 8 … nanoseconds; the last bin, of nine minutes, holds whatever took longer."""
QUANTILES = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
_STARS = 38

# The original's names of actions, by the method of the file system that does the work. Reading a directory is one call
# when it is opened; the pages that follow come out of that.
_ACTIONS = {
    "lookup": "lookup",
    "forget": "forget",
    "getattr": "getattr",
    "readlink": "readlink",
    "listing": "opendir",
    "opened": "open",
    "read": "read",
    "released": "release",
}
_ORDER = (
    "lookup",
    "forget",
    "forget_multi",
    "getattr",
    "readlink",
    "opendir",
    "releasedir",
    "readdir",
    "open",
    "read",
    "release",
)


class Histogram:
    """Durations in nanoseconds. Adding is one list operation, so that threads may do it without a lock."""

    __slots__ = ("bins",)

    def __init__(self) -> None:
        self.bins = [0] * BINS

    def add(self, duration: int) -> None:
        """Count one."""
        self.bins[min(max(duration.bit_length(), 1), BINS) - 1] += 1

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.bins)

    def quantile(self, part: float) -> int:
        """The duration that `part` of all stay below, between the bounds of its bin; 0 if there are none."""
        left = self.count * part
        for place, count in enumerate(self.bins):
            if count and left <= count:
                low, high = _bounds(place)
                return low + int((high - low) * left / count)
            left -= count
        return 0

    def text(self) -> str:
        """A line with stars for each bin that is not empty."""
        total = self.count or 1
        lines = [
            f"{low:>14} -> {high - 1:<14}: {count:>10} | {'*' * round(_STARS * count / total):<{_STARS}} |"
            for (low, high), count in ((_bounds(place), count) for place, count in enumerate(self.bins))
            if count
        ]
        return "\n".join(
            [f"{'nsec':>31} : {'count':>10} | {'distribution':<{_STARS}} |", *lines, f"total: {self.count}", ""]
        )


def _bounds(place: int) -> tuple[int, int]:
    return (1 << place if place else 0), 1 << (place + 1)


class Latencies:
    """A histogram for each action of the original."""

    def __init__(self) -> None:
        self.histograms: Mapping[str, Histogram] = {action: Histogram() for action in _ORDER}

    def watch(self, filesystem: object) -> "Timed":
        """The same file system with its calls timed."""
        return Timed(filesystem, self.histograms)

    def table(self, fqrn: str) -> str:
        """The original's table: counts, and nanoseconds that so many of the calls stayed below."""
        heads = ["repository", "action", "total_count", "time_unit"]
        lines = [",".join([f'"{head}"' for head in heads] + [f"{part:0.5f}" for part in QUANTILES])]
        for action, histogram in self.histograms.items():
            values = [str(histogram.quantile(part)) for part in QUANTILES]
            lines.append(",".join([f'"{fqrn}"', f'"{action}"', str(histogram.count), '"nanoseconds"', *values]))
        return "\n".join(lines) + "\n"

    def text(self) -> str:
        """Every histogram, for `internal affairs`."""
        named = ((action.replace("_", "-").title(), histogram) for action, histogram in self.histograms.items())
        return "".join(f"{action}\n{histogram.text()}" for action, histogram in named)


class Timed:
    """A file system whose calls are timed; what is not timed is the inner one's own."""

    def __init__(self, filesystem: object, histograms: Mapping[str, Histogram]) -> None:
        self._filesystem = filesystem
        for method, action in _ACTIONS.items():
            setattr(self, method, _timed(getattr(filesystem, method), histograms[action]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._filesystem, name)


def _timed(method: Callable[..., Any], histogram: Histogram) -> Callable[..., Any]:
    """A call that would have to wait is not counted: it comes again, and then it is."""

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter_ns()
        try:
            result = method(*arguments, **named)
        except BlockingIOError:
            raise
        except Exception:
            histogram.add(time.perf_counter_ns() - start)
            raise
        histogram.add(time.perf_counter_ns() - start)
        return result

    return call
