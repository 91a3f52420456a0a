"""A recorded list of file accesses as a workload."""

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.trees.base import Tree
from benchmarks.trees.named import PYTHON
from benchmarks.trees.recorded import TRACE
from benchmarks.workloads import inside
from benchmarks.workloads.base import Workload

RECORDED = Workload(
    "replay",
    "the file accesses of an interpreter that imports numpy, one after the other",
    PYTHON,
    lambda scene: [*inside.start("replaying"), str(scene.made / TRACE), str(scene.top)],
    inside.environment,
)


def of(trace: Path, below: Path | None = None) -> Workload:
    """The same with accesses that somebody recorded (CVMFS_TRACEFILE) in a tree that is below that directory now.

    The directory is copied once, to be published; without one it is the tree `python`.
    """
    return Workload(
        f"replay-{trace.stem}",
        f"the file accesses recorded in {trace.name}",
        PYTHON if below is None else Tree(f"given-{below.resolve().name}", f"a copy of {below}", _copy_of(below)),
        lambda scene: [*inside.start("replaying"), str(trace.resolve()), str(scene.top)],
        inside.environment,
    )


def _copy_of(directory: Path) -> Callable[[Path], None]:
    def make(tree: Path) -> None:
        shutil.copytree(directory, tree, symlinks=True, dirs_exist_ok=True)

    return make
