"""What every target can do: hold a tree, and show it in a given state behind a given link."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from benchmarks.model import ClientCosts, Link, State
from benchmarks.trees.base import Tree


class Place(Protocol):
    """A tree that is ready to be read."""

    @property
    def top(self) -> Path:
        """Its uppermost directory."""

    @property
    def pid(self) -> int | None:
        """The process that serves it, None if there is none."""

    def costs(self) -> ClientCosts | None:
        """What the client has taken since it was started, None if there is no process to be asked."""


class Target(Protocol):
    """A file system, with its settings, under the name it has in results."""

    @property
    def name(self) -> str:
        """As after --against."""

    def hold(self, tree: Tree) -> None:
        """Publish, copy or find the tree; once for a run. Raises Unavailable."""

    def place(self, tree: Tree, state: State, link: Link) -> AbstractContextManager[Place]:
        """The tree in that state: COLD without anything cached, WARM and HOT with the cache as the work before left it, and
        without anything in the kernel. (What makes HOT hot is that the work is done once before, in the same place.)
        Raises Unavailable if this target cannot be brought into that state."""
