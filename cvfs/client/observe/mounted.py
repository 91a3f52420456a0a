"""The parts of a running mount that commands and observers ask; it holds them and does nothing."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cvfs.client.data_plane import DataPlane
from cvfs.client.observe.latency import Latencies
from cvfs.client.observe.tracer import Tracer
from cvfs.client.reading import Reader
from cvfs.client.refresher import Refresher
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.client.volume import Volume


class Served(Protocol):
    """What the server of a mount counts."""

    def counters(self) -> Mapping[str, int]:
        """Requests so far, by name of the operation."""

    def in_flight(self) -> int:
        """Requests that wait in workers or for one."""

    def io_errors(self) -> tuple[int, float]:
        """How many requests failed with EIO, and the Unix time of the last."""

    def reset_io_errors(self) -> None:
        """Count from zero again."""


@dataclass(frozen=True, slots=True, eq=False)
class Mounted:
    """A mount at work. `started` in Unix seconds; `device` tells the device number, `reload` applies new settings,
    `watchdog` tells the process that waits for the end of this one, 0 if there is none;
    `log` gives the last messages.
    """

    mountpoint: str
    started: float
    volume: Volume
    server: Served
    refresher: Refresher
    reader: Reader
    device: Callable[[], str]
    reload: Callable[[], str]
    tracer: Tracer | None = None
    latencies: Latencies | None = None
    watchdog: Callable[[], int] = int
    log: Callable[[], str] = str

    @property
    def repository(self) -> Repository:
        """The revision that is shown now."""
        return self.volume.repository

    @property
    def settings(self) -> Settings:
        """What the mount obeys now."""
        return self.repository.settings

    @property
    def plane(self) -> DataPlane:
        """Where its bytes come from."""
        return self.repository.plane

    @property
    def pid(self) -> int:
        """The process that serves it."""
        return os.getpid()
