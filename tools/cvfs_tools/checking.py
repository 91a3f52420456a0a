"""cvfs-server check."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from cvfs.client.repository import as_path
from cvfs.format.signature import load_public_key
from cvfs_server.check.check import CheckOptions
from cvfs_server.check.check import check as check_repository
from cvfs_server.check.findings import Finding
from cvfs_server.keys import read_key_file
from cvfs_server.repository import PublishedRepository, reading
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import WORKERS, chosen_repository, site_at, site_options


@click.command()
@click.argument("fqrn", required=False)
@click.option("-i", "--integrity", is_flag=True, help="Read, hash and inflate every object")
@click.option("-c", "--no-existence", is_flag=True, help="Do not ask whether each object exists")
@click.option("-t", "--tag", metavar="NAME", help="Check a tag instead of the newest revision")
@click.option("-s", "--subtree", metavar="PATH", default="", help="Check from this nested catalog on")
@click.option("-j", "--workers", type=WORKERS, metavar="N", help="Processes that look at objects (default: all cores)")
@click.option("--json", "as_json", is_flag=True, help="Each finding as one JSON object")
@site_options
def check(
    fqrn: str | None,
    *,
    integrity: bool,
    no_existence: bool,
    tag: str | None,
    subtree: str,
    workers: int | None,
    as_json: bool,
    root: str,
) -> None:
    """Check a repository: every catalog, every entry, every object. Exit status 1 if anything is wrong."""
    site = site_at(root)
    repository = PublishedRepository.open(site, chosen_repository(site, fqrn))
    options = CheckOptions(
        integrity=integrity,
        existence=not no_existence,
        subtree=as_path(subtree),
        tags=(tag,) if tag else (),
        public_keys=(load_public_key(read_key_file(site.key(repository.settings.fqrn, "pub"))),),
        now=time.time(),
        workers=workers,
    )
    errors = 0
    with reading(repository.settings) as scratch, _progress() as progress:
        for finding in check_repository(repository.storage, repository.manifest, options, scratch, progress):
            errors += not finding.is_warning
            _print(finding, as_json=as_json)
    if errors:
        print(f"{repository.settings.fqrn}: {errors} errors found", file=sys.stderr)
        sys.exit(1)
    if not as_json:
        write_line(f"{repository.settings.fqrn}: revision {repository.manifest.revision}: no problems found")


def _print(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        write_line(json.dumps({"where": finding.where, "what": finding.what, "warning": finding.is_warning}))
    else:
        kind = "warning" if finding.is_warning else "error"
        write_line(one_line(f"{kind}: {finding.where}: {finding.what}"))


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A moving line on a terminal, nothing otherwise."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        TextColumn("{task.completed:,.0f} looked at"), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("check", total=None)
        yield lambda count: bar.advance(task, count)
