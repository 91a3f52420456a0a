"""Who keeps repositories mounted below the parent: mounts them when they are wanted, clears away what died or lies idle.

Nothing here may run in the thread that answers the kernel: every path below the parent mount is answered by it.
"""

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.client.parent.clients import Client
from cvfs.client.parent.kin import Kin
from cvfs.client.parent.names import Names, Reply
from cvfs.errors import CvfsError, MountError
from cvfs.fuse import mount_points
from cvfs.kernel import mounts
from cvfs.kernel.mount_table import find_mount

log = logging.getLogger(__name__)

MOUNTED_WITHIN = 60.0
"""Seconds after which who wants a repository hears that there is none."""
REFUSED_FOR = 5.0
"""Seconds for which a repository that could not be mounted does not exist."""
_ENDED_WITHIN = 5.0
_ATTEMPTS = 3

StartWords = Callable[[str], Sequence[str]]
"""The words that start the client of a repository in the foreground. Raises CvfsError if it cannot be mounted."""


@dataclass(frozen=True, slots=True)
class Where:
    """The directory of the parent mount, and how long, in seconds, a repository may lie idle in it; 0: for ever."""

    directory: str
    idle: float = 0.0

    def place(self, text: bytes) -> str:
        """Where a repository is mounted."""
        return os.path.join(self.directory, os.fsdecode(text))


class Kept(NamedTuple):
    """A repository that is mounted: its name, its client, and the mount's device number."""

    text: bytes
    client: Client
    device: str


class Keeper:
    """The clients of one parent mount. `send` takes answers for those who waited."""

    def __init__(
        self, where: Where, words: StartWords, names: Names, kin: Kin, send: Callable[[list[Reply]], None]
    ) -> None:
        self._where = where
        self._words = words
        self._names = names
        self._kin = kin
        self._send = send
        self._lock = threading.Lock()
        self._kept: list[Kept] = []
        self._bell = -1
        self._ending = False

    def start(self) -> None:
        """Start to watch the clients."""
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        threading.Thread(target=self._watch, name="keeper", daemon=True).start()

    # --- mounting -----------------------------------------------------------------------------------------------------

    def mount(self, text: bytes) -> None:
        """Mount a repository that is wanted, and let those who wait for it go on; in a thread that may wait."""
        place = self._where.place(text)
        try:
            if self._is_served(text):
                log.warning(
                    "%s is mounted, but not where it is asked for: bind %s with rslave", place, self._where.directory
                )
                self._send(self._names.mounted(text))
                return
            # While it is held, the kernel cannot forget the name that others ask for again.
            with _held(place):
                self._send(self._names.begin(text))
                self._mount(text, place)
                self._send(self._names.mounted(text))
        except CvfsError as error:
            log.warning("%s is not mounted: %s", place, error)
            self._send(self._names.failed(text, time.monotonic() + REFUSED_FOR))
        except Exception:
            log.exception("%s could not be mounted", place)
            self._send(self._names.failed(text, time.monotonic() + REFUSED_FOR))

    def _is_served(self, text: bytes) -> bool:
        """Whether it is mounted already, by a client that lives; what a dead one left is taken away."""
        place = self._where.place(text)
        if find_mount(place) is None:
            return False
        return not mount_points.clean_dead_mount(place)

    def _mount(self, text: bytes, place: str) -> None:
        """Mount it so that those who wait find it: who goes on and finds nothing hears of a stale handle."""
        for _ in range(_ATTEMPTS):
            if self._ending:
                raise MountError("the parent mount is about to end")
            self._start_client(text, place)
            if find_mount(place) is not None:
                return
        raise MountError("somebody unmounts it as soon as it is mounted")

    def _start_client(self, text: bytes, place: str) -> None:
        fqrn = os.fsdecode(text)
        client = Client(fqrn, self._words(fqrn))
        with client.start() as news:
            self._kin.add(client.pid)
            # It runs already, and may have been taken for somebody else.
            self._send(self._names.spare(text))
            try:
                client.wait_ready(news, time.monotonic() + MOUNTED_WITHIN)
            except MountError:
                self._kin.remove(client.pid)
                mount_points.clean_dead_mount(place)
                raise
        entry = find_mount(place)
        log.info("%s mounted, process %d", place, client.pid)
        with self._lock:
            self._kept.append(Kept(text, client, entry.device if entry else ""))
        os.eventfd_write(self._bell, 1)

    # --- watching -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the end: bury clients that ended, look for idle ones from time to time."""
        due = time.monotonic() + self._where.idle
        while not self._ending:
            idle = self._where.idle
            for kept in self._ended(max(0.0, due - time.monotonic()) if idle else None):
                self._bury(kept)
            if idle and time.monotonic() >= due:
                self._unmount_idle()
                due = time.monotonic() + idle

    def _ended(self, timeout: float | None) -> list[Kept]:
        """Wait for ends of clients, for a new one, or for so many seconds."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        watched = {kept.client.descriptor: kept for kept in self._all()}
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        found = [descriptor for descriptor, _ in poll.poll(None if timeout is None else 1000 * timeout)]
        if self._bell in found:
            os.eventfd_read(self._bell)
        return [watched[descriptor] for descriptor in found if descriptor in watched]

    def _bury(self, kept: Kept) -> None:
        """What a dead client leaves is taken away before anything else: until then there are errors."""
        place = self._where.place(kept.text)
        with _told():
            entry = find_mount(place)
            if entry is not None and entry.device == kept.device:
                mount_points.unmount(place, lazy=True)
                log.warning("%s: process %d died, the next access mounts it again", place, kept.client.pid)
            else:
                log.info("%s is unmounted", place)
        with self._lock:
            self._kept.remove(kept)
            is_last = all(other.text != kept.text for other in self._kept)
        if is_last:
            self._names.gone(kept.text)
        self._kin.remove(kept.client.pid)
        kept.client.bury()

    def _unmount_idle(self) -> None:
        """Take away what nobody has used since the last time; its client ends by itself."""
        for kept in self._all():
            place = self._where.place(kept.text)
            with _told():
                # Somebody may have unmounted it; the end of its client tells.
                if find_mount(place) is not None and mounts.expire(place):
                    log.info("%s was idle", place)

    def _all(self) -> list[Kept]:
        with self._lock:
            return list(self._kept)

    # --- the end ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Take all repositories away. What is in use is taken out of sight, and its client ends with its last user."""
        self._ending = True
        os.eventfd_write(self._bell, 1)
        freed = [kept.client for kept in self._all() if self._unmounted(self._where.place(kept.text))]
        deadline = time.monotonic() + _ENDED_WITHIN
        for client in freed:
            client.has_ended(max(0.0, deadline - time.monotonic()))

    @staticmethod
    def _unmounted(place: str) -> bool:
        """False if somebody uses it."""
        with _told():
            try:
                mount_points.unmount(place)
            except mounts.InUse:
                log.warning("%s is in use, its client stays until it is not", place)
                mount_points.unmount(place, lazy=True)
                return False
        return True


@contextlib.contextmanager
def _held(place: str) -> Iterator[None]:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{place}: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What fails with one repository is told, and keeps nobody from the others."""
    try:
        yield
    except CvfsError as error:
        log.warning("%s", error)
