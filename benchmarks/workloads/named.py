"""All workloads that read, by name, in the order in which reports show them; runs none."""

import dataclasses
from collections.abc import Mapping

from benchmarks.trees.base import Tree
from benchmarks.trees.named import LARGE_SMALL, PYTHON
from benchmarks.workloads import building, files, metadata, programs, replay
from benchmarks.workloads.base import Workload


def _small(workload: Workload, tree: Tree) -> Workload:
    """The same on a smaller tree, for the quick set."""
    return dataclasses.replace(workload, name=f"{workload.name}-small", tree=tree, quick=True, full=False)


_ALL = (
    *metadata.WORKLOADS,
    *files.WORKLOADS,
    *programs.WORKLOADS,
    *building.WORKLOADS,
    replay.RECORDED,
    *(_small(workload, PYTHON) for workload in (metadata.FIND_SIZE, metadata.LS, metadata.MISSING, files.READ_ALL)),
    _small(files.LARGE_SEQUENTIAL, LARGE_SMALL),
)

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in _ALL}
"""Those whose names end with `-small` are of the quick set only."""
