"""Where the messages of a mount go: syslog, or a file instead of it; a debug log; a ring in memory. Never to the mount itself.

No message holds up who has it: syslog is a datagram that is dropped if nobody takes it.
"""

import contextlib
import logging
import os
import threading
import time

from cvfs.client.observe.log_ring import LogRing, plain
from cvfs.client.observe.syslog import SYSLOG, Syslog
from cvfs.client.settings.mount import LogSettings
from cvfs.errors import UsageError

ROTATE_AT = 500 * 1024
"""Bytes after which a log file is renamed to `<name>.1`: the disk of a mount that runs for a year stays as it is."""
ROTATE_DEBUG_AT = 100 * 2**20


class LogFile(logging.Handler):
    """Appends lines to a file; renames it to `<name>.1` when it has `limit` bytes. Trouble with it is told to nobody."""

    def __init__(self, path: str, level: int, limit: int = ROTATE_AT) -> None:
        super().__init__(level)
        self._path = path
        self._limit = limit
        self._descriptor = -1
        self._size = 0

    def open(self) -> None:
        """Raises UsageError if the file cannot be written."""
        try:
            self._open()
        except OSError as error:
            raise UsageError(f"{self._path}: no log can be written there: {error.strerror}") from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{when}.{int(record.msecs):03d} {record.levelname} {record.name} [{os.getpid()}]: "
        data = (head + plain(record) + "\n" + self._trace(record)).encode(errors="replace")
        # A log that cannot be written must not become the reader's trouble, and there is nowhere to say so.
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                os.replace(self._path, f"{self._path}.1")
                self.close_file()
            if self._descriptor < 0:
                self._open()
            self._size += os.write(self._descriptor, data)

    def _trace(self, record: logging.LogRecord) -> str:
        return f"{logging.Formatter().formatException(record.exc_info)}\n" if record.exc_info else ""

    def _open(self) -> None:
        # A pipe that nobody reads holds up neither the mount nor its messages.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def close_file(self) -> None:
        """Let go of the file; the next message opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        self.close_file()
        super().close()


class Logs:
    """The handlers of a mount's process. `start` in the process that serves, `apply` again with other settings."""

    def __init__(self, fqrn: str, settings: LogSettings) -> None:
        self._fqrn = fqrn
        self._settings = settings
        self._handlers: list[logging.Handler] = []
        self._lock = threading.Lock()
        self.ring = LogRing()

    def start(self) -> None:
        """Take messages from now on. Raises UsageError for a file that cannot be written."""
        logging.getLogger().addHandler(self.ring)
        self.apply(self._settings)

    def apply(self, settings: LogSettings) -> None:
        """The same with other settings. Raises UsageError; then nothing has changed."""
        handlers = self._made(settings)
        root = logging.getLogger()
        with self._lock:
            old, self._handlers, self._settings = self._handlers, handlers, settings
            for handler in handlers:
                root.addHandler(handler)
            root.setLevel(min([handler.level for handler in handlers] + [logging.INFO]))
            for handler in old:
                root.removeHandler(handler)
                handler.close()

    def stop(self) -> None:
        """Take no more."""
        with self._lock:
            for handler in (*self._handlers, self.ring):
                logging.getLogger().removeHandler(handler)
                handler.close()
            self._handlers = []

    def _made(self, settings: LogSettings) -> list[logging.Handler]:
        files = [
            LogFile(path, level, limit)
            for path, level, limit in (
                (settings.micro_syslog, logging.INFO, ROTATE_AT),
                (settings.file, logging.INFO, ROTATE_DEBUG_AT),
                (settings.debug, logging.DEBUG, ROTATE_DEBUG_AT),
            )
            if path
        ]
        try:
            for file in files:
                file.open()
        except UsageError:
            for file in files:
                file.close()
            raise
        if settings.micro_syslog or not os.path.exists(SYSLOG):
            return list(files)
        return [*files, Syslog(settings.prefix or self._fqrn, settings.level, settings.facility)]
