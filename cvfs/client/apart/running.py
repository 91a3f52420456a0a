"""A command with repositories of its own, from the first fork to the last process gone; it interprets no command line."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from cvfs.client.apart.attendance import attend, end_as, hold_signals
from cvfs.client.apart.inside import MOST_REPOSITORIES, Failed, Inside, Mounted
from cvfs.client.apart.wanted import Wanted
from cvfs.client.settings import Settings
from cvfs.client.settings.mount import FUSE_BINDINGS
from cvfs.errors import UsageError
from cvfs.kernel.namespaces import is_inhabited
from cvfs.kernel.processes import has_ended, see_off

log = logging.getLogger(__name__)

Clients = dict[int, str]
"""The processes that serve, by their numbers, and where what each of them serves is mounted."""

_SOON, _AT_LAST = 0.3, 10.0


def run_apart(repositories: Sequence[Wanted], command: Sequence[str], *, required: bool = True) -> int:
    """Run the command where these repositories are mounted; its exit status, or death by the signal that it died of.

    Call it before any thread is started. Raises CvfsError if they cannot be mounted, or if there is no such command; of
    repositories that are not `required` it is only told that they could not be opened.
    """
    if len(repositories) > MOST_REPOSITORIES:
        raise UsageError(f"{len(repositories)} repositories: {MOST_REPOSITORIES} at most can be mounted for a command")
    # Whoever ignores the ends of his children may have taught us so, and nobody could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    clients: Clients = {}
    inside = Inside.start(repositories, command)
    try:
        mounted = _serve(repositories, inside, clients, required=required)
        hold_signals()
        inside.go()
    except BaseException:
        inside.kill()
        _signal_all(clients, signal.SIGTERM)
        _see_off(clients)
        raise
    status = attend(inside.pid, lambda pid: _tell_of_death(clients, pid, mounted.namespace))
    # What the command left running goes on with its repositories: they end with the last one who is inside.
    if not _have_ended(clients, _SOON) and not is_inhabited(mounted.namespace):
        _see_off(clients)
    return end_as(status)


def _serve(repositories: Sequence[Wanted], inside: Inside, clients: Clients, *, required: bool) -> Mounted:
    """Every mount in a process of its own, all at the same time. Raises CvfsError."""
    # All that a client needs is read from the disk while the other process mounts, and once for all of them.
    from cvfs.client.background import MountFailed, serve_in_background  # noqa: PLC0415

    mounted = inside.mounted()
    own = (*mounted.devices, inside.channel.fileno())
    coming = []
    for wanted, device in zip(repositories, mounted.devices, strict=True):
        settings = _for_inside(wanted.settings, mounted)
        leaving = [descriptor for descriptor in own if descriptor != device]
        coming.append(serve_in_background(settings, wanted.place, device, reread=wanted.reread, leaving=leaving))
        clients[coming[-1].pid] = wanted.place
    for device in mounted.devices:
        os.close(device)
    for one, wanted in zip(coming, repositories, strict=True):
        try:
            one.wait()
        except MountFailed as error:
            clients.pop(one.pid)
            message = _naming(wanted.settings.fqrn, str(error))
            if required:
                raise Failed(message, error.exit_status) from error
            log.warning("%s", message)
    return mounted


def _naming(fqrn: str, message: str) -> str:
    """One of several: which one must be said."""
    return message if fqrn in message else f"{fqrn}: {message}"


def _for_inside(settings: Settings, mounted: Mounted) -> Settings:
    """A device is served, and the kernel alone cleans up. Where one user alone has a number, all that is published is his."""
    view = settings.view
    if mounted.single_user:
        view = replace(view, owner=replace(view.owner, claim_ownership=True))
    return replace(settings, view=view, mount=replace(settings.mount, watchdog=False, fuse_binding=FUSE_BINDINGS[0]))


def _tell_of_death(clients: Clients, pid: int, namespace: str) -> None:
    place = clients.pop(pid, None)
    # A command that ends loses its mounts before it is known to have ended; what served them ends then, as it should.
    if place and is_inhabited(namespace):
        log.warning("the process that serves %s has ended: run the command again", place)


def _see_off(clients: Clients) -> None:
    """See all of them gone, by force if it takes long."""
    deadline = time.monotonic() + _AT_LAST
    for pid in clients:
        see_off(pid, max(0.0, deadline - time.monotonic()))


def _have_ended(clients: Clients, within: float) -> bool:
    """Whether all of them end within that many seconds."""
    deadline = time.monotonic() + within
    return all(has_ended(pid, max(0.0, deadline - time.monotonic())) for pid in clients)


def _signal_all(clients: Clients, number: int) -> None:
    for pid in clients:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
