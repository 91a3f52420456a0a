"""What is in a tree, counted when it was made, in a file beside it: by it a workload sees that it read all of it, and rightly.

It reads a tree on a local disk, never one that is measured.
"""

import json
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

SAMPLES = 64
_LARGE = 1 << 24


def path_of(tree: Path) -> Path:
    """Where the account of a tree is kept: beside it, so that it is no part of what is measured."""
    return tree.with_name(f"{tree.name}.account")


def write(tree: Path) -> None:
    """Count it. Paths are kept as text that os.fsencode turns back into bytes, relative to the tree, in order."""
    entries = sorted(_walked(str(tree), ""))
    files = [(path, status.st_size) for path, status in entries if stat.S_ISREG(status.st_mode)]
    links = [path for path, status in entries if stat.S_ISLNK(status.st_mode)]
    directories = [path for path, status in entries if stat.S_ISDIR(status.st_mode)]
    counted = {
        "bytes": sum(size for _, size in files),
        "larger": sum(size > 1 for _, size in files),
        "files": [path for path, _ in files],
        "links": links,
        "directories": directories,
        "digests": {path: _digest(tree / path) for path in _samples(files)},
    }
    path_of(tree).write_text(json.dumps(counted))


def _walked(top: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(os.path.join(top, below)):
        path = os.path.join(below, entry.name)
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walked(top, path)


def _samples(files: list[tuple[str, int]]) -> list[str]:
    """Some of them, the same for the same tree: enough that a file system that mixes up files is found out."""
    small = [path for path, size in files if 0 < size <= _LARGE]
    return sorted(small, key=lambda path: zlib.crc32(os.fsencode(path)))[:SAMPLES]


def _digest(path: Path) -> int:
    return zlib.crc32(path.read_bytes())
