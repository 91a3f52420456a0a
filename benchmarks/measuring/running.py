"""One command, run and measured from outside: clock, processors, what it says itself; it never runs one without a deadline."""

import contextlib
import io
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import Failed

_FIGURE = re.compile(r"^([a-z][a-z0-9_]*)=([0-9.]+(?:e[-+]?[0-9]+)?)$", re.MULTILINE)
_END_LOOKED_AT = 65536
SECONDS, CPU_SECONDS = "seconds", "cpu_seconds"
"""The figures by which a command says itself how long its work took, by the clock and of processors."""


@dataclass(frozen=True, slots=True)
class Ran:
    """Seconds by the clock, and of processors for the process and all it waited for; figures: what it printed as `name=N`.

    `printed` is all of what it printed, or the last 64 KiB.
    """

    seconds: float
    cpu_seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    printed: str = ""


Attending = Callable[[int], contextlib.AbstractContextManager[object]]
"""Whoever looks at a process, by its number, as long as it runs."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    patience: float,
    directory: Path,
    attending: Attending = contextlib.nullcontext,
) -> Ran:
    """Run it with `directory` as the working directory. Raises Failed if it fails, or is not done in that many seconds.

    What it prints goes to memory: the null device would be noticed (tar and grep then do less), a disk would be measured.
    """
    with _memory_file() as output, _memory_file() as errors:
        started = time.monotonic()
        process = _start(command, environment, directory, output, errors)
        with attending(process.pid):
            status, cpu_seconds = _wait(process, patience)
            # Before whoever attends has been seen off.
            seconds = time.monotonic() - started
        if status:
            raise Failed(f"{command[0]}: {_why(status, errors)}")
        return _measured(seconds, cpu_seconds, _end(output))


def figures(printed: str) -> dict[str, float]:
    """The lines `name=N`, which are nothing but that; of two with one name the later counts."""
    return {name: float(value) for name, value in _FIGURE.findall(printed)}


def _measured(seconds: float, cpu_seconds: float, printed: str) -> Ran:
    found = figures(printed)
    return Ran(found.pop(SECONDS, seconds), found.pop(CPU_SECONDS, cpu_seconds), found, printed)


@contextlib.contextmanager
def _memory_file() -> Iterator[io.FileIO]:
    # Without memfd_create (a sandbox): wherever temporary files are.
    try:
        file = io.FileIO(os.memfd_create("output"), "r+")
    except OSError:
        file = io.FileIO(os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR, 0o600), "r+")
    with file:
        yield file


def _start(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, output: io.FileIO, errors: io.FileIO
) -> subprocess.Popen[bytes]:
    """In a session of its own: an interrupt from the keyboard is this process's matter, which ends the whole group."""
    words = list(map(os.fspath, command))
    try:
        return subprocess.Popen(
            words,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from error


def _wait(process: subprocess.Popen[bytes], patience: float) -> tuple[str, float]:
    """What went wrong, if anything did, and processor seconds. The whole group is gone afterwards, whatever happens."""
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        _kill(process.pid)

    timer = threading.Timer(patience, give_up)
    timer.daemon = True
    timer.start()
    try:
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    finally:
        timer.cancel()
        _kill(process.pid)
        process.poll()
    if overdue.is_set():
        return f"not done after {patience:.0f} seconds", 0.0
    return f"exit status {process.returncode}" if process.returncode else "", usage.ru_utime + usage.ru_stime


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _end(file: io.FileIO) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_LOOKED_AT))
    return (file.read() or b"").decode(errors="replace")


def _why(status: str, errors: io.FileIO) -> str:
    """The status, and the last line of what was said about it."""
    lines = _end(errors).strip().splitlines()
    return f"{status}: {lines[-1]}" if lines else status
