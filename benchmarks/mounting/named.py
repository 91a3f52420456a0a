"""The contests of clients by name, in the sizes of the quick set and of the full one; it mounts nothing.

| contest | states | figures of samples |
|---|---|---|
| mount | cold, warm | `command_seconds`, `client_cpu_seconds`, `resident` |
| memory | | `idle`, `after_find`, `after_lookups`, `peak`, `after_reading`: bytes |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Contest, State
from benchmarks.mounting.memory import Memory
from benchmarks.mounting.mount_time import MountTime
from benchmarks.targets.base import Target
from benchmarks.trees.named import PYTHON, SOFTWARE
from benchmarks.trees.packages import names


@dataclass(frozen=True, slots=True)
class Work:
    """`contests` is given targets, the work directory, and whether the tree is to be a small one."""

    about: str
    contests: Callable[[Sequence[Target], Path, bool], Sequence[Contest]]
    quick: bool = False


def _mount(targets: Sequence[Target], work_dir: Path, small: bool) -> Sequence[Contest]:
    tree = PYTHON if small else SOFTWARE
    return [MountTime(state, tree, targets, work_dir) for state in (State.COLD, State.WARM)]


def _memory(targets: Sequence[Target], work_dir: Path, small: bool) -> Sequence[Contest]:
    if small:
        return [Memory(names(10_000), PYTHON, 20_000, targets, work_dir, "memory-small")]
    return [Memory(names(100_000), SOFTWARE, 1_000_000, targets, work_dir)]


MOUNTING: Mapping[str, Work] = {
    "mount": Work("the command that mounts, until its mount can be listed", _mount, quick=True),
    "memory": Work("what a client has in memory: idle, after find, look-ups without end, reading every file", _memory),
}
