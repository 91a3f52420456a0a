"""What a mount shows differently from what was published, made out of the settings; it never looks at a tree."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cvfs import __version__
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings

CONTROL_ATTRIBUTE = b"user.cvfs.control"


@dataclass(frozen=True, slots=True)
class View:
    """Owner, variables in links, attributes of its own."""

    owner: tuple[int, int] | None = None
    variables: Mapping[bytes, bytes] = field(default_factory=dict)
    magic: Mapping[bytes, Callable[[], bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a mount knows of itself, asked for when somebody reads an attribute. Times in Unix seconds.

    `control` is the place of the control socket, `due` the time of the next check for a new revision, `requests` counts the
    kernel's requests by name, `log` gives the last messages, newest first.
    """

    repository: Callable[[], Repository]
    control: Callable[[], str]
    due: Callable[[], float]
    started: float
    requests: Callable[[], Mapping[str, int]] = dict
    log: Callable[[], str] = str


def view_of(settings: Settings, observed: Observation) -> View:
    """The view that the settings ask for."""
    return View(
        owner=(os.getuid(), os.getgid()) if settings.view.claim_ownership else None,
        variables=_variables(settings),
        magic={
            b"user.fqrn": settings.fqrn.encode,
            b"user.revision": lambda: str(observed.repository().number).encode(),
            b"user.root_hash": lambda: str(observed.repository().revision.root_hash).encode(),
            b"user.pid": lambda: str(os.getpid()).encode(),
            b"user.version": __version__.encode,
            CONTROL_ATTRIBUTE: lambda: os.fsencode(observed.control()),
        },
    )


def _variables(settings: Settings) -> dict[bytes, bytes]:
    variables = {**settings.variables, "CVMFS_FQRN": settings.fqrn}
    variables.setdefault("CVMFS_ARCH", os.uname().machine)
    return {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in variables.items()}
