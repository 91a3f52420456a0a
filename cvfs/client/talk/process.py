"""Commands about the process of a mount: its numbers, parameters, logs and traces."""

import faulthandler
import json
import os
import tempfile
import time

from cvfs import __version__
from cvfs.client.control import Answer
from cvfs.client.observe.affairs import internal_affairs
from cvfs.client.observe.metrics import prometheus
from cvfs.client.observe.mounted import Mounted
from cvfs.client.observe.state import state
from cvfs.client.talk.commands import DONE, Command

_LONGEST_TRACE = 4 * 2**20


class ProcessCommands:
    """What is asked of the process."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def commands(self) -> list[Command]:
        """The commands by their words."""
        return [
            Command("stat", self.stat, help="tells all numbers as one JSON object"),
            Command("mountpoint", self.mountpoint, help="returns the mount point"),
            Command("device id", self.device_id, help="returns major:minor of the device"),
            Command("pid", self.pid, help="gets the pid"),
            Command("pid cachemgr", self.pid, help="gets the pid of who manages the cache: the mount itself"),
            Command("pid watchdog", self.pid_watchdog, help="gets the pid of the crash handler, 0 if there is none"),
            Command("version", self.version, help="gets the version"),
            Command("version patchlevel", lambda _: "1\n", help="gets the patch level"),
            Command("parameters", self.parameters, help="dumps the effective parameters"),
            Command("hotpatch history", self.history, help="shows when the mount was started, with which version"),
            Command("reset error counters", self.reset, help="resets the counter of I/O errors"),
            Command("internal affairs", self.internal_affairs, help="shows the internal counters"),
            Command("latency", self.latency, help="shows latencies (requires CVMFS_INSTRUMENT_FUSE)"),
            Command("metrics prometheus", self.metrics, help="shows all numbers as metrics of Prometheus"),
            Command("tracebuffer flush", self.flush, help="flushes the trace buffer to disk"),
            Command("stack traces", stack_traces, help="shows what each thread is doing"),
            Command("logbuffer", self.log, help="shows the last messages, the newest first"),
            Command("reload", self.reload, help="reads the configuration again and applies it"),
        ]

    def stat(self, _: str) -> Answer:
        """Everything as one JSON object."""
        found = state(self._mounted)
        return Answer(json.dumps(found) + "\n", data=found)

    def mountpoint(self, _: str) -> str:
        """Where it is mounted."""
        return f"{self._mounted.mountpoint}\n"

    def device_id(self, _: str) -> str:
        """Major and minor number of the mount's device."""
        return f"{self._mounted.device()}\n"

    def pid(self, _: str) -> str:
        """The process of the mount."""
        return f"{self._mounted.pid}\n"

    def pid_watchdog(self, _: str) -> str:
        """The process that waits for the end of this one."""
        return f"{self._mounted.watchdog()}\n"

    def version(self, _: str) -> str:
        """The version of this package: there is no loader apart from it."""
        return f"{__version__} (CernVM-FS Fuse Module)\n{__version__} (Loader)\n"

    def parameters(self, _: str) -> Answer:
        """Every parameter that was given."""
        given = dict(sorted(self._mounted.settings.variables.items()))
        return Answer("".join(f"{name}={value}\n" for name, value in given.items()), data=given)

    def history(self, _: str) -> str:
        """The start of the process: there is no hot patching."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._mounted.started))
        return f"{when} UTC    (start of cvfs {__version__})\n"

    def reset(self, _: str) -> Answer:
        """I/O errors count from zero again."""
        self._mounted.server.reset_io_errors()
        return DONE

    def internal_affairs(self, _: str) -> Answer:
        """Sections, and a table of counters."""
        return internal_affairs(self._mounted)

    def latency(self, _: str) -> Answer:
        """The table of latencies."""
        if self._mounted.latencies is None:
            return Answer("Failed (latencies are measured with CVMFS_INSTRUMENT_FUSE=yes)\n", good=False)
        return Answer(self._mounted.latencies.table(self._mounted.settings.fqrn))

    def metrics(self, _: str) -> str:
        """The text format of Prometheus."""
        return prometheus(self._mounted)

    def flush(self, _: str) -> Answer:
        """Without a trace there is nothing to do."""
        tracer = self._mounted.tracer
        return DONE if tracer is None or tracer.flush() else Answer("Failed (the disk takes too long)\n", good=False)

    def log(self, _: str) -> str:
        """The last messages."""
        return self._mounted.log()

    def reload(self, _: str) -> str:
        """What was applied, and what needs a new mount."""
        return self._mounted.reload()


def stack_traces(_: str) -> str:
    """What every thread of this process is doing."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        return os.pread(file.fileno(), _LONGEST_TRACE, 0).decode(errors="replace")
