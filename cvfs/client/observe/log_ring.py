"""The last messages of a process, kept in memory for who asks the mount itself; nothing is written."""

import logging
import time
from collections import deque

MESSAGES = 100
_LONGEST = 1000


class LogRing(logging.Handler):
    """Keeps the last messages, each cut to a thousand characters."""

    def __init__(self, level: int = logging.INFO, messages: int = MESSAGES) -> None:
        super().__init__(level)
        self._lines: deque[str] = deque(maxlen=messages)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        when = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(record.created))
        self._lines.append(f"[{when}] {plain(record)[:_LONGEST]}\n")

    def text(self) -> str:
        """`[<local time>] <message>` lines, the newest first (FORMAT section 9.7)."""
        return "".join(reversed(self._lines.copy()))


def plain(record: logging.LogRecord) -> str:
    """The message as one line: what a hostile name smuggled in comes out as escapes; a traceback only by its last line."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError):
        text = f"{record.msg} {record.args}"
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
