"""What is measured and what comes out, as values; measures nothing."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Unavailable(Exception):
    """A contestant cannot take part on this machine, and why, in one line: it is left out, not measured as something else."""


class Failed(Exception):
    """A repetition went wrong, and how, in one line: the contestant is out of this contest, the others go on."""


class State(StrEnum):
    """What is known already when the clock starts."""

    COLD = "cold"
    """Nothing is: the client's cache is empty, the kernel has nothing of this mount."""
    WARM = "warm"
    """The client's cache has all that the work needs, the kernel has nothing: as after a reboot."""
    HOT = "hot"
    """The same work was just done at the same mount."""
    NONE = "-"
    """The work reads no mount: publishing."""


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """The way between client and server: round trip in milliseconds, bandwidth in Mbit/s (0: as the machine has it)."""

    rtt: float = 0.0
    bandwidth: float = 0.0

    def __str__(self) -> str:
        """For people, empty for the machine's own."""
        words = (f"{self.rtt:g} ms" if self.rtt else "", f"{self.bandwidth:g} Mbit/s" if self.bandwidth else "")
        return ", ".join(filter(None, words))


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What is compared with what: all contestants of one key did the same work in one run, in turns."""

    workload: str
    state: State = State.NONE
    link: Link = Link()

    def __str__(self) -> str:
        """For people: `import-numpy, cold, 20 ms`."""
        words = (self.workload, "" if self.state is State.NONE else self.state.value, str(self.link))
        return ", ".join(filter(None, words))


@dataclass(frozen=True, slots=True)
class ClientCosts:
    """What the client's own process took for the work. Memory in bytes, at its end; `fuse` counts requests by kind."""

    cpu_seconds: float
    resident: int
    peak: int
    switches: int
    requests: int
    wire_bytes: int
    fuse: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition. Seconds by the clock, and of processors by the work itself; `figures` is what the work says of itself."""

    seconds: float
    cpu_seconds: float
    client: ClientCosts | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


Take = Callable[[], Sample]
"""One repetition of the work by one contestant. Raises Unavailable, or Failed."""


class Contest(Protocol):
    """One piece of work that several contestants do in turns."""

    @property
    def key(self) -> Key:
        """What it is called in results."""

    def opened(self) -> AbstractContextManager[Mapping[str, Take | Unavailable]]:
        """All contestants by name, ready; what cannot take part says why. Whatever they made is gone afterwards."""


EVERYBODY = "-"
"""In troubles: nobody could take part."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a contest: the repetitions of each contestant, by rounds, and why others have none or fewer."""

    key: Key
    samples: Mapping[str, tuple[Sample, ...]]
    troubles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `setting`: machine, versions, commit; `command`: how to have it again; `started`: seconds since the epoch."""

    command: str
    started: float
    seconds: float
    setting: Mapping[str, str]
    results: tuple[Result, ...]
