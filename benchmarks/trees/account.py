"""What is in a tree, counted when it was made, in a file beside it: by it a workload sees that it read all of it, and rightly.

It reads a tree on a local disk, never one that is measured.
"""

import dataclasses
import json
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLES = 64
_LARGE = 1 << 24


@dataclass(frozen=True, slots=True)
class Account:
    """Paths are relative to the tree, in order, as text that os.fsencode turns back into bytes.

    `bytes` is the size of all files, `larger` the number of those that have more than one byte, `digests` the CRC-32 of some.
    """

    files: list[str]
    links: list[str]
    directories: list[str]
    bytes: int
    larger: int
    digests: Mapping[str, int]

    @property
    def paths(self) -> list[str]:
        """All entries, but the uppermost directory."""
        return [*self.files, *self.links, *self.directories]


def write(tree: Path) -> None:
    """Count the tree, and keep the account beside it, so that it is no part of what is measured."""
    _path_of(tree).write_text(json.dumps(dataclasses.asdict(_counted(tree))))


def read(tree: Path) -> Account:
    """As it was counted when the tree was made."""
    return Account(**json.loads(_path_of(tree).read_text()))


def _path_of(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.account")


def _counted(tree: Path) -> Account:
    entries = sorted(_walked(str(tree), ""))
    files = [(path, status.st_size) for path, status in entries if stat.S_ISREG(status.st_mode)]
    return Account(
        files=[path for path, _ in files],
        links=[path for path, status in entries if stat.S_ISLNK(status.st_mode)],
        directories=[path for path, status in entries if stat.S_ISDIR(status.st_mode)],
        bytes=sum(size for _, size in files),
        larger=sum(size > 1 for _, size in files),
        digests={path: zlib.crc32((tree / path).read_bytes()) for path in _samples(files)},
    )


def _walked(top: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(os.path.join(top, below)):
        path = os.path.join(below, entry.name)
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walked(top, path)


def _samples(files: Sequence[tuple[str, int]]) -> list[str]:
    """Some of them, the same for the same tree: enough that a file system that mixes up files is found out."""
    small = [path for path, size in files if 0 < size <= _LARGE]
    return sorted(small, key=lambda path: zlib.crc32(os.fsencode(path)))[:_SAMPLES]
