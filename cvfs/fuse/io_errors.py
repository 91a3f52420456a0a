"""How often a mount had to answer EIO, and when last; it only counts."""

import time


class IOErrors:
    """How often the answer was EIO, and when last (Unix time). A count that two threads change at once may lose one."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0

    def note(self) -> None:
        """One more."""
        self.count += 1
        self.last = time.time()
