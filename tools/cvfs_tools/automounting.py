"""cvfs automount: the parent mount, in which repositories are mounted on first access; by itself it mounts none."""

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence

import click

from cvfs import interpreter
from cvfs.client.configuration_sources import ETC_VARIABLE, idle_time
from cvfs.client.observe.syslog import Syslog
from cvfs.client.parent.clients import Client
from cvfs.client.parent.keeper import Where
from cvfs.client.parent.parent import run
from cvfs.client.readiness import tell_ready
from cvfs_tools.mounts import mount_directory
from cvfs_tools.repository_options import etc_of_group, settings, sources

_READY_WITHIN = 60.0
_MODULE = "cvfs_tools.cvfs_command"


@click.command()
@click.argument("directory", required=False)
@click.option("-f", "--foreground", is_flag=True, help="Serve in this process; end with Ctrl-C or SIGTERM")
@click.option("-d", "--debug", is_flag=True, help="Log everything")
@click.option("--log", "logfile", metavar="FILE", help="Write messages there")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Unmount what nobody used for so long, 0: never  [CVFS_AUTOMOUNT_TIMEOUT, 1200]",
)
@click.option("-o", "options", metavar="KEY=VALUE[,…]", multiple=True, help="CVMFS_* parameters, for all repositories")
@click.option("--detached", is_flag=True, hidden=True)
def automount(
    directory: str | None,
    *,
    foreground: bool,
    debug: bool,
    logfile: str | None,
    timeout: float | None,
    options: tuple[str, ...],
    detached: bool,
) -> None:
    """Mount every repository below DIRECTORY, by default /cvmfs, on first access, and again if it died; needs no autofs."""
    place = os.path.abspath(directory or mount_directory())
    given = [word for option in options for word in ("-o", option)]
    if not foreground:
        log = [f"--log={os.path.abspath(logfile)}"] if logfile else []
        idle = [] if timeout is None else [f"--timeout={timeout}"]
        _run_in_background(place, [*(["--debug"] if debug else []), *log, *idle, *given])
        return
    _start_logging(logfile, debug=debug)
    where = Where(place, idle_time(sources(options).common()) if timeout is None else timeout)
    run(
        where,
        _words(place, options, given),
        _detach(logfile) if detached else functools.partial(tell_ready, os.environ),
    )


def _cvfs() -> list[str]:
    """The words that start this program with the same configuration; a process of ours works elsewhere."""
    etc = _tree()
    return [*interpreter.python(_MODULE), *(("--etc", etc) if etc else ())]


def _tree() -> str | None:
    """The configuration tree that was named, if one was."""
    named = etc_of_group() or os.environ.get(ETC_VARIABLE)
    return os.path.abspath(named) if named else None


def _words(place: str, options: tuple[str, ...], given: Sequence[str]) -> Callable[[str], Sequence[str]]:
    """How to start the client of a repository, once its configuration has been found to make sense."""
    # In the threads that will ask there is no command line.
    command, etc = [*_cvfs(), "mount", "--foreground", *given], _tree()

    def words(fqrn: str) -> list[str]:
        settings(fqrn, options=options, etc=etc, mounting=True)
        return [*command, fqrn, os.path.join(place, fqrn)]

    return words


def _run_in_background(place: str, given: Sequence[str]) -> None:
    """The same command in a process of its own; returns when it serves. Raises MountError."""
    parent = Client(place, [*_cvfs(), "automount", "--foreground", "--detached", *given, "--", place])
    with parent.start() as news:
        parent.wait_ready(news, time.monotonic() + _READY_WITHIN)


def _detach(logfile: str | None) -> Callable[[], None]:
    """To be called when all is well: who started us hears it, and from here on nobody listens at the terminal."""

    def detach() -> None:
        tell_ready(os.environ)
        if not logfile:
            logging.getLogger().handlers[:] = [Syslog("cvfs automount")]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        os.close(null)

    return detach


def _start_logging(file: str | None, *, debug: bool) -> None:
    level = logging.DEBUG if debug else logging.INFO
    handler = logging.FileHandler(file) if file else logging.StreamHandler()
    logging.basicConfig(handlers=[handler], level=level, format="%(asctime)s %(levelname)s %(message)s")
