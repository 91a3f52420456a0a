"""What the targets of one run share: the work directory and the trees in it; it decides nothing."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.trees.base import Tree, made


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`work` is the work directory."""

    work: Path

    def tree(self, tree: Tree) -> Path:
        """The tree as a local directory. Raises Unavailable."""
        return made(tree, self.work / "trees")
