"""A report as a page of Markdown: goals, overhead, times, costs, and what could not be measured; touches no file."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from benchmarks.model import EVERYBODY, ClientCosts, Key, Report, Result, Sample, State
from benchmarks.report.goals import NOT_RUN, Outcome, Verdict, outcomes
from benchmarks.report.relative import overhead, seconds, standard
from benchmarks.report.statistics import spread
from benchmarks.report.tables import NOTHING, TIMES, count, figure, interval, table

_Taken = TypeVar("_Taken")
_FOOTNOTE = "†"
_MEGABYTE = 1e6
_READING = tuple(state for state in State if state is not State.NONE)


def page(report: Report, plots: Sequence[str] = (), *, level: int = 2) -> str:
    """All of it; `plots` are lines that show pictures, `level` is that of its headings."""
    sections = (
        ("This run", _setting(report)),
        ("Goals", _goals(outcomes(report))),
        ("Plots", "\n\n".join(plots) + "\n" if plots else ""),
        ("Overhead", _overhead(report)),
        ("Other work", _others(report)),
        ("Times", _times(report)),
        ("What the client takes", _costs(report)),
        ("Requests of the kernel", _fuse(report)),
        ("What the work says of itself", _figures(report)),
        ("What was not measured", _troubles(report)),
    )
    return "\n".join(f"{'#' * level} {title}\n\n{text}" for title, text in sections if text)


# --- what ran -------------------------------------------------------------------------------------------------------------


def _setting(report: Report) -> str:
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.started))
    minutes = figure(report.seconds / 60)
    return (
        f"    {report.command}\n\n"
        f"Begun {started}, done {minutes} minutes later. Figures are medians, with their intervals in brackets.\n\n"
        + table(("", ""), report.setting.items(), numbers_from=2)
    )


# --- goals ----------------------------------------------------------------------------------------------------------------


def _goals(found: Sequence[Outcome]) -> str:
    """Those whose work was not in the run are only named."""
    counts = [f"{sum(each.verdict is verdict for each in found)} {verdict}" for verdict in Verdict]
    rows = [(each.goal.work, _limit(each), _reached(each), _verdict(each)) for each in found if each.why != NOT_RUN]
    others = [each.goal.work for each in found if each.why == NOT_RUN]
    parts = (
        f"Of {len(found)} goals: {', '.join(counts)}.\n",
        table(("goal", "at most", "measured", ""), rows),
        f"Not in this run: {'; '.join(others)}.\n" if others else "",
    )
    return "\n".join(filter(None, parts))


def _limit(outcome: Outcome) -> str:
    goal = outcome.goal
    unit = f"{TIMES} {goal.against}" if goal.against else goal.measure.unit
    return f"{figure(goal.limit)} {unit}"


def _reached(outcome: Outcome) -> str:
    return interval(outcome.figure)


def _verdict(outcome: Outcome) -> str:
    if outcome.verdict is Verdict.UNKNOWN:
        return f"{outcome.verdict}: {outcome.why}"
    words = {Verdict.MET: "met", Verdict.MISSED: "**not met**"}[outcome.verdict]
    return f"{words}, within noise of it" if outcome.close else words


# --- overhead -------------------------------------------------------------------------------------------------------------


def _overhead(report: Report) -> str:
    rows = [_overhead_row(report, *row) for row in _works(report)]
    if not rows:
        return ""
    text = (
        "How many times the seconds that a local directory takes in the same state, in turns with it. Cold: nothing is "
        "cached on either side. Warm: the client's cache is full, the kernel has nothing. Hot: done just before.\n\n"
    ) + table(("workload", "link", "by", *_READING), rows, numbers_from=3)
    if any(_FOOTNOTE in cell for row in rows for cell in row):
        text += f"\n{_FOOTNOTE} by another contest of this run: the local directory takes no part in this one.\n"
    return text


def _works(report: Report) -> list[tuple[str, str, str]]:
    """Workload, link and contestant of whatever reads, each once, in order."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for result in report.results:
        for name in result.samples:
            if result.key.state is not State.NONE and overhead(report, result.key, name):
                rows.setdefault((result.key.workload, str(result.key.link)), {})[name] = None
    return [(*work, name) for work, names in rows.items() for name in names]


def _overhead_row(report: Report, workload: str, link: str, contestant: str) -> tuple[str, ...]:
    cells: dict[State, str] = dict.fromkeys(_READING, NOTHING)
    for result in report.results:
        key = result.key
        if (key.workload, str(key.link)) == (workload, link) and (found := overhead(report, key, contestant)):
            cells[key.state] = interval(found.spread) + (f" {_FOOTNOTE}" if found.standard.elsewhere else "")
    return (workload, link, contestant, *cells.values())


def _others(report: Report) -> str:
    rows = [
        (result.key.workload, name, interval(spread(seconds(samples))), _times_standard(report, result.key, name))
        for result, name, samples in _all_samples(report)
        if result.key.state is State.NONE
    ]
    return table(("work", "by", "seconds", "relative"), rows, numbers_from=2)


def _times_standard(report: Report, key: Key, contestant: str) -> str:
    found, measure = overhead(report, key, contestant), standard(report, key)
    return f"{interval(found.spread)} {TIMES} {measure.contestant}" if found and measure else NOTHING


# --- figures --------------------------------------------------------------------------------------------------------------


def _times(report: Report) -> str:
    rows = [
        (
            str(result.key),
            name,
            str(len(samples)),
            interval(spread(seconds(samples))),
            figure(_middle(_processor, samples)),
        )
        for result, name, samples in _all_samples(report)
        if result.key.state is not State.NONE
    ]
    return table(("workload", "by", "repetitions", "seconds", "CPU seconds of the work"), rows, numbers_from=2)


def _processor(sample: Sample) -> float:
    return sample.cpu_seconds


def _costs(report: Report) -> str:
    rows = [
        (str(result.key), name, *_costs_row([sample.client for sample in samples if sample.client]))
        for result, name, samples in _all_samples(report)
        if any(sample.client for sample in samples)
    ]
    head = (
        "workload",
        "by",
        "CPU seconds",
        "memory, MB",
        "peak, MB",
        "HTTP requests",
        "MB on the wire",
        "FUSE requests",
        "switches",
    )
    text = "The client's own process, beside the work; memory at its end, and the most that it ever was.\n\n"
    return text + table(head, rows, numbers_from=2) if rows else ""


def _costs_row(costs: Sequence[ClientCosts]) -> tuple[str, ...]:
    measured: tuple[Callable[[ClientCosts], float], ...] = (
        lambda each: each.cpu_seconds,
        lambda each: each.resident / _MEGABYTE,
        lambda each: each.peak / _MEGABYTE,
    )
    counted: tuple[Callable[[ClientCosts], float], ...] = (
        lambda each: each.requests,
        lambda each: sum(each.fuse.values()),
        lambda each: each.switches,
    )
    cpu, resident, peak = (figure(_middle(take, costs)) for take in measured)
    requests, fuse, switches = (count(_middle(take, costs)) for take in counted)
    wire = figure(_middle(lambda each: each.wire_bytes / _MEGABYTE, costs))
    return (cpu, resident, peak, requests, wire, fuse, switches)


def _fuse(report: Report) -> str:
    rows = []
    for result, name, samples in _all_samples(report):
        counts = _medians([sample.client.fuse for sample in samples if sample.client])
        if any(counts.values()):
            kinds = sorted(counts.items(), key=lambda each: -each[1])
            rows.append(
                (str(result.key), name, ", ".join(f"{kind} {count(number)}" for kind, number in kinds if number))
            )
    return table(("workload", "by", "requests"), rows, numbers_from=3)


def _figures(report: Report) -> str:
    """What is the same for all who did a work (it is how much there was to do) is said once."""
    told: dict[str, dict[tuple[str, str], str]] = {}
    for result, name, samples in _all_samples(report):
        found = _medians([sample.figures for sample in samples])
        text = ", ".join(f"{word} {count(value)}" for word, value in found.items())
        told.setdefault(result.key.workload, {})[str(result.key), name] = text
    rows: list[tuple[str, str, str]] = []
    for workload, texts in told.items():
        alike = len(texts) > 1 and len(set(texts.values())) == 1
        rows += (
            [(workload, "all", next(iter(texts.values())))] if alike else [(*who, text) for who, text in texts.items()]
        )
    return table(("work", "by", "figures"), [row for row in rows if row[-1]], numbers_from=3)


def _medians(counted: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each name; a repetition that does not name it had none of it."""
    names = dict.fromkeys(name for each in counted for name in each)
    return {name: spread([each.get(name, 0) for each in counted]).median for name in names}


def _middle(take: Callable[[_Taken], float], values: Sequence[_Taken]) -> float:
    return spread([take(value) for value in values]).median


def _all_samples(report: Report) -> Iterator[tuple[Result, str, tuple[Sample, ...]]]:
    for result in report.results:
        for name, samples in result.samples.items():
            if samples:
                yield result, name, samples


# --- what is missing ------------------------------------------------------------------------------------------------------


def _troubles(report: Report) -> str:
    """One line for a contestant and a reason, however many contests it is about."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in report.results:
        for name, reason in result.troubles.items():
            reasons.setdefault((name, " ".join(reason.split())), []).append(str(result.key))
    return "".join(f"- {_who(name)}: {reason} ({_where(places)})\n" for (name, reason), places in reasons.items())


def _who(name: str) -> str:
    return "everybody" if name == EVERYBODY else f"`{name}`"


def _where(places: Iterable[str]) -> str:
    listed = list(places)
    return "; ".join(listed) if len(listed) <= 6 else f"{listed[0]} and {len(listed) - 1} other contests"
