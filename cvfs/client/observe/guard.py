"""The watchdog's own process: outlives a crash of the mount, keeps its stack trace and cleans the mount point; serves nothing.

The mount says goodbye when it ends as it should. If it just dies, what its fatal signal wrote is in the pipe: it goes to
`stacktrace.<fqrn>` in the workspace, a line goes to syslog and to the mount's log files, and the dead mount point is
detached, so that users find an empty directory instead of "Transport endpoint is not connected".

Until then it only sleeps: what it needs after a crash is imported after the crash.
"""

import contextlib
import os
import select
import stat
from typing import Any

GOODBYE = b"\0"

_PIECE = 65536
_LONGEST_TRACE = 4 * 2**20


class Guard:
    """Waits on `watched`, the descriptor of the mount's process, and on `reader`, what its signals write."""

    def __init__(self, watched: int, reader: int, task: dict[str, Any]) -> None:
        self._watched = watched
        self._reader = reader
        self._task = task

    def work(self) -> None:
        """Until the mount has ended, and what is to be done after a crash is done."""
        if not self._wait():
            self._after_crash()

    def _wait(self) -> bool:
        """Until the mount ends; whether it said goodbye. What its signals write is kept as it comes."""
        poll = select.poll()
        poll.register(self._watched, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._reader not in ready:
                return False
            text = os.read(self._reader, _PIECE)
            if text.endswith(GOODBYE):
                return True
            if not text:
                return False
            self._keep(text)

    def _keep(self, text: bytes) -> None:
        """A workspace that cannot be written must not keep us from the other work."""
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._task["trace"], flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                if os.fstat(descriptor).st_size < _LONGEST_TRACE:
                    file.write(text)

    def _after_crash(self) -> None:
        import time  # noqa: PLC0415

        when, mount, fqrn = time.strftime("%Y-%m-%d %H:%M:%S %z"), self._task["mount"], self._task["fqrn"]
        self._keep(f"{when}: process {mount} of {fqrn} ended without a goodbye\n\n".encode())
        cleaned = self._clean()
        self._tell(f"the process {mount} of this mount died; {cleaned}; what it left is in {self._task['trace']}")

    def _clean(self) -> str:
        from cvfs.fuse import mount_points  # noqa: PLC0415

        try:
            cleaned = mount_points.clean_dead_mount(self._task["mountpoint"])
        except Exception as error:
            return f"its mount point could not be cleaned: {error}"
        return "its mount point was cleaned" if cleaned else "its mount point was clean already"

    def _tell(self, message: str) -> None:
        import logging  # noqa: PLC0415
        import time  # noqa: PLC0415

        from cvfs.client.observe.syslog import Syslog  # noqa: PLC0415

        syslog = Syslog(self._task["prefix"], facility=int(self._task["facility"]))
        syslog.emit(logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, None))
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        for path in self._task["logs"]:
            _append(path, f"{when} ERROR {__name__} [{os.getpid()}]: {message}\n".encode(errors="replace"))


def _append(path: str, line: bytes) -> None:
    """To a log that is a file: a pipe could hold us up. The mount's own handlers need what this interpreter lacks."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.write(descriptor, line)
        finally:
            os.close(descriptor)


def main() -> None:
    """`<descriptor of the mount's process> <descriptor to read from> <task as JSON>`."""
    import json  # noqa: PLC0415
    import sys  # noqa: PLC0415

    watched, reader, task = sys.argv[1:]
    Guard(int(watched), int(reader), json.loads(task)).work()
