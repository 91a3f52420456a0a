"""What is compared with what inside of one report: nothing here is a figure of another run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.model import Key, Link, Report, Result, Sample, State
from benchmarks.report.statistics import Spread, ratio

LOCAL = "local"
OURS = "cvfs"
"""What contestants of ours begin with."""


@dataclass(frozen=True, slots=True)
class Standard:
    """What a contestant is measured by: the samples of another one, of the same contest or (`elsewhere`) of another."""

    key: Key
    contestant: str
    samples: tuple[Sample, ...]
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Overhead:
    """How many times the standard's seconds a contestant took."""

    spread: Spread
    standard: Standard


def results_by_key(report: Report) -> Mapping[Key, Result]:
    """Of two contests of one key the later counts."""
    return {result.key: result for result in report.results}


def standard(report: Report, key: Key) -> Standard | None:
    """What everybody in the contest is measured by, and None where there is nothing.

    It is the local directory in the same contest. Where it takes no part (only root can make it cold; behind a link it is the
    same), it is the local directory in the same state without a link, then hot. In contests without any, it is the first
    contestant that is not ours.
    """
    results = results_by_key(report)
    for place in _places_of_local(key):
        if place in results and (samples := results[place].samples.get(LOCAL)):
            return Standard(place, LOCAL, samples, elsewhere=place != key)
    return _first_of_others(key, results[key].samples) if key in results else None


def overhead(report: Report, key: Key, contestant: str) -> Overhead | None:
    """None for what has no samples, no standard, or is the standard itself."""
    result, measure = results_by_key(report).get(key), standard(report, key)
    if result is None or measure is None or (contestant == measure.contestant and not measure.elsewhere):
        return None
    found = ratio(seconds(result.samples.get(contestant, ())), seconds(measure.samples), paired=not measure.elsewhere)
    return None if found is None else Overhead(found, measure)


def seconds(samples: Sequence[Sample]) -> list[float]:
    """By the clock."""
    return [sample.seconds for sample in samples]


def _places_of_local(key: Key) -> Iterator[Key]:
    yield key
    if key.state is not State.NONE:
        yield Key(key.workload, key.state, Link())
        yield Key(key.workload, State.HOT, Link())


def _first_of_others(key: Key, samples: Mapping[str, tuple[Sample, ...]]) -> Standard | None:
    for name, taken in samples.items():
        if taken and not name.startswith(OURS):
            return Standard(key, name, taken)
    return None
