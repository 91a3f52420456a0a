"""Programs run as users run them, beside each other: nothing waits to be written when one begins, its memory is looked at."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.measuring import running
from benchmarks.measuring.processes import family, peak
from benchmarks.measuring.running import Ran
from benchmarks.model import Sample, Unavailable

PATIENCE = 1800.0
_INTERVAL = 0.1


def run(
    words: Sequence[str], directory: Path, surroundings: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> tuple[Ran, Mapping[str, float]]:
    """Run a program to its end, in a directory; `peak` is its memory in bytes, of all processes as if they shared nothing.

    Who ends at once has no peak. Raises Failed, or Unavailable if there is no such program.
    """
    if shutil.which(words[0]) is None:
        raise Unavailable(f"{words[0]} is not installed")
    memory = _Memory()
    os.sync()
    ran = running.run(words, surroundings or os.environ, patience, directory, memory.watched)
    total = sum(memory.peaks.values())
    return ran, {"peak": float(total)} if total else {}


def sample(words: Sequence[str], directory: Path) -> Sample:
    """One repetition of a tool that says nothing of itself."""
    ran, figures = run(words, directory)
    return Sample(ran.seconds, ran.cpu_seconds, figures=figures)


def with_figures(sample: Sample, **figures: float) -> Sample:
    """The same repetition, of which more is known."""
    return replace(sample, figures={**sample.figures, **{name: float(figure) for name, figure in figures.items()}})


@dataclass(slots=True)
class _Memory:
    """The most that was seen of each process of a program, in bytes."""

    peaks: dict[int, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watched(self, pid: int) -> Iterator[None]:
        """Look now and then, until the context ends."""
        thread = threading.Thread(target=self._watch, args=(pid,))
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()

    def _watch(self, pid: int) -> None:
        while not self.over.wait(_INTERVAL):
            for member in family(pid):
                self.peaks[member] = max(self.peaks.get(member, 0), peak(member))
