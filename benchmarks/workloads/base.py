"""What a workload that reads is: a command, run with the top of a tree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import State
from benchmarks.trees.base import Tree

READING = (State.COLD, State.WARM, State.HOT)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a command does its work: it reads below `top`, and may write to the empty directory `scratch`.

    `made` is the tree as trees.base.made() made it, on a local disk, whatever is measured: commands take from it and from its
    account, outside of the time counted, what they are to read and what they should have found.
    """

    top: Path
    made: Path
    scratch: Path


@dataclass(frozen=True, slots=True)
class Workload:
    """`command` takes all of the time counted; it ends with 0 only if it read what it should.

    A command that prints lines `seconds=N` and `cpu_seconds=N` says itself what the work took (an interpreter's start is not
    counted); other lines `name=N` become figures of the sample. `environment` is added to that of the run. `quick` ones belong
    to the quick set, `full` ones to the full set. `needs` are programs that must be there. `over_links`: it reads few enough
    files to be run cold behind a link of large latency. `patience`: seconds after which it has failed.
    """

    name: str
    about: str
    tree: Tree
    command: Callable[[Scene], Sequence[str]]
    environment: Callable[[Scene], Mapping[str, str]] = lambda _: {}
    states: tuple[State, ...] = READING
    quick: bool = False
    full: bool = True
    over_links: bool = False
    needs: tuple[str, ...] = field(default=())
    patience: float = 600.0
