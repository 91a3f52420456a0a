"""Time of the work alone, told on standard output: an interpreter's start and checks afterwards are not counted."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Print `seconds=` by the clock and `cpu_seconds=` of this process and those that it waited for."""
    processors, started = _processors(), time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    print(f"seconds={seconds:.6f}")
    print(f"cpu_seconds={_processors() - processors:.6f}")


def demand(found: object, expected: object, what: str) -> None:
    """End with an error unless they are the same: what read less than it should was not fast."""
    if found != expected:
        sys.exit(f"{what}: found {found}, expected {expected}")


def _processors() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
