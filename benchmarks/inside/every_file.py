"""All files of a tree read from beginning to end, as it is walked; keeps nothing."""

import os
import sys
import zlib
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account

_BUFFER = 1 << 17


def main(made: str, top: str) -> None:
    """Arguments: the tree as it was made, the tree that is measured."""
    known = account.read(Path(made))
    with clock.timed():
        files, size = _read(top, bytearray(_BUFFER))
    clock.demand(files, len(known.files), "files")
    clock.demand(size, known.bytes, "bytes")
    digests = {path: zlib.crc32(Path(top, path).read_bytes()) for path in known.digests}
    clock.demand(digests, known.digests, "checksums")
    print(f"files={files}\nbytes={size}")


def _read(top: str, buffer: bytearray) -> tuple[int, int]:
    files = size = 0
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files, size = files + 1, size + _read_file(entry.path, buffer)
    return files, size


def _read_file(path: str, buffer: bytearray) -> int:
    size = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while count := os.readv(descriptor, [buffer]):
            size += count
    finally:
        os.close(descriptor)
    return size


if __name__ == "__main__":
    main(*sys.argv[1:])
