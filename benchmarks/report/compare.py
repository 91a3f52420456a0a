"""What got faster or slower between two reports, beyond noise; it never compares seconds where a ratio can be had.

Times, of the clock and of processors, are compared as ratios to the standard of their own run (relative.py), so that two
machines, or one on two days, may be compared: what is faster for all is faster for nobody. What is counted (requests, bytes,
memory) is compared as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.model import ClientCosts, Key, Report, Sample
from benchmarks.report.relative import OURS, Standard, results_by_key, standard
from benchmarks.report.statistics import ENOUGH, Spread, apart, ratio, spread


class Change(StrEnum):
    """From the first report to the second."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    UNKNOWN = "too few repetitions"


@dataclass(frozen=True, slots=True)
class Measure:
    """What is compared; less is better in all. Medians closer than `resolution` are the same: clocks tick, pages are whole.

    `standard` is what of the standard it is divided by.
    """

    name: str
    of: Callable[[Sample], float | None]
    resolution: float
    unit: str = ""
    scale: float = 1.0
    standard: Callable[[Sample], float] | None = None


def _of_client(take: Callable[[ClientCosts], float]) -> Callable[[Sample], float | None]:
    return lambda sample: take(sample.client) if sample.client else None


def _processor(client: ClientCosts) -> float:
    return client.cpu_seconds


MEASURES = (
    Measure("time", lambda sample: sample.seconds, 0.003, "s", standard=lambda sample: sample.seconds),
    Measure("client CPU", _of_client(_processor), 0.03, "s", standard=lambda sample: sample.cpu_seconds),
    Measure("client memory", _of_client(lambda client: client.peak), 2e6, "MB", 1e-6),
    Measure("HTTP requests", _of_client(lambda client: client.requests), 2),
    Measure("bytes on the wire", _of_client(lambda client: client.wire_bytes), 65536, "MB", 1e-6),
    Measure("FUSE requests", _of_client(lambda client: sum(client.fuse.values())), 20),
)
"""The client's processor time has ticks of 10 ms for each of its threads on some kernels; the standard has no client."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of one contestant in both reports. `relative_to` is empty if the figures are what they are."""

    key: Key
    contestant: str
    measure: Measure
    before: Spread
    after: Spread
    change: Change
    relative_to: str = ""

    @property
    def factor(self) -> float:
        """After to before; infinite for what was nothing."""
        if not self.before.median:
            return float("inf") if self.after.median else 1.0
        return self.after.median / self.before.median


def compared(before: Report, after: Report) -> tuple[Comparison, ...]:
    """Everything that both have, in the order of the second."""
    return tuple(
        comparison
        for key, contestant in _contestants(after)
        if contestant in _samples_by_name(before, key)
        for comparison in _comparisons(before, after, key, contestant)
    )


def only_in_one(before: Report, after: Report) -> tuple[str, ...]:
    """Contestants that the other report lacks, one line each."""
    first, second = set(_contestants(before)), set(_contestants(after))
    gone = [f"only before: {key}, {name}" for key, name in sorted(first - second)]
    return (*gone, *(f"only after: {key}, {name}" for key, name in sorted(second - first)))


def different_settings(before: Report, after: Report) -> tuple[str, ...]:
    """Lines `name: before -> after`."""
    names = dict.fromkeys([*before.setting, *after.setting])
    return tuple(
        f"{name}: {before.setting.get(name, '-')} -> {after.setting.get(name, '-')}"
        for name in names
        if before.setting.get(name) != after.setting.get(name)
    )


def got_worse(comparisons: Sequence[Comparison]) -> bool:
    """What makes the exit status of the command 1. What is not ours (`tar`, a directory that was given) makes no failure."""
    return any(each.change is Change.WORSE and each.contestant.startswith(OURS) for each in comparisons)


def told(before: Report, after: Report) -> str:
    """All of it for people: what changed first, then how many did not."""
    found = compared(before, after)
    return "".join(f"{line}\n" for line in _lines(found, only_in_one(before, after), different_settings(before, after)))


def _lines(found: Sequence[Comparison], missing: Sequence[str], settings: Sequence[str]) -> Iterator[str]:
    yield from settings
    for change in (Change.WORSE, Change.BETTER):
        for comparison in (each for each in found if each.change is change):
            yield _line(comparison)
    yield from missing
    for change in (Change.SAME, Change.UNKNOWN):
        if number := sum(comparison.change is change for comparison in found):
            yield f"{change}: {number}"
    if not found:
        yield "nothing that both have"


def _line(comparison: Comparison) -> str:
    figures = f"{_figure(comparison, comparison.before)} -> {_figure(comparison, comparison.after)}"
    what = f"{comparison.key}, {comparison.contestant}: {comparison.measure.name} {figures}"
    return f"{comparison.change}: {what} (x {comparison.factor:.2f})"


def _figure(comparison: Comparison, value: Spread) -> str:
    if comparison.relative_to:
        return f"{value.median:.2f} [{value.low:.2f}-{value.high:.2f}] times {comparison.relative_to}"
    scale, unit = comparison.measure.scale, comparison.measure.unit
    return f"{value.median * scale:.4g} [{value.low * scale:.4g}-{value.high * scale:.4g}] {unit}".rstrip()


# --- one contestant -------------------------------------------------------------------------------------------------------


def _contestants(report: Report) -> list[tuple[Key, str]]:
    return [(result.key, name) for result in report.results for name, samples in result.samples.items() if samples]


def _samples_by_name(report: Report, key: Key) -> dict[str, tuple[Sample, ...]]:
    result = results_by_key(report).get(key)
    return {name: samples for name, samples in result.samples.items() if samples} if result else {}


def _comparisons(before: Report, after: Report, key: Key, contestant: str) -> Iterator[Comparison]:
    one, other = _samples_by_name(before, key)[contestant], _samples_by_name(after, key)[contestant]
    standards = standard(before, key), standard(after, key)
    # The standard itself is not compared: what it took is in every other figure.
    if all(each and not each.elsewhere and each.contestant == contestant for each in standards):
        return
    for measure in MEASURES:
        absolute = _values(measure, one), _values(measure, other)
        if absolute[0] and absolute[1]:
            yield _comparison(key, contestant, measure, absolute, _relative(measure, one, other, standards))


def _comparison(
    key: Key,
    contestant: str,
    measure: Measure,
    absolute: tuple[list[float], list[float]],
    relative: tuple[Spread, Spread, str] | None,
) -> Comparison:
    now = spread(absolute[1])
    before, after, name = relative or (spread(absolute[0]), now, "")
    # What the change is in the measure's own unit, on the machine of the second report.
    change = abs(after.median - before.median) * (now.median / after.median if after.median else 1.0)
    found = _change(before, after, tiny=change < measure.resolution)
    return Comparison(key, contestant, measure, before, after, found, name)


def _change(before: Spread, after: Spread, *, tiny: bool) -> Change:
    if min(before.count, after.count) < ENOUGH:
        return Change.UNKNOWN
    if tiny or not apart(before, after):
        return Change.SAME
    return Change.WORSE if after.median > before.median else Change.BETTER


def _values(measure: Measure, samples: Sequence[Sample]) -> list[float]:
    return [value for sample in samples if (value := measure.of(sample)) is not None]


def _relative(
    measure: Measure,
    one: Sequence[Sample],
    other: Sequence[Sample],
    standards: tuple[Standard | None, Standard | None],
) -> tuple[Spread, Spread, str] | None:
    """Only if both reports have the same standard."""
    first, second = standards
    if not measure.standard or not first or not second:
        return None
    if (first.key, first.contestant) != (second.key, second.contestant):
        return None
    before, after = _ratio(measure, one, first), _ratio(measure, other, second)
    return (before, after, first.contestant) if before and after else None


def _ratio(measure: Measure, samples: Sequence[Sample], by: Standard) -> Spread | None:
    assert measure.standard
    theirs = [measure.standard(sample) for sample in by.samples]
    return ratio(_values(measure, samples), theirs, paired=not by.elsewhere)
