"""Resident memory of a client: idle, after `find`, after look-ups without end, after every file was read; in bytes."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import running
from benchmarks.measuring.running import Ran
from benchmarks.model import ClientCosts, Failed, Key, Link, Sample, State, Take, Unavailable
from benchmarks.targets.base import Place, Target
from benchmarks.trees.base import Tree, made
from benchmarks.workloads import inside
from benchmarks.workloads.base import Scene

_PATIENCE = 1800.0


@dataclass(frozen=True, slots=True)
class Memory:
    """`names` is searched and looked up in, `lookups` times; `software` is read from end to end, at a mount of its own."""

    names: Tree
    software: Tree
    lookups: int
    targets: Sequence[Target]
    work_dir: Path
    name: str = "memory"

    @property
    def key(self) -> Key:
        return Key(self.name)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Mapping[str, Take | Unavailable]]:
        yield {target.name: self._ready(target) for target in self.targets}

    def _ready(self, target: Target) -> Take | Unavailable:
        try:
            target.hold(self.names)
            target.hold(self.software)
        except (Unavailable, Failed, OSError) as error:
            return Unavailable(str(error))
        return lambda: self._once(target)

    def _once(self, target: Target) -> Sample:
        with target.place(self.names, State.COLD, Link()) as place:
            figures, names = self._of_names(place)
        with target.place(self.software, State.COLD, Link()) as place:
            reading = self._run(inside.program("every_file"), self.software, place)
            client = _costs(place)
        works = (*names, reading)
        return Sample(
            sum(ran.seconds for ran in works),
            sum(ran.cpu_seconds for ran in works),
            client,
            figures | {"after_reading": float(client.resident)},
        )

    def _of_names(self, place: Place) -> tuple[dict[str, float], tuple[Ran, Ran]]:
        """What is resident after each step."""
        idle = _costs(place).resident
        searching = self._run(inside.shell("find $1 -size +1c | wc -l", "larger"), self.names, place)
        after_find = _costs(place).resident
        looking = self._run(inside.program("lookups", str(self.lookups)), self.names, place)
        client = _costs(place)
        figures = {"idle": idle, "after_find": after_find, "after_lookups": client.resident, "peak": client.peak}
        return {name: float(figure) for name, figure in figures.items()}, (searching, looking)

    def _run(self, command: Callable[[Scene], Sequence[str]], tree: Tree, place: Place) -> Ran:
        scene = Scene(place.top, made(tree, self.work_dir / "trees"), self.work_dir)
        surroundings = {"PATH": os.environ.get("PATH", os.defpath), **inside.environment(scene)}
        return running.run(command(scene), surroundings, _PATIENCE, self.work_dir)


def _costs(place: Place) -> ClientCosts:
    costs = place.costs()
    if costs is None:
        raise Unavailable("no process of its own serves it")
    return costs
