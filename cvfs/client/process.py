"""What surrounds a mount in its process: limits, identity, logs, watchdog, signals; what it serves is not its matter."""

import contextlib
import ctypes
import functools
import gc
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator

from cvfs.client.mount import Mount, Reread
from cvfs.client.observe.logs import Logs
from cvfs.client.observe.watchdog import Watchdog
from cvfs.client.settings import Settings
from cvfs.client.settings.mount import ProcessSettings
from cvfs.errors import Locked, UsageError

log = logging.getLogger(__name__)

# Fields of /proc/self/stat after the command's name: where the arguments begin is the 48th of all.
_ARGUMENTS_BEGIN = 45
# New objects between two looks for cycles, of which a mount makes few; each number that is given out counts as one.
_COLLECTED_AFTER = 10_000
# For mallopt(3).
_M_ARENA_MAX = -8
# So many seconds one that wants to read the configuration waits for another.
_READ_WITHIN = 10.0


def mount_in_foreground(
    settings: Settings,
    mountpoint: str,
    *,
    allow_other: bool = False,
    reread: Reread | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Mount and serve in this process until SIGTERM, SIGINT or an unmount. Raises CvfsError.

    `on_ready` is called, by a thread, as soon as the kernel can use the mount.
    """

    def tell_ready(mount: Mount) -> None:
        if mount.wait_ready():
            on_ready()

    def on_start(mount: Mount) -> None:
        threading.Thread(target=tell_ready, args=(mount,), name="ready", daemon=True).start()

    run(settings, mountpoint, allow_other=allow_other, reread=reread, on_start=on_start)


def run(
    settings: Settings,
    mountpoint: str,
    *,
    allow_other: bool = False,
    reread: Reread | None = None,
    on_start: Callable[[Mount], None] = lambda _: None,
    descriptor: int | None = None,
) -> None:
    """Mount, call `on_start`, and serve until SIGTERM, SIGINT or an unmount. Raises CvfsError; then nothing is mounted.

    With the `descriptor` of a device what somebody else has mounted is served.
    """
    settings = settings.with_absolute_places()
    logs = Logs(settings.fqrn, settings.mount.logs)
    with contextlib.ExitStack() as at_end:
        logs.start()
        at_end.callback(logs.stop)
        share_arena()
        obey(settings.mount.process)
        watchdog = start_watchdog(settings, mountpoint)
        again = _from(_working_directory(), reread) if reread else None
        mount = Mount(
            settings,
            mountpoint,
            allow_other=allow_other,
            logs=logs,
            watchdog=watchdog,
            reread=again,
            descriptor=descriptor,
        )
        if watchdog:
            at_end.callback(_dismiss, watchdog, mount)
        mount.start()
        log.info("%s mounted on %s", settings.fqrn, mountpoint)
        unmount_on_signals(mount)
        on_start(mount)
        relieve_collector()
        mount.serve()
        log.info("%s: the mount at %s is over", settings.fqrn, mountpoint)


def _dismiss(watchdog: Watchdog, mount: Mount) -> None:
    """An abandoned mount point is the watchdog's last work."""
    if not mount.abandoned:
        watchdog.stop()


def _working_directory() -> str:
    """Somebody may start a mount where there is no directory any more: relative names would mean nothing there either."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _from(directory: str, reread: Reread) -> Reread:
    """Relative names in the configuration count from where the mount was started, and the process works elsewhere now."""
    # The directory is the whole process's: two that read at the same time would leave it where the other began.
    alone = threading.Lock()

    def read() -> Settings:
        if not alone.acquire(timeout=_READ_WITHIN):
            raise Locked("the configuration is being read already, ask again")
        try:
            with _working_in(directory):
                return reread().with_absolute_places()
        finally:
            alone.release()

    return read


@contextlib.contextmanager
def _working_in(directory: str) -> Iterator[None]:
    # By its descriptor: it may have no name any more.
    present = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _enter(directory)
        yield
    finally:
        os.fchdir(present)
        os.close(present)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}: the mount was started there, mount it again") from error


def start_watchdog(settings: Settings, mountpoint: str) -> Watchdog | None:
    """The watchdog that the settings ask for; a mount needs none in order to serve."""
    workspace = settings.mount.workspace
    if not settings.mount.watchdog or not workspace:
        return None
    watchdog = Watchdog(settings.fqrn, os.path.abspath(mountpoint), workspace, settings.mount.logs)
    try:
        watchdog.start()
    except OSError as error:
        log.warning("%s: no watchdog: %s", settings.fqrn, error.strerror)
        return None
    return watchdog


def unmount_on_signals(mount: Mount) -> None:
    """SIGTERM and SIGINT end the mount."""

    # In a thread: unmounting may ask the file system something, and this thread is the one that would answer.
    def unmount(_signal: int, _frame: object) -> None:
        threading.Thread(target=mount.unmount, name="unmount", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, unmount)


def obey(settings: ProcessSettings) -> None:
    """Limits and marks of the process; what the system refuses is logged, and the mount does without."""
    wishes: tuple[tuple[str, Callable[[], None]], ...] = (
        ("CVMFS_NFILES", functools.partial(_raise_open_files, settings.open_files)),
        ("CVMFS_OOM_SCORE_ADJ", functools.partial(_set_oom_score, settings.oom_score)),
        ("CVMFS_CPU_AFFINITY", functools.partial(_set_processors, settings.processors)),
        ("CVMFS_SYSTEMD_NOKILL", functools.partial(_mark_surviving, wanted=settings.survives_shutdown)),
    )
    for what, ask in wishes:
        try:
            ask()
        except (OSError, ValueError) as error:
            log.warning("%s cannot be obeyed: %s", what, error)


def share_arena() -> None:
    """All threads allocate from one arena; with one for each, what a thread has freed is of no use to the others.

    They would not get in each other's way less: the interpreter lets one of them run at a time. Only glibc has arenas.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def relieve_collector() -> None:
    """What is there when a mount begins to serve is there until it ends: the collector of cycles need not go through it."""
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, 20, 20)


def _raise_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard < wanted and os.geteuid() == 0:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def _set_oom_score(score: int | None) -> None:
    if score is not None:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))


def _set_processors(processors: frozenset[int]) -> None:
    if processors:
        os.sched_setaffinity(0, processors)


def _mark_surviving(*, wanted: bool) -> None:
    """systemd spares processes whose name begins with @ when it shuts down: what runs from the mount may still need it."""
    if not wanted:
        return
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    ctypes.memset(int(fields[_ARGUMENTS_BEGIN]), ord("@"), 1)
