"""Magic attributes of the mount itself: its revision, counters, process; it holds what to ask and asks nobody before."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cvfs import __version__
from cvfs.client.magic.attributes import CONTROL_ATTRIBUTE, Magic, MagicAttributes, nothing
from cvfs.client.settings import Settings


@dataclass(frozen=True, slots=True)
class Observation:
    """What a mount knows of itself, asked for when somebody reads an attribute. Times in Unix seconds.

    `control` is the place of the control socket, `due` the time of the next check for a new revision, `requests` counts the
    kernel's requests by name, `io_errors` tells how many there were and when the last one, `log` gives the last messages,
    newest first.
    """

    control: Callable[[], str]
    due: Callable[[], float]
    started: float
    requests: Callable[[], Mapping[str, int]] = dict
    io_errors: Callable[[], tuple[int, float]] = lambda: (0, 0.0)
    log: Callable[[], str] = str


def magic_attributes(settings: Settings, observed: Observation) -> MagicAttributes:
    """All magic attributes of a mount."""
    return MagicAttributes(
        {
            CONTROL_ATTRIBUTE: Magic(lambda _: [os.fsencode(observed.control())], nothing),
            b"user.fqrn": Magic(lambda _: [settings.fqrn.encode()]),
            b"user.revision": Magic(lambda s: [str(s.repository.number).encode()]),
            b"user.root_hash": Magic(lambda s: [str(s.repository.revision.root_hash).encode()]),
            b"user.pid": Magic(lambda _: [str(os.getpid()).encode()]),
            b"user.version": Magic(lambda _: [__version__.encode()]),
        },
        settings.view.magic.visibility,
    )
