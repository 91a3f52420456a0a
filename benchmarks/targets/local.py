"""Directories of this machine: the tree itself, or a copy of it somewhere that was named; nothing here asks a server."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import ClientCosts, Link, State, Unavailable
from benchmarks.targets import kernel_caches
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree


@dataclass(frozen=True, slots=True)
class _Directory:
    top: Path
    pid: None = None

    def costs(self) -> ClientCosts | None:
        """No process is in between."""
        return None


@dataclass(frozen=True, slots=True)
class Local:
    """The tree as it was made, on this machine's disk. COLD and WARM are the same: the kernel knows nothing of it."""

    surroundings: Surroundings
    name: str = "local"

    def hold(self, tree: Tree) -> None:
        """Made in the work directory."""
        self.surroundings.tree(tree)

    @contextlib.contextmanager
    def place(self, tree: Tree, state: State, link: Link) -> Iterator[_Directory]:
        """No link leads here. Raises Unavailable where the kernel's caches cannot be dropped."""
        _without_link(link)
        if state is not State.HOT:
            kernel_caches.drop()
        yield _Directory(self.surroundings.tree(tree))


@dataclass(frozen=True, slots=True)
class Given:
    """Another directory that holds copies of the trees, by their names: an original's mount, NFS, a CSI volume.

    Copied there if it is writable. Never COLD, for nobody here knows how to empty its caches; WARM is as for the local tree.
    """

    surroundings: Surroundings
    name: str
    directory: Path

    def hold(self, tree: Tree) -> None:
        """Raises Unavailable if the tree is not there and cannot be copied there."""
        source = self.surroundings.tree(tree)
        if (self.directory / tree.name).is_dir():
            return
        if not os.access(self.directory, os.W_OK):
            raise Unavailable(f"{self.directory}: no tree {tree.name} there: put a copy of {source} there")
        try:
            self._copy(source, tree.name)
        except (OSError, shutil.Error) as error:
            raise Unavailable(f"{self.directory / tree.name}: cannot be copied there: {error}") from error

    def _copy(self, source: Path, name: str) -> None:
        """Under another name first: half a tree is none."""
        half = self.directory / f".{name}.half"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(source, half, symlinks=True)
        half.rename(self.directory / name)
        os.sync()

    @contextlib.contextmanager
    def place(self, tree: Tree, state: State, link: Link) -> Iterator[_Directory]:
        """Raises Unavailable for COLD, and where the kernel's caches cannot be dropped."""
        _without_link(link)
        if state is State.COLD:
            raise Unavailable("nobody here knows how to empty the caches of a directory that was given")
        if state is State.WARM:
            kernel_caches.drop()
        yield _Directory(self.directory / tree.name)


def _without_link(link: Link) -> None:
    if link != Link():
        raise Unavailable("no link of ours leads there, so none can be slower")
