"""cvfs preload: fill a cache before anybody asks."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import click

from cvfs.client.path_specification import PathSpecification
from cvfs.client.preload import DEFAULT_WORKERS, Preloaded, leave_breadcrumb
from cvfs.client.preload import preload as preload_repository
from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.errors import UsageError
from cvfs_tools.repository_options import settings
from cvfs_tools.running import one_line, write_line

_LARGEST_DIRTAB = 2**20
_MEGABYTE = 2**20


@click.command()
@click.argument("repository", required=False)
@click.option("-u", "--url", metavar="URL", help="Server URL, several with ';'  [CVMFS_SERVER_URL]")
@click.option("-r", "--alien-cache", metavar="DIR", help="Into this alien cache, not into that of the configuration")
@click.option("-k", "--public-key", metavar="FILE", help="Master public key; several with ':'  [CVMFS_PUBLIC_KEY]")
@click.option("-m", "--fqrn", metavar="NAME", help="Fully qualified repository name (default: the end of the URL)")
@click.option(
    "-d", "--dirtab", metavar="FILE", help="Only these paths: one pattern a line, '!' before what to leave out"
)
@click.option(
    "-n", "--workers", metavar="N", type=click.IntRange(1, 256), default=DEFAULT_WORKERS, help="Objects at a time"
)
@click.option("-p", "--proxy", metavar="URL", help="HTTP proxy  [CVMFS_HTTP_PROXY]")
@click.option(
    "-t",
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1),
    help="So long a request may be silent  [CVMFS_TIMEOUT]",
)
@click.option(
    "-a", "--retries", metavar="N", type=click.IntRange(0), help="Repetitions of a request  [CVMFS_MAX_RETRIES]"
)
@click.option("-x", "--temporary", metavar="DIR", help="Accepted for the original's sake: the cache itself is used")
@click.option("--tag", metavar="NAME", help="A tag instead of the newest revision")
@click.option("-o", "options", metavar="KEY=VALUE[,…]", multiple=True, help="CVMFS_* parameters; config=FILE")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object")
def preload(
    repository: str | None, *, alien_cache: str | None, dirtab: str | None, workers: int, as_json: bool, **how: Any
) -> None:
    """Fetch a repository, or a part of it, into a cache. What is there already is not fetched again.

    Exit status 1 if something could not be had: the same command fetches the rest.
    """
    chosen = _settings(repository, **how)
    if alien_cache:
        place = os.path.abspath(alien_cache)
        chosen = replace(chosen, cache=replace(chosen.cache, alien=place, primary=None, quota=None, streaming=False))
    paths = _paths(dirtab)
    with Repository.open_settings(chosen) as opened, _progress() as progress:
        report = preload_repository(opened, paths, workers=workers, progress=progress)
        if alien_cache and not report.failed:
            leave_breadcrumb(opened, alien_cache)
    _print(chosen.fqrn, report, as_json=as_json)
    sys.exit(1 if report.failed else 0)


def _settings(
    repository: str | None,
    *,
    url: str | None,
    fqrn: str | None,
    timeout: int | None,
    retries: int | None,
    temporary: str | None,
    options: tuple[str, ...],
    **named: Any,
) -> Settings:
    del temporary
    name = fqrn or repository or url
    if not name:
        raise UsageError("name what to preload: a repository, or its server with -u")
    given = {"CVMFS_TIMEOUT": timeout, "CVMFS_TIMEOUT_DIRECT": timeout, "CVMFS_MAX_RETRIES": retries}
    words = tuple(f"{parameter}={value}" for parameter, value in given.items() if value is not None)
    if name != url:
        named["url"] = url
    return settings(name, options=(*options, *words), **named)


def _paths(dirtab: str | None) -> PathSpecification:
    if not dirtab:
        return PathSpecification()
    with open(dirtab, "rb") as file:
        text = file.read(_LARGEST_DIRTAB + 1)
    if len(text) > _LARGEST_DIRTAB:
        raise UsageError(f"{dirtab}: larger than {_LARGEST_DIRTAB} bytes, no list of paths")
    return PathSpecification.parse(text, dirtab)


def _print(fqrn: str, report: Preloaded, *, as_json: bool) -> None:
    if as_json:
        return write_line(json.dumps({"fqrn": fqrn, **asdict(report)}))
    for failure in report.failures:
        click.echo(one_line(failure), err=True)
    if report.failed:
        failed = _count(report.failed, "object")
        click.echo(f"{fqrn}: {failed} could not be preloaded, run the same command again", err=True)
    write_line(f"{fqrn}: {_numbers(report)}")
    return None


def _numbers(report: Preloaded) -> str:
    were = "was" if report.present == 1 else "were"
    return (
        f"{_count(report.files, 'file')}, {_count(report.present, 'object')} {were} there, "
        f"{report.fetched} fetched ({report.size // _MEGABYTE} MB)"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def _progress() -> Iterator[Callable[[Preloaded], None]]:
    """A moving line on a terminal, nothing otherwise."""
    # Here, since every verb imports this module, and a mount would carry rich's megabytes for a year.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("reading the catalogs", total=None)
        yield lambda report: bar.update(task, description=_numbers(report))
