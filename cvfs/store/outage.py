"""The time during which no way leads to the network; not thread-safe, it knows no clock and contacts nobody.

While it lasts, one request at a time may try, after pauses that grow; all others are to fail at once.
"""


class Outage:
    """Begins when a request found no way at all, ends with the first that succeeds. Times in seconds."""

    def __init__(self, first_pause: float = 2.0, longest_pause: float = 10.0) -> None:
        self._first_pause = max(first_pause, 0.5)
        self._longest_pause = max(longest_pause, self._first_pause)
        self._pause = self._first_pause
        self._next_try = 0.0
        self._trying = False
        self.since: float | None = None
        self.reason = ""

    def admit(self, now: float) -> bool:
        """Whether a request may go to the network; while offline it is then the one that tries: `settle` it."""
        if self.since is None:
            return True
        if self._trying or now < self._next_try:
            return False
        self._trying = True
        return True

    def begin(self, now: float, wall: float, reason: str) -> bool:
        """No way worked. True if that is news. Those that fail together with the first one make no pause longer."""
        news = self.since is None
        if not news and now < self._next_try:
            return False
        self.since = wall if news else self.since
        self._pause = self._first_pause if news else min(self._pause * 2, self._longest_pause)
        self._next_try = now + self._pause
        self.reason = reason
        return news

    def end(self) -> bool:
        """A way worked. True if that is news."""
        news, self.since = self.since is not None, None
        self._trying = False
        return news

    def settle(self) -> None:
        """The request that tried is over, whatever became of it."""
        self._trying = False
