"""What a process and those that it started have taken so far, out of /proc; how a child is seen off; it starts none."""

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Processor seconds, memory in bytes now and at most, context switches of both kinds."""

    cpu_seconds: float = 0.0
    resident: int = 0
    peak: int = 0
    switches: int = 0


def taken(pid: int) -> Taken:
    """By a process and all below it; memory is its own, for what forks share would count twice.

    What a process below it took that has ended is not in it. All are zero if it has itself ended.
    """
    own = _of(pid)
    others = [_of(member) for member in family(pid)[1:]]
    cpu_seconds = own.cpu_seconds + sum(other.cpu_seconds for other in others)
    return Taken(cpu_seconds, own.resident, own.peak, own.switches + sum(other.switches for other in others))


def family(pid: int) -> list[int]:
    """A process and all that it started, and that they started."""
    found = [pid]
    for member in found:
        for thread in _listed(f"/proc/{member}/task"):
            found += map(int, _words(f"/proc/{member}/task/{thread}/children"))
    return found


def peak(pid: int) -> int:
    """The most memory that this one process ever had, in bytes; 0 if it has ended."""
    return _of(pid).peak


def has_gone(pid: int) -> bool:
    """Whether it has ended, waited for or not."""
    lines = _lines(f"/proc/{pid}/stat")
    return not lines or lines[0].rpartition(")")[2].split()[0] in ("Z", "X")


def _of(pid: int) -> Taken:
    values = dict(line.split(":", 1) for line in _lines(f"/proc/{pid}/status"))
    if not values:
        return Taken()
    memory = [int(values[name].split()[0]) * _KIB if name in values else 0 for name in ("VmRSS", "VmHWM")]
    try:
        return Taken(processor_seconds(pid), memory[0], memory[1], _switches(pid))
    except OSError:
        # It ended between two looks.
        return Taken(0.0, memory[0], memory[1])


def processor_seconds(pid: int) -> float:
    """To the nanosecond where the kernel lets its clock be read, else in its ticks. Raises OSError."""
    try:
        # The number of a process's clock, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _switches(pid: int) -> int:
    """Of all its threads: a process's own line tells of its first one only. Those of threads that ended are lost."""
    return sum(
        int(line.split()[1])
        for thread in _listed(f"/proc/{pid}/task")
        for line in _lines(f"/proc/{pid}/task/{thread}/status")
        if "ctxt_switches" in line
    )


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _words(path: str) -> list[str]:
    return " ".join(_lines(path)).split()


def ended(process: "subprocess.Popen[bytes]", patience: float = _PATIENCE) -> None:
    """See a process off that was asked to end by closing its input, or by a signal of the caller's: by force at last."""
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(patience)
