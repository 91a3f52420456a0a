"""The one file of a tree read in a row, or here and there; keeps nothing."""

import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account

_IN_A_ROW = 1 << 20
_PIECE = 1 << 16
_PAGE = 1 << 12
_BYTES_PER_PIECE = 1 << 18
_SAMPLES = 8


def main(how: str, made: str, top: str) -> None:
    """Arguments: `sequential` or `random`, the tree as it was made, the tree that is measured."""
    known = account.read(Path(made))
    (path,) = known.files
    descriptor = os.open(os.path.join(top, path), os.O_RDONLY | os.O_CLOEXEC)
    expected = _WAYS[how][1](known.bytes)
    with clock.timed():
        size = _WAYS[how][0](descriptor, known.bytes)
    clock.demand(size, expected, "bytes")
    _compare(descriptor, Path(made, path), known.bytes)
    print(f"bytes={size}")


def _sequential(descriptor: int, _: int) -> int:
    buffer, size = bytearray(_IN_A_ROW), 0
    while count := os.readv(descriptor, [buffer]):
        size += count
    return size


def _here_and_there(descriptor: int, length: int) -> int:
    """As many pieces as would be a quarter of the file: the same ones each time."""
    generator, buffer = random.Random(2), bytearray(_PIECE)
    pages = (length - _PIECE) // _PAGE
    return sum(
        os.preadv(descriptor, [buffer], generator.randrange(pages) * _PAGE) for _ in range(length // _BYTES_PER_PIECE)
    )


def _compare(descriptor: int, made: Path, length: int) -> None:
    with made.open("rb") as original:
        for offset in range(0, length, max(_PIECE, length // _SAMPLES)):
            original.seek(offset)
            if os.pread(descriptor, _PIECE, offset) != original.read(_PIECE):
                sys.exit(f"{made.name}: other bytes at {offset}")


_WAYS: Mapping[str, tuple[Callable[[int, int], int], Callable[[int], int]]] = {
    "sequential": (_sequential, lambda length: length),
    "random": (_here_and_there, lambda length: length // _BYTES_PER_PIECE * _PIECE),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
