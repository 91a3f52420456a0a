"""The contest of a workload that reads: each target brought into a state, then measured; setting up is never in the time."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring.flames import recorded
from benchmarks.measuring.running import Ran, run
from benchmarks.model import ClientCosts, Failed, Key, Link, Sample, State, Take, Unavailable
from benchmarks.targets.base import Place, Target
from benchmarks.trees.base import made
from benchmarks.workloads.base import Scene, Workload


@dataclass(slots=True)
class Caches:
    """Which workload was the last one to fill the cache that a target has for a tree, and fill it completely."""

    filled_by: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """One workload, state and link, by several targets. `work` is the work directory of the run.

    In `flames`, if it is a directory, one repetition more that nobody counts leaves a flame graph of each client.
    """

    workload: Workload
    state: State
    link: Link
    targets: Sequence[Target]
    work: Path
    caches: Caches = field(default_factory=Caches)
    flames: Path | None = None

    @property
    def key(self) -> Key:
        """What it is called in results."""
        return Key(self.workload.name, self.state, self.link)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Mapping[str, Take | Unavailable]]:
        """Trees are made and published here, and mounts that are to be hot are mounted for all of the contest."""
        with contextlib.ExitStack() as stack:
            contestants = {target.name: self._ready(target, stack) for target in self.targets}
            yield contestants
        for target in self.targets if self.flames else ():
            if not isinstance(contestants[target.name], Unavailable):
                self._picture(target)

    def _ready(self, target: Target, stack: contextlib.ExitStack) -> Take | Unavailable:
        try:
            _require(self.workload)
            target.hold(self.workload.tree)
            if self.state is State.HOT:
                return self._hot(target, stack)
            if self.state is State.WARM:
                self._fill(target)
            return lambda: self._once(target, self.state)
        except Unavailable as reason:
            return reason
        except (Failed, OSError) as error:
            return Unavailable(str(error))

    # --- states -------------------------------------------------------------------------------------------------------

    def _once(self, target: Target, state: State) -> Sample:
        """In a place of its own."""
        with self._place(target, state, self.link) as place:
            sample = self._measured(place) if state is State.COLD else self._measured_filled(place)
        if state is State.COLD:
            self.caches.filled_by[self._cache(target)] = self.workload.name
        return sample

    @contextlib.contextmanager
    def _place(self, target: Target, state: State, link: Link) -> Iterator[Place]:
        """Whatever becomes of it, a cache that was emptied is not full before somebody says so."""
        if state is State.COLD:
            self.caches.filled_by.pop(self._cache(target), None)
        with target.place(self.workload.tree, state, link) as place:
            yield place

    def _fill(self, target: Target) -> None:
        """The cache as a complete run of this work leaves it; where it is not already, by a run that nobody counts."""
        if self.caches.filled_by.get(self._cache(target)) == self.workload.name:
            return
        try:
            with self._place(target, State.COLD, Link()) as place:
                self._run(place)
        except Unavailable:
            # A target that is never cold has its caches as they are.
            with target.place(self.workload.tree, State.HOT, Link()) as place:
                self._run(place)
        self.caches.filled_by[self._cache(target)] = self.workload.name

    def _hot(self, target: Target, stack: contextlib.ExitStack) -> Take:
        """The work is done once by the way; what is then measured is done in the same place."""
        place = stack.enter_context(target.place(self.workload.tree, State.HOT, self.link))
        self._run(place)
        return lambda: self._measured_filled(place)

    def _measured_filled(self, place: Place) -> Sample:
        sample = self._measured(place)
        if sample.client and sample.client.requests:
            raise Failed(f"{self.state.value}, but the server was asked {sample.client.requests} times")
        return sample

    def _picture(self, target: Target) -> None:
        try:
            with self._place(target, self.state, self.link) as place:
                if self.state is State.HOT:
                    self._run(place)
                if place.pid is not None and self.flames:
                    with recorded(place.pid, self.flames / f"{file_name(self.key, target.name)}.svg"):
                        self._run(place)
        except (Unavailable, Failed) as error:
            print(f"no flame graph of {target.name}: {error}", file=sys.stderr)

    def _cache(self, target: Target) -> tuple[str, str]:
        return target.name, self.workload.tree.name

    # --- the work -----------------------------------------------------------------------------------------------------

    def _measured(self, place: Place) -> Sample:
        """What the client takes before and after the work is not the work's."""
        before = place.costs()
        ran = self._run(place)
        after = place.costs()
        return Sample(ran.seconds, ran.cpu_seconds, _between(before, after), ran.figures)

    def _run(self, place: Place) -> Ran:
        with self._scene(place) as scene:
            return run(self.workload.command(scene), self._environment(scene), self.workload.patience, scene.scratch)

    def _environment(self, scene: Scene) -> dict[str, str]:
        """Everybody's alike: no variables of those who start this, no words of their language."""
        base = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(self.work)}
        return base | dict(self.workload.environment(scene))

    @contextlib.contextmanager
    def _scene(self, place: Place) -> Iterator[Scene]:
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=self.work))
        try:
            yield Scene(place.top, made(self.workload.tree, self.work / "trees"), scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def file_name(key: Key, contestant: str) -> str:
    """Of what belongs to a contestant in a contest: letters, digits and a few signs."""
    link = [f"{key.link.rtt:g}ms", f"{key.link.bandwidth:g}mbit"] if key.link != Link() else []
    words = "-".join([key.workload, key.state.value, *link, contestant])
    return "".join(letter if letter.isalnum() or letter in "-_.=" else "_" for letter in words)


def _require(workload: Workload) -> None:
    missing = [name for name in workload.needs if shutil.which(name) is None]
    if missing:
        raise Unavailable(f"not installed here: {', '.join(missing)}")


def _between(before: ClientCosts | None, after: ClientCosts | None) -> ClientCosts | None:
    """Memory is as it is afterwards, everything else is what was added."""
    if before is None or after is None:
        return None
    counts = {name: count - before.fuse.get(name, 0) for name, count in after.fuse.items()}
    return ClientCosts(
        after.cpu_seconds - before.cpu_seconds,
        after.resident,
        after.peak,
        # The kernel forgets those of threads that have ended.
        max(0, after.switches - before.switches),
        after.requests - before.requests,
        after.wire_bytes - before.wire_bytes,
        {name: count for name, count in counts.items() if count},
    )
