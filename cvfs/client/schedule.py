"""When a mount asks for a new revision next; it asks nobody itself, and time and chance come in as arguments.

After a success that is the time to live of the root catalog, after failures sooner, with growing patience. Every span is
spread, so that ten thousand mounts which began together do not ask together. The clock is one that nobody can set back.
"""

import random
import time
from collections.abc import Callable

RETRY_AFTER = 180.0
FIRST_RETRY = 30.0
SPREAD = 0.1
# Whatever a catalog says, servers are not hammered, and a mistake does not last for ever.
SHORTEST = 10
LONGEST = 7 * 86400
# As good as never, for arithmetic: ten years.
NEVER = 3650 * 86400.0


class Schedule:
    """The moment of the next check. All times in seconds; `max_ttl` None or 0 is no limit."""

    def __init__(
        self,
        ttl: int,
        max_ttl: float | None = None,
        now: Callable[[], float] = time.monotonic,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.max_ttl = max_ttl
        self._ttl = ttl
        self._now = now
        self._spread = spread
        self._failures = 0
        self._due = now() + self._spread_out(self.interval)

    @property
    def interval(self) -> float:
        """How long what was found is good for."""
        return float(max(SHORTEST, min(self._ttl, self.max_ttl or self._ttl, LONGEST)))

    @property
    def held(self) -> bool:
        """Nothing is due until a check succeeds or fails."""
        return self.remaining() > NEVER / 2

    def remaining(self) -> float:
        """Seconds until a check is due, 0 if it is."""
        return max(0.0, self._due - self._now())

    def succeeded(self, ttl: int) -> None:
        """A check was made and what it found is good for `ttl`."""
        self._ttl = ttl
        self._failures = 0
        self._due = self._now() + self._spread_out(self.interval)

    def failed(self) -> None:
        """A check failed: try again soon, and less soon each time."""
        patience = min(FIRST_RETRY * 2 ** min(self._failures, 10), RETRY_AFTER, self.interval)
        self._failures += 1
        self._due = self._now() + self._spread_out(patience)

    def limit(self, max_ttl: float | None) -> None:
        """Another limit; it shortens the present wait, but never prolongs it."""
        self.max_ttl = max_ttl
        if not self.held:
            self._due = min(self._due, self._now() + self._spread_out(self.interval))

    def hold(self) -> None:
        """No check is due any more."""
        self._due = self._now() + NEVER

    def hurry(self) -> None:
        """A check is due now."""
        self._due = self._now()

    def _spread_out(self, seconds: float) -> float:
        return seconds * self._spread(1 - SPREAD, 1 + SPREAD)
