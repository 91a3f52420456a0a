"""stat(2) of every path of a tree, in no order that a directory has, several times over; lists no directory."""

import os
import random
import stat
import sys
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account

ROUNDS = 5


def main(made: str, top: str) -> None:
    """Arguments: the tree as it was made, the tree that is measured."""
    known = account.read(Path(made))
    paths = [os.path.join(top, path) for path in known.paths]
    random.Random(1).shuffle(paths)
    with clock.timed():
        found = [os.lstat(path) for _ in range(ROUNDS) for path in paths]
    size = sum(status.st_size for status in found if stat.S_ISREG(status.st_mode))
    clock.demand(size, ROUNDS * known.bytes, "bytes in files")
    print(f"calls={len(found)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
