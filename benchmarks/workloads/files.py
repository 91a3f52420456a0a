"""Workloads that read files from beginning to end, many small ones, or parts of a large one."""

from benchmarks.trees.named import LARGE, SOFTWARE
from benchmarks.workloads import inside
from benchmarks.workloads.base import Workload

_PATIENCE = 1200.0
# It is in some files only, and grep stops in none of the others.
_WANTED = "SharedMemoryManager"


def _shell(name: str, about: str, line: str, expected: str) -> Workload:
    """Named like the program that does it. GNU tar and grep read nothing for /dev/null, so that they write to a pipe."""
    command, needs = inside.shell(line, expected), ("bash", "wc", name)
    return Workload(name, about, SOFTWARE, command, inside.environment, needs=needs, patience=_PATIENCE)


def _large(name: str, about: str, how: str) -> Workload:
    return Workload(name, about, LARGE, inside.program("large_file", how), inside.environment)


READ_ALL = Workload(
    "read-all",
    "every file from beginning to end",
    SOFTWARE,
    inside.program("every_file"),
    inside.environment,
    patience=_PATIENCE,
)
TAR = _shell("tar", "an archive of it all", 'tar -C "$1" -cf - . | wc -c', "archived")
GREP = _shell("grep", "a word looked for in all files", f'grep -rlF {_WANTED} "$1" | wc -l', "some")
LARGE_SEQUENTIAL = _large("large-sequential", "a large file from beginning to end, 1 MiB at a time", "sequential")
LARGE_RANDOM = _large("large-random", "a quarter of a large file, 64 KiB here and there", "random")
WORKLOADS = (READ_ALL, TAR, GREP, LARGE_SEQUENTIAL, LARGE_RANDOM)
