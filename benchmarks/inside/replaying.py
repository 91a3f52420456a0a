"""A list of file accesses done again, as fast as they go, in their order: lines as CVMFS_TRACEFILE has them. Records none."""

import contextlib
import csv
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.inside import clock


def main(trace: str, top: str) -> None:
    """Arguments: the file with the trace, the tree that is measured."""
    accesses = [(done, os.fsencode(top + path)) for done, path in recorded(Path(trace))]
    if not accesses:
        sys.exit(f"{trace}: no accesses in it that can be replayed")
    with clock.timed():
        for access, path in accesses:
            access(path)
    print(f"accesses={len(accesses)}")


def recorded(trace: Path) -> list[tuple[Callable[[bytes], object], str]]:
    """What was done, to which path below the top of the tree. Lines of the tracer itself are passed over."""
    with trace.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == 4]
    return [(_ACCESSES[row[1]], row[2]) for row in rows if row[1] in _ACCESSES and row[2][:1] in ("", "/")]


def _read(path: bytes) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 17):
            pass


def _look_up(path: bytes) -> None:
    """A name that is missing was looked up in vain when it was recorded, too."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)


def _attributes(path: bytes) -> None:
    os.listxattr(path, follow_symlinks=False)


# Codes of cvfs.client.observe.tracer. What is traced is what reached the client: the kernel does its own part again.
_ACCESSES: Mapping[str, Callable[[bytes], object]] = {
    "1": _read,
    "2": os.listdir,
    "3": os.readlink,
    "4": _look_up,
    "5": os.statvfs,
    "6": _look_up,
    "7": _attributes,
    "8": _attributes,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
