"""Workloads that read names and attributes, and no file."""

from benchmarks.trees.named import SOFTWARE
from benchmarks.workloads import inside
from benchmarks.workloads.base import Workload


def _shell(name: str, about: str, line: str, expected: str) -> Workload:
    """Named like the program that does it."""
    needs = ("bash", "wc", name.partition("-")[0])
    return Workload(name, about, SOFTWARE, inside.shell(line, expected), inside.environment, needs=needs)


FIND = _shell("find", "names of all entries", 'find "$1" | wc -l', "entries")
FIND_SIZE = _shell("find-size", "attributes of all entries: find -size +1c", 'find "$1" -size +1c | wc -l', "larger")
LS = _shell("ls-lR", "names, attributes and owners of all entries", 'ls -lR "$1" | wc -l', "listed")
STAT = Workload(
    "stat", "attributes of every path five times, in no order", SOFTWARE, inside.program("storm"), inside.environment
)
MISSING = Workload(
    "missing", "20,000 look-ups of names that are nowhere", SOFTWARE, inside.program("missing"), inside.environment
)
WORKLOADS = (FIND, FIND_SIZE, LS, STAT, MISSING)
