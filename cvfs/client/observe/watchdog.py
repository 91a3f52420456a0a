"""The mount's side of its watchdog: starts it, has fatal signals write a stack trace to it, says goodbye at the end.

The watchdog is `guard.py` in an interpreter of its own, as bare as there is: a fork of the mount would cost three times as
much memory.
"""

import contextlib
import faulthandler
import json
import logging
import os
import signal
import subprocess

from cvfs.client.observe.guard import GOODBYE
from cvfs.client.settings.mount import LogSettings
from cvfs.interpreter import python

log = logging.getLogger(__name__)

DUMP_SIGNAL = signal.SIGUSR2
"""Makes a living mount leave what its threads are doing beside the stack traces, even if its interpreter is stuck."""

_REAPED_WITHIN = 2.0


class Watchdog:
    """Watches the process that calls `start`; cleans `mountpoint` if that process dies without `stop`."""

    def __init__(self, fqrn: str, mountpoint: str, workspace: str, logs: LogSettings) -> None:
        self._fqrn = fqrn
        self._mountpoint = mountpoint
        self._trace = trace_path(workspace, fqrn)
        self._logs = logs
        self._pipe = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The watchdog's process; 0 if there is none, or none any more."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self) -> None:
        """Start it. From here on fatal signals leave a stack trace. Raises OSError."""
        reader, self._pipe = os.pipe()
        watched = os.pidfd_open(os.getpid())
        try:
            self._process = self._spawn(watched, reader)
        finally:
            os.close(reader)
            os.close(watched)
        faulthandler.enable(self._pipe, all_threads=True)
        faulthandler.register(DUMP_SIGNAL, self._pipe, all_threads=True)

    def stop(self) -> None:
        """The mount ends as it should: the watchdog has nothing more to do."""
        if self._pipe < 0:
            return
        faulthandler.unregister(DUMP_SIGNAL)
        faulthandler.disable()
        with contextlib.suppress(OSError):
            os.write(self._pipe, GOODBYE)
        os.close(self._pipe)
        self._pipe = -1
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAPED_WITHIN)

    def _spawn(self, watched: int, reader: int) -> "subprocess.Popen[bytes]":
        task = {
            "fqrn": self._fqrn,
            "mountpoint": self._mountpoint,
            "trace": self._trace,
            "mount": os.getpid(),
            "prefix": self._logs.prefix or self._fqrn,
            "facility": self._logs.facility,
            "logs": [path for path in (self._logs.micro_syslog, self._logs.file) if path],
        }
        return subprocess.Popen(
            [*python("cvfs.client.observe.guard", bare=True), str(watched), str(reader), json.dumps(task)],
            pass_fds=(watched, reader),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )


def trace_path(workspace: str, fqrn: str) -> str:
    """Where the stack traces of a repository's mounts are."""
    return os.path.join(workspace, f"stacktrace.{fqrn}")
