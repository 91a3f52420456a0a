"""A tree by its name, made when it is asked for, kept for later runs."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Unavailable
from benchmarks.trees import account

_DONE = ".complete"


@dataclass(frozen=True, slots=True)
class Tree:
    """`make` fills an empty directory, or raises Unavailable. `version` changes with what it makes."""

    name: str
    about: str
    make: Callable[[Path], None]
    version: int = 1


def made(tree: Tree, trees: Path) -> Path:
    """The tree below the directory `trees`; what an interrupted run left half-made is made anew. Raises Unavailable."""
    path, marker = trees / tree.name, trees / f"{tree.name}{_DONE}"
    if marker.exists() and marker.read_text() == str(tree.version):
        return path
    marker.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        tree.make(path)
        account.write(path)
    except OSError as error:
        raise Unavailable(f"{tree.name}: {error}") from error
    # A tree that was just written would be read from pages that are still to be written.
    os.sync()
    marker.write_text(str(tree.version))
    return path
