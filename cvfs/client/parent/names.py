"""Where each name in the parent mount stands, and what the kernel is to be told of it; no protocol, no clock, no process.

A mount cannot be made inside a request for its mount point: the kernel holds locks that the mount needs. So the first request
for a name is answered at once: there is a directory. Whatever is asked of that directory while nothing is mounted on it is
answered STALE, as soon as somebody holds the directory so that its name cannot be forgotten. The kernel then walks the whole
path again and asks for the name once more, without any lock: this request waits until the repository is mounted, and the walk
goes on in it.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

FIRST_NODE = 2
REMEMBERED = 1000
"""So many names the kernel has forgotten are kept before those that mean nothing any more are dropped."""


class Answer(Enum):
    """What the kernel is told."""

    PRESENT = "a directory, to be asked for again at the next access"
    LASTING = "a directory, and it stays one"
    ABSENT = "no such name"
    STALE = "walk the whole path again"


class Standing(Enum):
    """How far a repository is on its way to being mounted."""

    IDLE = "not mounted"
    WANTED = "somebody asked for what is in it"
    MOUNTING = "a process mounts it"
    MOUNTED = "mounted"
    FAILED = "could not be mounted a moment ago"


class Reply(NamedTuple):
    """An answer to a request, about a node."""

    unique: int
    answer: Answer
    node: int


class Held(NamedTuple):
    """A request for a name that waits, and the thread that asks."""

    unique: int
    asker: int


@dataclass(slots=True)
class Name:
    """A name somebody asked for. `held` are the requests that wait: for what is in it, and for the name itself."""

    text: bytes
    node: int
    references: int = 0
    standing: Standing = Standing.IDLE
    failed_until: float = 0.0
    held_inside: list[int] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def has_failed(self, now: float) -> bool:
        """Whether it could not be mounted a moment ago."""
        return self.standing is Standing.FAILED and now < self.failed_until


class Names:
    """All names. Any thread may call; what is returned is to be sent. Times are those of a clock that only goes forward.

    `ours` tells whether a thread is of one of our own processes, who never wait: they do what others wait for.
    """

    def __init__(self, ours: Callable[[int], bool]) -> None:
        self._ours = ours
        self._lock = threading.Lock()
        self._by_text: dict[bytes, Name] = {}
        self._by_node: dict[int, Name] = {}
        self._nodes = itertools.count(FIRST_NODE)

    def lookup(self, text: bytes, unique: int, now: float, asker: int) -> Reply | None:
        """A name is asked for by a thread; None: it is answered later."""
        with self._lock:
            name = self._by_text.get(text) or self._new(text, now)
            if name.standing is Standing.MOUNTED:
                return _counted(name, unique, Answer.LASTING)
            if name.standing is Standing.MOUNTING and not self._ours(asker):
                name.held.append(Held(unique, asker))
                return None
            if name.has_failed(now) and not self._ours(asker):
                return Reply(unique, Answer.ABSENT, name.node)
            return _counted(name, unique, Answer.PRESENT)

    def ask_inside(self, node: int, unique: int, now: float) -> tuple[Reply | None, bytes]:
        """Another process asks something of a directory that nothing covers: an answer if there is one now.

        A text means that this name is to be mounted, or looked at if it was.
        """
        with self._lock:
            name = self._by_node[node]
            if name.standing is Standing.MOUNTING or name.has_failed(now):
                return Reply(unique, Answer.STALE, node), b""
            name.held_inside.append(unique)
            if name.standing is Standing.WANTED:
                return None, b""
            name.standing = Standing.WANTED
            return None, name.text

    def begin(self, text: bytes) -> list[Reply]:
        """The directory is held, and somebody is about to mount on it."""
        with self._lock:
            name = self._by_text[text]
            name.standing = Standing.MOUNTING
            return _released_inside(name)

    def spare(self, text: bytes) -> list[Reply]:
        """Somebody has become one of ours, and may have asked before."""
        with self._lock:
            name = self._by_text[text]
            spared = [held for held in name.held if self._ours(held.asker)]
            name.held = [held for held in name.held if held not in spared]
            return [_counted(name, held.unique, Answer.PRESENT) for held in spared]

    def mounted(self, text: bytes) -> list[Reply]:
        """It is mounted."""
        with self._lock:
            name = self._by_text[text]
            name.standing = Standing.MOUNTED
            held, name.held = name.held, []
            return _released_inside(name) + [_counted(name, one.unique, Answer.LASTING) for one in held]

    def failed(self, text: bytes, until: float) -> list[Reply]:
        """It could not be mounted; up to that time it does not exist."""
        with self._lock:
            name = self._by_text[text]
            name.standing, name.failed_until = Standing.FAILED, until
            held, name.held = name.held, []
            return _released_inside(name) + [Reply(one.unique, Answer.ABSENT, name.node) for one in held]

    def gone(self, text: bytes) -> None:
        """It is mounted no more; the next access mounts it."""
        with self._lock:
            name = self._by_text.get(text)
            if name is not None and name.standing is Standing.MOUNTED:
                name.standing = Standing.IDLE

    def take_back(self, unique: int) -> bool:
        """Nobody waits for a request any more; False if it has been answered."""
        with self._lock:
            return any(_taken_back(name, unique) for name in self._by_text.values())

    def forget(self, node: int, count: int) -> None:
        """The kernel gives back references."""
        with self._lock:
            name = self._by_node.get(node)
            if name is not None:
                name.references -= count

    def all_mounted(self) -> list[tuple[bytes, int]]:
        """What a listing shows: texts and nodes."""
        with self._lock:
            return [(name.text, name.node) for name in self._by_text.values() if name.standing is Standing.MOUNTED]

    def __contains__(self, node: int) -> bool:
        with self._lock:
            return node in self._by_node

    def _new(self, text: bytes, now: float) -> Name:
        if len(self._by_text) >= REMEMBERED:
            self._drop_forgotten(now)
        name = Name(text, next(self._nodes))
        self._by_text[text] = self._by_node[name.node] = name
        return name

    def _drop_forgotten(self, now: float) -> None:
        idle = (Standing.IDLE, Standing.FAILED)
        for name in list(self._by_text.values()):
            if name.references <= 0 and name.standing in idle and not name.has_failed(now):
                del self._by_text[name.text], self._by_node[name.node]


def _counted(name: Name, unique: int, answer: Answer) -> Reply:
    name.references += 1
    return Reply(unique, answer, name.node)


def _taken_back(name: Name, unique: int) -> bool:
    waiting = len(name.held) + len(name.held_inside)
    name.held = [held for held in name.held if held.unique != unique]
    name.held_inside = [held for held in name.held_inside if held != unique]
    return len(name.held) + len(name.held_inside) < waiting


def _released_inside(name: Name) -> list[Reply]:
    held, name.held_inside = name.held_inside, []
    return [Reply(unique, Answer.STALE, name.node) for unique in held]
