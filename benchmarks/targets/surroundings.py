"""What the targets of one run share: the work directory, the trees in it, and the servers; it decides nothing."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import Servers
from benchmarks.trees.base import Tree, made


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`relay` False: clients ask the server directly, and nobody counts what goes over the wire."""

    work: Path
    servers: Servers
    relay: bool = True

    def tree(self, tree: Tree) -> Path:
        """The tree as a local directory. Raises Unavailable."""
        return made(tree, self.work / "trees")
