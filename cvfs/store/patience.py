"""How long one request may wait: one budget for all the ways it tries; pure, the time is passed in."""

from dataclasses import dataclass

# Shares of the budget: the first way gets twice what the following ones get, so that four fit.
_FIRST = 0.4
_LATER = 0.2
# Below this an attempt has no chance; seconds.
_LEAST = 0.05


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may be silent, in seconds, through a proxy (`proxied`) or without one (`direct`).

    A response that on average stays below `low_speed` bytes per second for that long is given up. No request waits
    longer than twice that time without a byte, whatever the number of ways it tries.
    """

    proxied: float = 5.0
    direct: float = 10.0
    low_speed: int = 1024


USUAL_TIMEOUTS = Timeouts()


class Patience:
    """What is left of the time that a request may wait: twice `timeout` seconds from `now` on."""

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self._deadline = now + 2 * timeout
        self._first = True

    def share(self, now: float, *, last: bool) -> float:
        """The seconds that the next attempt may take; all that is left if it is the last one."""
        left = self._deadline - now
        part = left if last else min(left, (_FIRST if self._first else _LATER) * 2 * self._timeout)
        self._first = False
        return max(part, _LEAST)

    def exhausted(self, now: float) -> bool:
        """Whether another attempt makes no sense."""
        return self._deadline - now < _LEAST

    def pause(self, wanted: float, now: float) -> float:
        """A pause before everything is tried again, that leaves half of the time for doing so."""
        return max(0.0, min(wanted, (self._deadline - now) / 2))

    def flowed(self, now: float) -> None:
        """Bytes came, until the silence that has just been noticed: what follows has half of the time."""
        self._deadline = max(self._deadline, now + self._timeout)
        self._first = True
