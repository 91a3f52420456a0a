"""Look-ups of names that are nowhere, as interpreters and the dynamic linker do them by the thousand; opens nothing."""

import os
import sys
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account

NAMES = 20_000


def main(made: str, top: str) -> None:
    """Arguments: the tree as it was made, the tree that is measured."""
    known = account.read(Path(made))
    directories = [os.path.join(top, path) for path in ("", *known.directories)]
    paths = [os.path.join(directories[number % len(directories)], f"libmissing{number}.so") for number in range(NAMES)]
    with clock.timed():
        found = sum(map(os.path.lexists, paths))
    clock.demand(found, 0, "names that are missing")
    print(f"calls={NAMES}")


if __name__ == "__main__":
    main(*sys.argv[1:])
