"""The access trace: who looked at what and when, as lines of CSV in a file; only there if CVMFS_TRACEFILE asks for it.

A call leaves its line in a buffer; a thread of its own writes. A disk that is slow or full holds up no request: where the
buffer is full, lines are dropped and their number is written when there is room again.
"""

import contextlib
import functools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from cvfs.errors import CvfsError

log = logging.getLogger(__name__)

BUFFER = 8192
THRESHOLD = 7000
_FLUSH_EVERY = 2.0
_FLUSH_WITHIN = 5.0


class Event(IntEnum):
    """The original's codes."""

    FLUSH = -3
    STOP = -2
    START = -1
    OPEN = 1
    OPENDIR = 2
    READLINK = 3
    LOOKUP = 4
    STATFS = 5
    GETATTR = 6
    LISTXATTR = 7
    GETXATTR = 8


class Line(NamedTuple):
    """One access: Unix time, what was done, to which path, how it was called."""

    time: float
    event: Event
    path: bytes
    message: str

    def csv(self) -> bytes:
        """`"timestamp","code","path","message"` with quotes doubled, ended as the original does."""
        fields = (b"%.3f" % self.time, b"%d" % self.event, self.path, self.message.encode())
        return b",".join(b'"' + field.replace(b'"', b'""') + b'"' for field in fields) + b"\r\n"


class Tracer:
    """Writes lines to `file`, once `threshold` of at most `buffer` are waiting, and every other second."""

    def __init__(self, file: str, buffer: int = BUFFER, threshold: int = THRESHOLD) -> None:
        self._path = file
        self._limit = buffer
        self._threshold = threshold
        # Threads append and one takes from the other end: a deque needs no lock for that.
        self._lines: deque[Line] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._flushes: deque[threading.Event] = deque()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self.add(Event.START, b"Tracer", "Trace buffer created")
        self._thread = threading.Thread(target=self._run, name="tracer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, and end; waits a few seconds at most."""
        self.add(Event.STOP, b"Tracer", "Destroying trace buffer...")
        self._stopped = True
        self._wake.set()
        if self._thread:
            self._thread.join(_FLUSH_WITHIN)

    def flush(self) -> bool:
        """Have everything written that was added before; False if that takes too long."""
        self.add(Event.FLUSH, b"Tracer", "flushed ring buffer")
        written = threading.Event()
        self._flushes.append(written)
        self._wake.set()
        return written.wait(_FLUSH_WITHIN)

    def add(self, event: Event, path: bytes, message: str) -> None:
        """One access."""
        if len(self._lines) >= self._limit:
            self._dropped += 1
            return
        self._lines.append(Line(time.time(), event, path, message))
        if len(self._lines) >= self._threshold:
            self._wake.set()

    def watch(self, filesystem: Any) -> "Traced":
        """The same file system with its calls traced."""
        return Traced(filesystem, self)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(_FLUSH_EVERY)
            self._wake.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(Line(time.time(), Event.FLUSH, b"Tracer", f"{dropped} accesses are missing here"))
        try:
            if lines:
                _append(self._path, b"".join(line.csv() for line in lines))
        except OSError as error:
            log.warning("%s: %d lines of the access trace are lost: %s", self._path, len(lines), error.strerror)
        for written in flushes:
            written.set()


def _append(path: str, data: bytes) -> None:
    """Opened anew each time, so that the file may be moved away; a pipe that nobody reads holds up nobody."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    with contextlib.closing(os.fdopen(descriptor, "wb", buffering=0)) as file:
        file.write(data)


# Where in a call's arguments after the number `wait` stands.
_BY_NODE = {
    "opened": (Event.OPEN, "open()", 0),
    "listing": (Event.OPENDIR, "opendir()", 0),
    "getattr": (Event.GETATTR, "getattr()", 0),
    "listxattr": (Event.LISTXATTR, "listxattr()", 0),
    "getxattr": (Event.GETXATTR, "getxattr()", 1),
    "readlink": (Event.READLINK, "readlink()", None),
}


class Traced:
    """A file system whose calls are traced; what is not traced is the inner one's own."""

    def __init__(self, filesystem: Any, tracer: Tracer) -> None:
        self._filesystem = filesystem
        self._tracer = tracer
        for method, (event, called, place) in _BY_NODE.items():
            setattr(self, method, self._traced(getattr(filesystem, method), event, called, place))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._filesystem, name)

    def lookup(self, parent: int, name: bytes, wait: bool) -> Any:
        """See `Filesystem.lookup`; a name that is not there is an access too."""
        if not wait:
            self._tracer.add(Event.LOOKUP, self._path(parent) + b"/" + name, "lookup()")
        return self._filesystem.lookup(parent, name, wait)

    def statfs(self) -> Any:
        """See `Filesystem.statfs`."""
        self._tracer.add(Event.STATFS, b"", "statfs()")
        return self._filesystem.statfs()

    def _traced(self, method: Callable[..., Any], event: Event, called: str, place: int | None) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(ino: int, *arguments: Any) -> Any:
            # A call that would have to wait comes again, from a worker: that is the same access.
            if place is None or not arguments[place]:
                self._tracer.add(event, self._path(ino), called)
            return method(ino, *arguments)

        return call

    def _path(self, ino: int) -> bytes:
        try:
            return bytes(self._filesystem.path_of(ino))
        except CvfsError:
            return b"?"  # a number that means nothing any more: the call itself will say so
