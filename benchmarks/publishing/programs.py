"""Programs run as users run them, and what all of their processes took; knows nothing of what they do."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.model import Failed, Sample, Unavailable
from benchmarks.processes import taken

_PATIENCE = 1800.0
_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Ran:
    """Seconds by the clock and of processors, of the program and all that it waited for; its standard output.

    `peak`: bytes of memory, of all its processes as if they shared nothing; 0 for programs that ended before they were seen.
    """

    seconds: float
    cpu_seconds: float
    peak: int
    output: bytes

    def sample(self, **figures: float) -> Sample:
        """The repetition that this was."""
        memory = {"peak": float(self.peak)} if self.peak else {}
        return Sample(self.seconds, self.cpu_seconds, figures=memory | figures)


def run(words: Sequence[str], surroundings: Mapping[str, str] | None = None, patience: float = _PATIENCE) -> Ran:
    """Run a program to its end, when nothing is left to be written by what was before. Raises Failed, or
    Unavailable if there is no such program.
    """
    if shutil.which(words[0]) is None:
        raise Unavailable(f"{words[0]} is not installed")
    os.sync()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        program = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=surroundings, start_new_session=True
        )
        attendant = _Attendant(program.pid, started + patience)
        with attendant.watching():
            _, status, usage = os.wait4(program.pid, 0)
        seconds = time.monotonic() - started
        program.returncode = os.waitstatus_to_exitcode(status)
        if program.returncode:
            reason = _last_line(errors.fileno()) if seconds < patience else f"it took longer than {patience:g} s"
            raise Failed(f"{_shown(words)}: status {program.returncode}: {reason}")
        output.seek(0)
        return Ran(seconds, usage.ru_utime + usage.ru_stime, attendant.peak, output.read())


@dataclass(slots=True)
class _Attendant:
    """Looks at a program while it runs. Whoever takes longer than `patience` seconds is killed with its session."""

    pid: int
    deadline: float
    peak: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        except BaseException:
            _kill(self.pid)
            raise
        finally:
            self.over.set()
            thread.join()

    def _watch(self) -> None:
        while not self.over.wait(_INTERVAL):
            self.peak = max(self.peak, taken(self.pid).peak)
            if time.monotonic() > self.deadline:
                _kill(self.pid)
                return


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _shown(words: Sequence[str]) -> str:
    """The interpreter's words say nothing to people."""
    return " ".join(word for word in words if "\n" not in word and "import sys" not in word)


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    lines = os.pread(descriptor, 4096, max(0, size - 4096)).decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no message")
