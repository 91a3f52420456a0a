"""What a set-up comes to, as values: files, lines in files of others, links, directories, commands; it does nothing.

A plan consists of sections, each replaced as a whole by the next set-up that has one of its name: how repositories are
mounted is one, what the site says of itself another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file of our own, as a whole."""

    place: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines at the end of a file that others write too, made if it is not there.

    Each says instead of what lines of others say that match `against`, a regular expression: there cannot be both. If ours
    give way, those of others stay, and ours are left out.
    """

    place: str
    lines: tuple[bytes, ...]
    against: bytes | None = None
    gives_way: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    place: str
    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that has to be there."""

    place: str


Step = File | Lines | Link | Directory


@dataclass(frozen=True, slots=True)
class Section:
    """Steps that belong together, and the commands that make them count.

    `reload` is run after every change, `start` after they were done, `stop` before they are taken back. Commands are words;
    they are run only on the machine that is set up, never for a tree of files elsewhere.
    """

    name: str
    steps: tuple[Step, ...]
    reload: tuple[Command, ...] = ()
    start: tuple[Command, ...] = ()
    stop: tuple[Command, ...] = ()


MOUNTS, SITE = "mounts", "site"
"""The names of sections: how repositories are mounted; what the site says of itself."""


def joined(name: str, sections: Iterable[Section]) -> Section:
    """Several sections as one."""
    parts = tuple(sections)
    return Section(
        name,
        tuple(step for part in parts for step in part.steps),
        tuple(dict.fromkeys(command for part in parts for command in part.reload)),
        tuple(command for part in parts for command in part.start),
        tuple(command for part in parts for command in part.stop),
    )
