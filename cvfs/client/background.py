"""A mount as a process of its own: started, reported on, detached from its terminal; what it serves is not its matter."""

import contextlib
import functools
import json
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable
from typing import NoReturn

from cvfs.client.mount import READY_WITHIN, Mount, Reread
from cvfs.client.process import run
from cvfs.client.settings import Settings
from cvfs.errors import CvfsError
from cvfs.fuse import mount_points
from cvfs.kernel.processes import see_off

log = logging.getLogger(__name__)

_ENDED_WITHIN = 1.0


def mount_in_background(
    settings: Settings, mountpoint: str, *, allow_other: bool = False, reread: Reread | None = None
) -> int:
    """Mount in a process of its own; returns its number as soon as the kernel can use the mount.

    Raises what the other process failed with. Call it before any thread is started: threads do not survive the fork.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        serve = functools.partial(run, settings, mountpoint, allow_other=allow_other, reread=reread)
        _run_detached(settings, mountpoint, _Report(writer), serve)
    os.close(writer)
    try:
        return Coming(pid, reader, mountpoint).wait()
    except MountFailed:
        mount_points.clean_dead_mount(mountpoint)
        raise


def serve_in_background(
    settings: Settings, mountpoint: str, descriptor: int, *, reread: Reread | None = None, leaving: Iterable[int] = ()
) -> "Coming":
    """Serve what was mounted elsewhere, by its device, in a process of its own, which keeps nothing else that is open here.

    What our own files are is told by `leaving`; those of our caller are known by being inheritable. Call it before any
    thread is started.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _let_go(leaving)
        serve = functools.partial(run, settings, mountpoint, reread=reread, descriptor=descriptor)
        _run_detached(settings, mountpoint, _Report(writer), serve)
    os.close(writer)
    return Coming(pid, reader, mountpoint)


def _let_go(descriptors: Iterable[int]) -> None:
    """Who reads from a pipe of our caller's waits for its end, and a device that a client died with must be closed."""
    inherited = (int(name) for name in os.listdir("/proc/self/fd"))
    for descriptor in (*descriptors, *inherited):
        # The directory that was just listed is closed already.
        with contextlib.suppress(OSError):
            if descriptor > 2 and (descriptor in descriptors or os.get_inheritable(descriptor)):
                os.close(descriptor)


class Coming:
    """A mount that another process, a child, is bringing up; `reader` is where that one reports."""

    def __init__(self, pid: int, reader: int, mountpoint: str) -> None:
        self.pid = pid
        self.mountpoint = mountpoint
        self._reader = reader

    def wait(self) -> int:
        """The number of the process as soon as the kernel can use the mount. Raises MountFailed; then it has ended."""
        with open(self._reader, "rb") as pipe:
            ready, _, _ = select.select([pipe], [], [], 2 * READY_WITHIN)
            text = pipe.read(65536) if ready else b""
        message, exit_status = (
            json.loads(text) if text else (f"{self.mountpoint}: the mount process did not come up", 1)
        )
        if message:
            _bury(self.pid)
            raise MountFailed(message, exit_status)
        return self.pid


class MountFailed(CvfsError):
    """The background process could not mount."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class _Report:
    """What the child tells its parent, once: an error's text and exit status, or that all is well."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def ready(self) -> None:
        self._send("", 0)

    def failed(self, message: str, exit_status: int) -> None:
        self._send(message, exit_status)

    def _send(self, message: str, exit_status: int) -> None:
        with self._lock:
            pipe, self._pipe = self._pipe, -1
        if pipe < 0:
            return
        # The parent may have given up waiting.
        with contextlib.suppress(OSError), open(pipe, "wb") as file:
            file.write(json.dumps([message, exit_status]).encode())


def _run_detached(settings: Settings, mountpoint: str, report: _Report, serve: Callable[..., None]) -> NoReturn:
    """The child: mount, tell the parent, serve, exit. Never returns into the caller's code."""

    def on_start(mounted: Mount) -> None:
        threading.Thread(target=_report_ready, args=(mounted, report), name="ready", daemon=True).start()
        _detach_terminal()

    status = 0
    try:
        serve(on_start=on_start)
    except CvfsError as error:
        log.debug("the mount of %s failed", settings.fqrn, exc_info=True)
        report.failed(str(error), error.exit_status)
        status = error.exit_status
    except BaseException as error:
        log.exception("the mount of %s ended", settings.fqrn)
        report.failed(f"{mountpoint}: {type(error).__name__}: {error}", 1)
        status = 1
    os._exit(status)


def _report_ready(mounted: Mount, report: _Report) -> None:
    if mounted.wait_ready():
        # Not earlier: autofs lets only the process group of its daemon look at a place that it is about to mount.
        os.setsid()
        report.ready()
    else:
        report.failed(f"{mounted.mountpoint}: the kernel does not answer", 1)


def _bury(pid: int) -> None:
    """A process that failed may still be on its way out."""
    see_off(pid, _ENDED_WITHIN)
    # Where the ends of children are ignored, the kernel has buried it.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _detach_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir("/")
