"""What a process and those that it started have taken so far, out of /proc; it touches none of them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """Processor seconds, memory in bytes now and at most, context switches of both kinds."""

    cpu_seconds: float = 0.0
    resident: int = 0
    peak: int = 0
    switches: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(
            self.cpu_seconds + other.cpu_seconds,
            self.resident + other.resident,
            self.peak + other.peak,
            self.switches + other.switches,
        )


def taken(pid: int) -> Taken:
    """By a process and all below it; what a process took that has ended is not in it."""
    total = Taken()
    for member in family(pid):
        try:
            total += _of(member)
        except OSError:
            continue
    return total


def family(pid: int) -> list[int]:
    """A process and all that it started, and that they started."""
    found = [pid]
    for member in found:
        for thread in _listed(f"/proc/{member}/task"):
            found += map(int, _words(f"/proc/{member}/task/{thread}/children"))
    return found


def has_gone(pid: int) -> bool:
    """Whether it has ended, waited for or not."""
    lines = _lines(f"/proc/{pid}/stat")
    return not lines or lines[0].rpartition(")")[2].split()[0] in ("Z", "X")


def _of(pid: int) -> Taken:
    values = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    memory = [int(values[name].split()[0]) * _KIB if name in values else 0 for name in ("VmRSS", "VmHWM")]
    return Taken(processor_seconds(pid), memory[0], memory[1], _switches(pid))


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
