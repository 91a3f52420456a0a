"""A contest of publishers: a work that is prepared once, then done in turns, each time at a place that is new."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import called
from benchmarks.model import Failed, Key, Take, Unavailable
from benchmarks.trees.base import Tree, made


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a contest has its files: `work_dir` is kept between runs, `scratch` is removed at the end of the contest."""

    work_dir: Path
    scratch: Path

    def tree(self, tree: Tree) -> Path:
        """Made if it is not there. Raises Unavailable."""
        return made(tree, self.work_dir / "trees")

    def new(self, name: str) -> Path:
        """A path where nothing is. Nothing is removed between turns: ext4 makes files slowly for minutes after others went."""
        return Path(tempfile.mkdtemp(dir=self.scratch)) / name


Contestants = Mapping[str, Take | Unavailable]


@dataclass(frozen=True, slots=True)
class PublishingContest:
    """A `Contest`. `prepare` makes what the work needs, and says who does it."""

    key: Key
    work_dir: Path
    prepare: Callable[[Workplace], Contestants]

    @contextmanager
    def opened(self) -> Iterator[Contestants]:
        self.work_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{self.key.workload}-", dir=self.work_dir))
        try:
            yield self.prepare(Workplace(self.work_dir, scratch))
        finally:
            _remove(scratch)


def _remove(scratch: Path) -> None:
    """By `rm`, which takes half as long for millions of files; never what may still be mounted there."""
    try:
        called(["rm", "-rf", "--one-file-system", scratch], scratch.parent)
    except Failed as error:
        print(f"benchmarks: {scratch} is left: {error}", file=sys.stderr)
