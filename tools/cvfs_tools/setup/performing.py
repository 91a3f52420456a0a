"""A set-up carried out: planned against what is there, remembered, done, and its commands run."""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cvfs.errors import Locked, UsageError
from cvfs_tools.setup.changing import clear_directories, replace, take_back
from cvfs_tools.setup.draft import Change, Draft
from cvfs_tools.setup.plan import Command, Section
from cvfs_tools.setup.record import Done, DoneSection, Record, read_record, write_record

COMMAND_DEADLINE = 180.0
"""Seconds that a command of the system may take."""

_UNMOUNTED_WITHIN = 30.0
_SYSTEMD = "/run/systemd/system"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be done, or was: changes of files, commands in order, and places left alone because they were changed."""

    changes: list[Change]
    before: tuple[Command, ...]
    after: tuple[Command, ...]
    left: tuple[str, ...] = ()


Tell = Callable[[str], None]


class SetUp:
    """The set-up of one machine, or of the files of one below `root`."""

    def __init__(self, root: str = "/", *, force: bool = False) -> None:
        self._root = root
        self._force = force
        self._draft = Draft(root)
        self._old: Record = {}
        self._new: Record = {}

    def plan(self, sections: list[Section], *, start: bool = True) -> Outcome:
        """What it takes to have these sections in place of earlier ones of their names. Raises UsageError, FormatError."""
        self._read()
        for section in sections:
            old = self._old.get(section.name, DoneSection())
            self._new[section.name] = replace(self._draft, old, section, force=self._force)
        changes = self._draft.changes()
        replaced = [self._old[section.name] for section in sections if section.name in self._old]
        stops = _unique(old.stop for old in replaced)
        reloads = _unique([*(section.reload for section in sections), *(old.reload for old in replaced)])
        starts = _unique(section.start for section in sections) if start else ()
        return Outcome(changes, stops if changes else (), (reloads if changes else ()) + starts)

    def plan_removal(self) -> Outcome:
        """What it takes to have things as they were before the first set-up. Raises UsageError, FormatError."""
        self._read()
        for name, section in reversed(self._old.items()):
            self._new[name] = take_back(self._draft, section, force=self._force)
        clear_directories(self._draft, self._old.values())
        stops = _unique(section.stop for section in self._old.values())
        reloads = _unique(section.reload for section in self._old.values())
        left = tuple(one.place for section in self._new.values() for one in section.done)
        return Outcome(self._draft.changes(), stops, reloads, left)

    def perform(self, outcome: Outcome, tell: Tell) -> None:
        """Do it, and remember it. Raises UsageError, once everything was tried, if a command failed."""
        failed = list(self._run(outcome.before, tell))
        # Remembered before it is done: what an interrupted set-up did can be taken back.
        write_record(self._root, _both(self._old, self._new))
        try:
            self._draft.perform()
        except OSError as error:
            raise UsageError(
                f"{error.filename}: {error.strerror}: only a part was done, --remove takes it back"
            ) from error
        write_record(self._root, self._new)
        failed += self._run(outcome.after, tell)
        self._draft.clear_mountpoints(_UNMOUNTED_WITHIN)
        if failed:
            raise UsageError(f"the files are as they should be, but {failed[0]}")

    def _read(self) -> None:
        if not os.path.isdir(self._root):
            raise UsageError(f"{self._root}: no such directory")
        self._old = read_record(self._root)
        self._new = dict(self._old)

    def _run(self, commands: tuple[Command, ...], tell: Tell) -> Iterator[str]:
        """What failed."""
        for command in commands:
            if reason := self._not_here(command):
                tell(f"not run ({reason}): {' '.join(command)}")
            elif failure := _failure(command):
                yield f"{' '.join(command)}: {failure}"

    def _not_here(self, command: Command) -> str:
        if not is_this_machine(self._root):
            return f"the machine of {self._root} is not running"
        if command[0] == "systemctl" and not os.path.isdir(_SYSTEMD):
            return "no systemd is running"
        return ""


@contextlib.contextmanager
def alone(root: str) -> Iterator[None]:
    """Nobody else sets this machine up meanwhile: what is planned would not be what is found. Raises Locked, UsageError."""
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{root}: {error.strerror}: name the directory of a machine's files") from error
    try:
        _lock(top, root)
        yield
    finally:
        os.close(top)


def _lock(descriptor: int, root: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Locked(f"{root}: another cvfs setup is at work there: wait for it, and set up again") from error


def is_this_machine(root: str) -> bool:
    """Whether a tree is what we run from, and not the files of another machine."""
    return os.path.realpath(root) == "/"


def _failure(command: Command) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_DEADLINE, check=False
        )
    except OSError as error:
        return error.strerror or str(error)
    except subprocess.TimeoutExpired:
        return f"took longer than {COMMAND_DEADLINE:.0f} s"
    if done.returncode == 0:
        return ""
    return done.stderr.decode(errors="replace").strip().replace("\n", "; ") or f"exit status {done.returncode}"


def _unique(groups: Iterable[tuple[Command, ...]]) -> tuple[Command, ...]:
    return tuple(dict.fromkeys(command for group in groups for command in group))


def _both(old: Record, new: Record) -> Record:
    return {name: _joined(old.get(name, DoneSection()), new.get(name, DoneSection())) for name in {**old, **new}}


def _joined(old: DoneSection, new: DoneSection) -> DoneSection:
    places: dict[tuple[str, tuple[bytes, ...]], Done] = {(one.place, one.lines): one for one in (*old.done, *new.done)}
    return DoneSection(tuple(places.values()), new.stop or old.stop, new.reload or old.reload)
