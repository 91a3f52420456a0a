"""The one file of a tree read in a row, or here and there; keeps nothing."""

import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account

_IN_A_ROW = 1 << 20
_PIECE = 1 << 16
_PAGE = 1 << 12
_BYTES_FOR_EACH = 1 << 18
_SAMPLES = 8


def main(how: str, made: str, top: str) -> None:
    """Arguments: `sequential` or `random`, the tree as it was made, the tree that is measured."""
    known = account.read(Path(made))
    (path,) = known.files
    offsets, length = _WAYS[how](known.bytes)
    descriptor, buffer = os.open(os.path.join(top, path), os.O_RDONLY | os.O_CLOEXEC), bytearray(length)
    with clock.timed():
        size = sum(os.preadv(descriptor, [buffer], offset) for offset in offsets)
    clock.demand(size, sum(min(length, known.bytes - offset) for offset in offsets), "bytes")
    _compare(descriptor, Path(made, path), offsets[:: max(1, len(offsets) // _SAMPLES)])
    print(f"bytes={size}")


def _in_a_row(length: int) -> tuple[Sequence[int], int]:
    return range(0, length, _IN_A_ROW), _IN_A_ROW


def _here_and_there(length: int) -> tuple[Sequence[int], int]:
    """As many pieces as would be a quarter of the file: the same ones each time."""
    generator, pages = random.Random(2), (length - _PIECE) // _PAGE
    return [generator.randrange(pages) * _PAGE for _ in range(length // _BYTES_FOR_EACH)], _PIECE


def _compare(descriptor: int, made: Path, offsets: Sequence[int]) -> None:
    """Some of what was read, with what it should be."""
    with made.open("rb") as original:
        for offset in offsets:
            original.seek(offset)
            if os.pread(descriptor, _PIECE, offset) != original.read(_PIECE):
                sys.exit(f"{made.name}: other bytes at {offset}")


_WAYS: Mapping[str, Callable[[int], tuple[Sequence[int], int]]] = {"sequential": _in_a_row, "random": _here_and_there}
"""From the size of the file to the places where it is read, and how many bytes at each."""

if __name__ == "__main__":
    main(*sys.argv[1:])
