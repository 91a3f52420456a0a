"""From what was asked for to the contests of a run: which workloads, states, links and targets meet; it runs none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Contest, Link, State
from benchmarks.mounting.named import MOUNTING
from benchmarks.publishing.named import PUBLISHING, contest
from benchmarks.reading import Caches, Reading
from benchmarks.targets.base import Target
from benchmarks.workloads.base import READING, Workload
from benchmarks.workloads.named import WORKLOADS
from cvfs.errors import UsageError

QUICK_RTT = 20.0
FULL_RTTS = (10.0, 20.0, 80.0)
"""A site's own network, the next one, another continent's; the goals speak of the first two."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; nothing named is the whole set, quick or full. No links are those of the set.

    `flames` is the directory for flame graphs of clients, if they are wanted. `replays` are run besides what is named.
    """

    workloads: Sequence[str] = ()
    states: Sequence[State] = READING
    links: Sequence[Link] | None = None
    full: bool = False
    flames: Path | None = None
    replays: Sequence[Workload] = ()


def planned(wishes: Wishes, targets: Sequence[Target], work: Path) -> list[Contest]:
    """The contests in the order in which they are held: what reads one tree together. Raises UsageError for unknown names."""
    unknown = [name for name in wishes.workloads if name not in names()]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no such workload: `python -m benchmarks list` shows them")
    return [*_reading(wishes, targets, work), *_mounting(wishes, targets, work), *_publishing(wishes, work)]


def names() -> Mapping[str, str]:
    """Every workload with what it is."""
    reading = {name: workload.about for name, workload in WORKLOADS.items()}
    mounting = {name: work.about for name, work in MOUNTING.items()}
    return reading | mounting | {name: work.about for name, work in PUBLISHING.items()}


def _reading(wishes: Wishes, targets: Sequence[Target], work: Path) -> Iterator[Contest]:
    caches = Caches()
    chosen = [*wishes.replays, *(workload for workload in WORKLOADS.values() if _is_chosen(workload, wishes))]
    for workload in chosen:
        for state, link in _circumstances(workload, wishes, chosen):
            yield Reading(workload, state, link, targets, work, caches, wishes.flames)


def _is_chosen(workload: Workload, wishes: Wishes) -> bool:
    if _is_told(wishes):
        return workload.name in wishes.workloads
    return workload.full if wishes.full else workload.quick


def _is_told(wishes: Wishes) -> bool:
    """Whether something was asked for by name, so that no set is run."""
    return bool(wishes.workloads or wishes.replays)


def _circumstances(workload: Workload, wishes: Wishes, chosen: Sequence[Workload]) -> Iterator[tuple[State, Link]]:
    """States in the order in which each leaves the cache that the next one needs; only what is cold asks a server."""
    links = _links(workload, wishes, chosen)
    for state in [state for state in READING if state in wishes.states and state in workload.states]:
        yield from ((state, link) for link in links if state is State.COLD or link == links[0])


def _links(workload: Workload, wishes: Wishes, chosen: Sequence[Workload]) -> Sequence[Link]:
    """Named workloads are run behind every link that was named; of a set, and with --full, those that can be."""
    if wishes.links is not None:
        named = _is_told(wishes) or workload.over_links
        return wishes.links if named else wishes.links[:1]
    if wishes.full and workload.over_links:
        return (Link(), *map(Link, FULL_RTTS))
    if _is_told(wishes) or not workload.over_links:
        return (Link(),)
    first = next(other for other in chosen if other.over_links)
    return (Link(), Link(QUICK_RTT)) if workload is first else (Link(),)


def _mounting(wishes: Wishes, targets: Sequence[Target], work: Path) -> Iterator[Contest]:
    for name, made in MOUNTING.items():
        if name in wishes.workloads or (not _is_told(wishes) and (wishes.full or made.quick)):
            yield from made.contests(targets, work, not wishes.full)


def _publishing(wishes: Wishes, work: Path) -> Iterator[Contest]:
    for name, made in PUBLISHING.items():
        if name in wishes.workloads or (not _is_told(wishes) and (wishes.full or made.quick)):
            yield contest(name, work, quick=not wishes.full)
