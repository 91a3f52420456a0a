"""cvfs exec."""

import functools
import os
import signal
import sys
from typing import Any

import click

from cvfs.client.apart.running import run_apart
from cvfs.client.apart.wanted import Wanted
from cvfs.errors import UsageError
from cvfs_tools.repository_options import etc_of_group, repository_options, settings, sources
from cvfs_tools.running import start_logging


@click.command(
    "exec", context_settings={"allow_interspersed_args": False}, options_metavar="[-r REPOSITORY]… [OPTIONS] [--]"
)
@click.option(
    "-r",
    "--repository",
    "repositories",
    metavar="REPOSITORY",
    multiple=True,
    help="Repository, by fqrn or URL; several times  [CVMFS_REPOSITORIES]",
)
@click.option("-d", "--debug", is_flag=True, help="Log everything")
@click.option("--log", "logfile", metavar="FILE", help="Write messages there")
@repository_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def execute(
    repositories: tuple[str, ...], command: tuple[str, ...], *, debug: bool, logfile: str | None, **options: Any
) -> None:
    """Run COMMAND, or else your shell, with repositories mounted for it alone; needs no rights, leaves nothing.

    Who you are, where you are, the terminal and signals are as without it. The exit status is that of COMMAND; 127 if there is
    none of that name, 126 if it cannot be run.
    """
    # Who interrupts it before the command runs sees it end as the command would.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    start_logging(debug=debug, file=logfile)
    options["etc"] = options["etc"] or etc_of_group()
    wanted = [
        Wanted(settings(name, mounting=True, **options), functools.partial(settings, name, **options))
        for name in dict.fromkeys(repositories or _configured(options))
    ]
    status = run_apart(wanted, command or (os.environ.get("SHELL") or "/bin/sh",), required=bool(repositories))
    sys.exit(status)


def _configured(options: dict[str, Any]) -> list[str]:
    """The repositories of the configuration. Raises UsageError if there are none."""
    found = sources(**options).common().repositories()
    if not found:
        raise UsageError("which repository? name it with -r REPOSITORY, or have them in CVMFS_REPOSITORIES")
    return found
