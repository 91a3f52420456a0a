"""Runs contests: everybody in turns, in an order that rotates, for what changes on a machine changes for all; times nothing."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.model import EVERYBODY, Contest, Failed, Key, Link, Result, Sample, Take, Unavailable

Say = Callable[[str], None]

_TROUBLE = (Failed, Unavailable, OSError, ValueError, subprocess.SubprocessError)
"""What puts one contestant out, or one contest: a run of hours goes on without it."""


def to_stderr(line: str) -> None:
    """For people who wait."""
    print(line, file=sys.stderr, flush=True)


def run(contests: Sequence[Contest], repetitions: int, say: Say = to_stderr) -> Iterator[Result]:
    """The results one by one, as they come; a contest that cannot even be prepared gives one that says why."""
    for number, contest in enumerate(contests, 1):
        say(f"[{number}/{len(contests)}] {told(contest.key)}")
        result = held(contest, repetitions)
        for line in _lines(result):
            say(f"    {line}")
        yield result


def held(contest: Contest, repetitions: int) -> Result:
    """One contest. Who fails is out; the others go on."""
    try:
        with contest.opened() as contestants:
            return _rounds(contest.key, contestants, repetitions)
    except _TROUBLE as error:
        return Result(contest.key, {}, {EVERYBODY: _told(error)})


def _rounds(key: Key, contestants: Mapping[str, Take | Unavailable], repetitions: int) -> Result:
    troubles = {name: str(reason) for name, reason in contestants.items() if isinstance(reason, Unavailable)}
    takes = {name: take for name, take in contestants.items() if not isinstance(take, Unavailable)}
    samples: dict[str, list[Sample]] = {name: [] for name in takes}
    for number in range(repetitions):
        for name in rotated([name for name in takes if name not in troubles], number):
            try:
                samples[name].append(takes[name]())
            except _TROUBLE as error:
                troubles[name] = _told(error)
    return Result(key, {name: tuple(found) for name, found in samples.items() if found}, troubles)


def rotated(names: Sequence[str], by: int) -> list[str]:
    """Each begins as often as the others."""
    turn = by % len(names) if names else 0
    return [*names[turn:], *names[:turn]]


def told(key: Key) -> str:
    """A contest's name for people."""
    words = [key.workload, *([key.state.value] if key.state.value != "-" else [])]
    if key.link != Link():
        words.append(f"rtt {key.link.rtt:g} ms")
    if key.link.bandwidth:
        words.append(f"{key.link.bandwidth:g} Mbit/s")
    return ", ".join(words)


def _told(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _lines(result: Result) -> Iterator[str]:
    """The fastest of each, and what went wrong."""
    for name, samples in result.samples.items():
        yield f"{name}: {min(sample.seconds for sample in samples):.3f} s at best of {len(samples)}"
    for name, trouble in result.troubles.items():
        yield f"{name}: {trouble}"
