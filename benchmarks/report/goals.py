"""What cvfs set itself to reach, as data, and what of it a report shows; a goal that was not measured is never met.

Each goal is a ratio inside of one run wherever there is something to divide by. Where a goal was set in seconds "there", on the
machine where the original was measured, it is divided by what the local directory took there: 0.57 s for reading all files hot,
1.5 s for the import, `cp -a` 5.1 s for the tree that is published, 26.7 s for the storage that is replicated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from benchmarks.model import EVERYBODY, Key, Link, Report, Result, Sample, State
from benchmarks.report.relative import LOCAL, results_by_key
from benchmarks.report.statistics import Spread, ratio, spread

_READ_THERE, _IMPORT_THERE, _COPY_THERE, _COPY_STORAGE_THERE = 0.57, 1.5, 5.1, 26.7
_LIKE_THERE = 100_000
"""Entries from which on a published tree is the one that the goals speak of: the quick set has a smaller one."""


NOT_RUN = "not in this run"


class Verdict(StrEnum):
    """What a report shows of a goal."""

    MET = "met"
    MISSED = "not met"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Measure:
    """What of a sample counts: None where it has no such figure. Multiply by `scale` to have it in `unit`."""

    of: Callable[[Sample], float | None]
    unit: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Against:
    """By what the figure is divided: the seconds of a contestant."""

    key: Key
    contestant: str

    def __str__(self) -> str:
        return self.contestant if self.key.state is State.NONE else f"{self.contestant} {self.key.state}"


@dataclass(frozen=True, slots=True)
class Goal:
    """`limit` is in `measure`'s unit, or a multiple of `against`. `entries`: samples that say they had fewer do not count.

    `lacking` says what cvfs cannot do yet, without which nothing that is measured is this.
    """

    work: str
    key: Key
    limit: float
    contestant: str = "cvfs"
    against: Against | None = None
    measure: Measure = Measure(lambda sample: sample.seconds, "s")
    entries: int = 0
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`figure` is in the unit of the limit; `why` says why there is none."""

    goal: Goal
    verdict: Verdict
    figure: Spread | None = None
    why: str = ""

    @property
    def close(self) -> bool:
        """Whether another run might say otherwise: the limit lies inside of the interval."""
        return self.figure is not None and self.figure.low <= self.goal.limit <= self.figure.high


def outcomes(report: Report, goals: "Sequence[Goal] | None" = None) -> tuple[Outcome, ...]:
    """One for each goal, in their order."""
    return tuple(_outcome(report, goal) for goal in (GOALS if goals is None else goals))


def _outcome(report: Report, goal: Goal) -> Outcome:
    values, why = _values(report, goal)
    if not values:
        return Outcome(goal, Verdict.UNKNOWN, why=why)
    figure = _figure(report, goal, values)
    if figure is None:
        return Outcome(goal, Verdict.UNKNOWN, why=f"{goal.against} was not measured")
    return Outcome(goal, Verdict.MET if figure.median <= goal.limit else Verdict.MISSED, figure)


def _values(report: Report, goal: Goal) -> tuple[list[float], str]:
    """Of the samples that count; or why there are none."""
    result = results_by_key(report).get(goal.key)
    if goal.lacking:
        return [], goal.lacking
    if result is None:
        return [], NOT_RUN
    samples = result.samples.get(goal.contestant, ())
    if not samples or goal.contestant in result.troubles:
        return [], _trouble(result, goal.contestant)
    if goal.entries and not all(sample.figures.get("entries", goal.entries) >= goal.entries for sample in samples):
        return [], f"the tree of this run has fewer than {goal.entries:,} entries"
    found = [value * goal.measure.scale for sample in samples if (value := goal.measure.of(sample)) is not None]
    return found, "the run has no such figure"


def _trouble(result: Result, contestant: str) -> str:
    return result.troubles.get(contestant) or result.troubles.get(EVERYBODY) or f"{contestant} took no part"


def _figure(report: Report, goal: Goal, values: list[float]) -> Spread | None:
    if goal.against is None:
        return spread(values)
    result = results_by_key(report).get(goal.against.key)
    samples = result.samples.get(goal.against.contestant, ()) if result else ()
    return ratio(values, [sample.seconds for sample in samples], paired=goal.against.key == goal.key)


def _cpu_for_each_object(sample: Sample) -> float | None:
    return sample.client.cpu_seconds / sample.client.requests if sample.client and sample.client.requests else None


def _after_reading(sample: Sample) -> float | None:
    return sample.figures.get("after_reading")


def _local_hot(workload: str) -> Against:
    return Against(Key(workload, State.HOT), LOCAL)


def _reading(work: str, workload: str, state: State, limit: float, rtt: float = 0.0) -> Goal:
    """Against the local directory, hot, without a link."""
    return Goal(work, Key(workload, state, Link(rtt)), limit, against=_local_hot(workload))


def _taught(seconds_there: float, rtt: float) -> Goal:
    work = f"import scipy.stats, sympy, networkx, taught by an earlier run, {rtt:g} ms ({seconds_there:g} s there)"
    goal = _reading(work, IMPORT, State.COLD, seconds_there / _IMPORT_THERE, rtt)
    return replace(goal, lacking="nothing is fetched ahead yet")


def _publishing(compression: str, limit: float) -> Goal:
    """Against a copy of the tree, in the same contest."""
    against = Against(Key("publish"), "cp -a")
    work = f"publish 100,050 files with {compression}"
    return Goal(work, Key("publish"), limit, f"cvfs {compression}", against, entries=_LIKE_THERE)


READ, FIND, LIST, IMPORT, LARGE = "read-all", "find-size", "ls-lR", "import-scientific", "large-sequential"

GOALS: tuple[Goal, ...] = (
    _reading("read every file, hot", READ, State.HOT, 1.15),
    _reading("`find -size +1c`, hot", FIND, State.HOT, 0.7),
    _reading("`find -size +1c`, full cache, cold kernel", FIND, State.WARM, 1.5),
    _reading("`ls -lR`, hot", LIST, State.HOT, 3.0),
    _reading("read every file, full cache, cold kernel", READ, State.WARM, 3.5),
    _reading("read every file, empty cache, 0 ms (8 s there)", READ, State.COLD, 8 / _READ_THERE),
    _reading(
        "import scipy.stats, sympy, networkx, empty cache, 0 ms (5 s there)", IMPORT, State.COLD, 5 / _IMPORT_THERE
    ),
    _reading("the same at 10 ms (9 s there)", IMPORT, State.COLD, 9 / _IMPORT_THERE, 10.0),
    _reading("the same at 20 ms (14 s there)", IMPORT, State.COLD, 14 / _IMPORT_THERE, 20.0),
    _taught(4, 0.0),
    _taught(5, 10.0),
    _taught(6, 20.0),
    _reading("import scipy.stats, sympy, networkx, hot", IMPORT, State.HOT, 1.1),
    _publishing("zstd", 1.6),
    _publishing("zlib-fast", 1.6),
    _publishing("zlib", 2.2),
    Goal(
        "publish 10 changed files in 10 catalogs of a million files, change set known (0.5 s there, of 100,050)",
        Key("publish-incremental"),
        0.5 / _COPY_THERE,
        "cvfs transaction",
        Against(Key("publish"), "cp -a"),
    ),
    Goal(
        "check every object of 100,050 files (9 s there)",
        Key("check"),
        9 / _COPY_THERE,
        "cvfs check -i",
        Against(Key("check"), "cp -a"),
    ),
    Goal(
        "replicate it, 16 connections, 0 ms (15 s there)",
        Key("replicate"),
        15 / _COPY_STORAGE_THERE,
        against=Against(Key("replicate"), "cp -a of the storage"),
    ),
    _reading("one large file from end to end, hot", LARGE, State.HOT, 1.1),
    _reading("one large file from end to end, full cache, cold kernel", LARGE, State.WARM, 1.5),
    Goal(
        "client's processor time for each cold object",
        Key(READ, State.COLD),
        0.5,
        measure=Measure(_cpu_for_each_object, "ms", 1000.0),
    ),
    Goal("resident memory after reading every file", Key("memory"), 70.0, measure=Measure(_after_reading, "MB", 1e-6)),
    Goal("mount time, empty cache", Key("mount", State.COLD), 0.4),
    Goal("mount time, full cache", Key("mount", State.WARM), 0.4),
)
"""In the order of the table in the documentation."""
