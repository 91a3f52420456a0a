"""What a workload that reads is: a command, run with the top of a tree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import State
from benchmarks.trees.base import Tree

READING = (State.COLD, State.WARM, State.HOT)


@dataclass(frozen=True, slots=True)
class Workload:
    """`command` is given the top of the tree and an empty directory for what is written, and takes all of the time counted.

    A command that prints a line `seconds=N` says itself how long the work took (an interpreter's start is not counted); other
    lines `name=N` become figures of the sample. `quick` ones belong to the quick set. `needs` are programs that must be there.
    `over_links`: it reads few enough files to be run cold behind a link of large latency.
    """

    name: str
    about: str
    tree: Tree
    command: Callable[[Path, Path], Sequence[str]]
    environment: Callable[[Path], Mapping[str, str]] = lambda _: {}
    states: tuple[State, ...] = READING
    quick: bool = False
    over_links: bool = False
    needs: tuple[str, ...] = field(default=())
    patience: float = 600.0
