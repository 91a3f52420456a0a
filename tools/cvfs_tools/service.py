"""cvfs service: repositories mounted and kept mounted by one process that a container can begin with; it reads none itself.

Each mount is a process of its own (`cvfs mount -f`). One that dies is started again, the first try of all decides whether the
surroundings allow mounting at all, and at the end every mount point is taken away.
"""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click

from cvfs.errors import MountError, UsageError
from cvfs.fuse import mount_points
from cvfs.interpreter import python
from cvfs.kernel import mount_table
from cvfs_tools.mounts import mount_directory, place_of
from cvfs_tools.observing import configured_repositories
from cvfs_tools.repository_options import etc_of_group
from cvfs_tools.running import one_line

_ENDING = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP))
# Statuses of a mount that lasting circumstances forbid: a parameter at fault, no right to mount.
_HOPELESS = frozenset((UsageError.exit_status, MountError.exit_status))
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_BURIED_WITHIN = 2.0


@click.command()
@click.argument("repositories", nargs=-1)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    # Container engines give ten seconds between SIGTERM and SIGKILL.
    default=7.0,
    show_default=True,
    help="Seconds that users of a mount have at the end",
)
def service(repositories: tuple[str, ...], *, grace: float) -> None:
    """Mount REPOSITORIES, by default all of CVMFS_REPOSITORIES, and keep them mounted until SIGTERM: for containers."""
    names = repositories or configured_repositories()
    if not names:
        raise UsageError("no repository to mount: set CVMFS_REPOSITORIES, names with commas between")
    directory = mount_directory()
    around = mount_table.mount_around(directory)
    if not (around and around.is_shared):
        tell(
            f"{directory} is private to this container, nobody else sees the mounts: give it as a volume that is shared"
        )
    etc = etc_of_group()
    command = (*python("cvfs_tools.cvfs_command"), *(("--etc", etc) if etc else ()))
    raise SystemExit(Service({name: place_of(name) for name in names}, grace, command).run())


def tell(message: str) -> None:
    """A line for the log of the container."""
    click.echo(f"cvfs service: {one_line(message)}", err=True)


@dataclass(slots=True)
class Kept:
    """A repository, its place, and the process that mounts it: `pid` 0 if none runs, which is started when it is `due`."""

    fqrn: str
    place: str
    pid: int = 0
    begun: float = 0.0
    due: float = 0.0
    pause: float = field(default=_FIRST_PAUSE)
    tried: bool = False

    def ended(self, now: float) -> float:
        """Note that the process has ended; seconds until the next. They double as long as none lives a minute."""
        if now - self.begun > _LONGEST_PAUSE:
            self.pause = _FIRST_PAUSE
        pause, self.pause = self.pause, min(2 * self.pause, _LONGEST_PAUSE)
        self.pid, self.due = 0, now + pause
        return pause


class Service:
    """Mounts of several repositories, given with their places. Ends those that it has started, and no others."""

    def __init__(self, places: Mapping[str, str], grace: float, command: Sequence[str]) -> None:
        self._kept = [Kept(name, place) for name, place in places.items()]
        self._grace = grace
        self._command = command
        self._status: int | None = None

    def run(self) -> int:
        """Until SIGTERM, SIGINT, SIGQUIT or SIGHUP; the exit status. The signals stay blocked."""
        # What is blocked waits for us: no signal is lost between looking and waiting, and the first process of a
        # container has no other way to hear them.
        awaited = _ENDING | {signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            while self._status is None:
                self._start_due()
                arrived = signal.sigtimedwait(awaited, self._until_due())
                self._bury(time.monotonic())
                if arrived and arrived.si_signo in _ENDING:
                    self._status = 0
        finally:
            self._end_all()
        return self._status or 0

    def _start_due(self) -> None:
        for kept in self._kept:
            if not kept.pid and kept.due <= time.monotonic():
                self._start(kept)

    def _start(self, kept: Kept) -> None:
        tell(f"mounting {kept.fqrn} at {kept.place}")
        command = [*self._command, "mount", "--foreground", kept.fqrn]
        kept.begun = time.monotonic()
        try:
            kept.pid = os.posix_spawn(command[0], command, os.environ, setsigmask=[], setsigdef=_ENDING)
        except OSError as error:
            # A limit of processes, or of memory, for the moment: the other mounts stay.
            pause = kept.ended(kept.begun)
            tell(f"the mount of {kept.fqrn} cannot be started: {error.strerror}, once more in {pause:.0f} s")

    def _until_due(self) -> float:
        waiting = [kept.due - time.monotonic() for kept in self._kept if not kept.pid]
        return max(0.0, min(waiting, default=3600.0))

    def _bury(self, now: float) -> None:
        """Take note of the dead; orphans of this container come here too, watchdogs for instance."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for kept in self._kept:
                if kept.pid == pid:
                    self._after(kept, os.waitstatus_to_exitcode(status), now)

    def _after(self, kept: Kept, status: int, now: float) -> None:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        pause = kept.ended(now)
        if not kept.tried and status in _HOPELESS:
            tell(f"{kept.fqrn} cannot be mounted here ({how}), the service ends")
            self._status = status
        elif self._status is None:
            tell(f"the mount of {kept.fqrn} ended with {how}, once more in {pause:.0f} s")
        kept.tried = True

    def _end_all(self) -> None:
        """A mount detaches itself at once and lives on for its users; who uses it after the grace loses it."""
        self._signal_all(signal.SIGTERM)
        self._wait_all(self._grace)
        for kept in self._signal_all(signal.SIGKILL):
            tell(f"{kept.fqrn} is still in use, it is taken away")
        self._wait_all(_BURIED_WITHIN)
        for kept in self._kept:
            self._clean(kept.place)

    def _signal_all(self, number: signal.Signals) -> list[Kept]:
        living = [kept for kept in self._kept if kept.pid]
        for kept in living:
            # Nobody else waits for them: the number cannot belong to another process yet.
            os.kill(kept.pid, number)
        return living

    def _wait_all(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._status = self._status or 0
        while any(kept.pid for kept in self._kept) and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, deadline - time.monotonic()))
            self._bury(time.monotonic())

    @staticmethod
    def _clean(place: str) -> None:
        try:
            mount_points.clean_dead_mount(place)
        except MountError as error:
            tell(str(error))
