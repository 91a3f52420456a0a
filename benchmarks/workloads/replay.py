"""A recorded list of file accesses as a workload."""

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


def of(trace: Path, tree: Tree) -> Workload:
    """The same with accesses that somebody recorded (CVMFS_TRACEFILE) below a tree that has those paths."""
    return Workload(
        f"replay-{trace.stem}",
        f"the file accesses recorded in {trace.name}",
        tree,
        lambda scene: [*inside.start("replaying"), str(trace.resolve()), str(scene.top)],
        inside.environment,
        over_links=True,
    )
