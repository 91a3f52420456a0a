"""cvfs trust show|reset: what this machine believes and remembers of repositories, without a mount and without the network."""

import logging
import os
import sys
import time

import click

from cvfs.client.observe.logs import Logs
from cvfs.client.settings import Settings
from cvfs.client.trust_anchors import trust_state
from cvfs.client.trust_report import TrustReport, describe_memory, remembered_repositories
from cvfs.errors import CvfsError, UsageError
from cvfs_tools.repository_options import settings
from cvfs_tools.running import Group, one_line, write_line

log = logging.getLogger(__name__)

# All repositories are remembered in one place; this stands for any.
_ANY_REPOSITORY = "any.repository.example"

_CACHE = click.option("-c", "--cache", metavar="DIR", help="Cache directory  [CVMFS_CACHE_DIR]")
_OPTIONS = click.option("-o", "options", metavar="KEY=VALUE[,…]", multiple=True, help="CVMFS_* parameters; config=FILE")


@click.group(cls=Group)
def trust() -> None:
    """What is remembered of repositories so that nobody can serve something older, and what is believed without proof."""


@trust.command()
@click.argument("repositories", nargs=-1, metavar="[REPOSITORY]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each repository")
@_CACHE
@_OPTIONS
def show(repositories: tuple[str, ...], *, as_json: bool, cache: str | None, options: tuple[str, ...]) -> None:
    """Show the newest revision seen, the whitelist, keys and limits; of all repositories seen if none is named."""
    names = repositories or remembered_repositories(settings(_ANY_REPOSITORY, cache=cache, options=options))
    failed = 0
    for number, name in enumerate(names):
        try:
            report = TrustReport.gather(settings(name, cache=cache, options=options))
        except CvfsError as error:
            print(one_line(f"cvfs: {error}"), file=sys.stderr)
            failed = error.exit_status
            continue
        _print(report, as_json=as_json, apart=number > 0)
    sys.exit(failed)


@trust.command()
@click.argument("repository")
@click.option("-f", "--force", is_flag=True, help="Ask nothing")
@_CACHE
@_OPTIONS
def reset(repository: str, *, force: bool, cache: str | None, options: tuple[str, ...]) -> None:
    """Forget what was seen of a REPOSITORY, so that an older revision, or one created anew, is accepted once.

    Whoever answers next is believed, within the limits of keys and whitelist. Repositories that are mounted go on and accept
    it at their next check.
    """
    chosen = settings(repository, cache=cache, options=options)
    state = trust_state(chosen)
    if state is None:
        raise UsageError(f"{chosen.fqrn}: nothing is remembered anywhere, so there is nothing to forget")
    memory = describe_memory(state)
    if not force:
        click.confirm(f"Forget {memory} of {chosen.fqrn}, and accept any older one?", abort=True)
    files = state.forget()
    _log(chosen, memory)
    write_line(f"{chosen.fqrn}: forgot {memory}" if files else f"{chosen.fqrn}: there was nothing to forget")
    for name in files:
        write_line(f"removed {name}")


def _log(chosen: Settings, memory: str) -> None:
    """Who lowers a protection leaves a trace where the mounts leave theirs."""
    logs = Logs(chosen.fqrn, chosen.mount.logs)
    logs.start()
    log.warning("%s: user %d made this machine forget %s", chosen.fqrn, os.getuid(), memory)
    logs.stop()


def _print(report: TrustReport, *, as_json: bool, apart: bool) -> None:
    if as_json:
        write_line(report.as_json(time.time()))
        return
    if apart:
        write_line("")
    for name, value in report.lines(time.time()):
        write_line(f"{name + ':':<22} {value}")
