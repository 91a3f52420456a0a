"""Look-ups by the hundred thousand, every other name is nowhere and never asked for again: what a client remembers of both."""

import itertools
import os
import sys
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account


def main(count: int, made: str, top: str) -> None:
    """Arguments: how many, the tree as it was made, the tree that is measured."""
    known = account.read(Path(made))
    paths = itertools.islice(itertools.cycle(known.files), count // 2)
    with clock.timed():
        found = sum(_looked_up(f"{top}/{path}", number) for number, path in enumerate(paths))
    clock.demand(found, count // 2, "names")
    print(f"lookups={count}")


def _looked_up(path: str, number: int) -> int:
    """How many of two are there."""
    return os.path.lexists(path) + os.path.lexists(f"{path}.{number}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
