"""Every shared library of a tree mapped and linked into one process, by dlopen; calls nothing in them."""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.inside import clock
from benchmarks.trees import account


def main(made: str, top: str) -> None:
    """Arguments: the tree as it was made, the tree that is measured."""
    paths = [os.path.join(top, path) for path in libraries(account.read(Path(made)).files)]
    if not paths:
        sys.exit(f"{made}: no shared libraries")
    with clock.timed():
        loaded = [ctypes.CDLL(path, mode=os.RTLD_NOW) for path in paths]
    print(f"libraries={len(loaded)}")


def libraries(files: Sequence[str]) -> list[str]:
    """Extension modules of packages: the linker maps what they need from `*.libs`, where it cannot be found without them."""
    found = (path for path in files if "/site-packages/" in path and path.endswith(".so"))
    return [path for path in found if not os.path.dirname(path).endswith(".libs")]


if __name__ == "__main__":
    main(*sys.argv[1:])
