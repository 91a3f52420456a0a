"""cvfs-server gc."""

import contextlib
import fnmatch
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TextIO

import click

from cvfs.errors import CvfsError, UsageError
from cvfs.hashes import ContentHash
from cvfs_server.gc.collect import GcOptions, GcReport, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.settings import configured_repositories, load_settings
from cvfs_server.site import Site
from cvfs_server.statistics import printed
from cvfs_server.tags.dates import parse_date
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import WORKERS, chosen_repository, site_at, site_options

DEFAULT_TIMESPAN = "3 days ago"
DEFAULT_PATIENCE = 600
_STAGES = {
    "mark": "looking for what is kept",
    "wait": "waiting for publishers that began before",
    "sweep": "deleting",
}


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for: `list_deleted` prints each object, `log` is a file or empty for what server.conf says."""

    options: GcOptions
    list_deleted: bool
    log: str


@click.command()
@click.argument("fqrns", metavar="[FQRN]...", nargs=-1)
@click.option("-r", "--revisions", type=click.IntRange(0), metavar="N", help="Keep so many revisions before the newest")
@click.option("-t", "--since", metavar="DATE", help=f"Keep what was published since  [default: {DEFAULT_TIMESPAN}]")
@click.option("-d", "--dry-run", is_flag=True, help="Delete nothing, say what would go")
@click.option("-l", "--list", "list_deleted", is_flag=True, help="Print each object that goes")
@click.option(
    "-L", "--log", metavar="FILE", default="", help="Append each object that goes to a file  [CVMFS_GC_DELETION_LOG]"
)
@click.option("-f", "--force", is_flag=True, help="Ask nothing")
@click.option(
    "-a", "--all", "every", is_flag=True, help="All repositories that allow it; the output goes to a log file"
)
@click.option("--orphans", metavar="DATE", help="Also what failed publishes left before that date")
@click.option("--wait", "patience", type=click.FloatRange(0), default=DEFAULT_PATIENCE, show_default=True, metavar="SECONDS",
              help="Wait so long for publishers that are at work; then the next run goes on")  # fmt: skip
@click.option("-j", "--workers", type=WORKERS, metavar="N", help="Processes that read catalogs (default: all cores)")
@click.option("-@", "gateway", is_flag=True, hidden=True)
@site_options
def gc(
    fqrns: tuple[str, ...],
    *,
    revisions: int | None,
    since: str | None,
    dry_run: bool,
    list_deleted: bool,
    log: str,
    force: bool,
    every: bool,
    orphans: str | None,
    patience: float,
    workers: int | None,
    gateway: bool,
    root: str,
) -> None:
    """Garbage collection: delete what neither the kept revisions nor any tag needs. Publishers may go on meanwhile."""
    del gateway
    site, now = site_at(root), time.time()
    before = _past(orphans, now, "--orphans") if orphans else None
    options = GcOptions(_keeping(revisions, since, now), dry_run, before, patience, workers)
    names = _names(site, fqrns, every=every)
    if not (force and every):
        _announce(names, options, ask=not (force or dry_run))
    if not (force or dry_run):
        _confirm()
    request = _Request(options, list_deleted, log)
    if every:
        _collect_all(site, names, request)
        return
    for fqrn in names:
        _collect(site, fqrn, request, sys.stdout)


def _keeping(revisions: int | None, since: str | None, now: float) -> Keeping:
    if revisions is not None and since is not None:
        raise UsageError("Please specify either timestamp OR revision thresholds (-r and -t are mutual exclusive)")
    if revisions is not None:
        return Keeping(revisions=revisions)
    return Keeping(since=_past(since or DEFAULT_TIMESPAN, now, "-t"))


def _past(text: str, now: float, option: str) -> int:
    moment = parse_date(text, now)
    if moment > now:
        raise UsageError(f"gc {option}: {text!r} lies in the future; 'ago' is missing?")
    return moment


def _names(site: Site, fqrns: tuple[str, ...], *, every: bool) -> list[str]:
    known = configured_repositories(site)
    if not every and not fqrns:
        return [chosen_repository(site, None)]
    patterns = [fqrn.rstrip("/") for fqrn in fqrns] or ["*"]
    found = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if missing := [pattern for pattern in patterns if not fnmatch.filter(found, pattern)]:
        raise UsageError(f"The repository {missing[0]} does not exist: cvfs-server list shows those of this machine")
    if every and not (found := [name for name in found if load_settings(site, name).garbage_collection]):
        raise UsageError("There are no active garbage-collectable repositories")
    return found


def _announce(names: list[str], options: GcOptions, *, ask: bool) -> None:
    if ask:
        write_line("YOU ARE ABOUT TO DELETE DATA! Are you sure you want to do the following:")
    keeping = options.keeping
    write_line(f"Affected Repositories:         {' '.join(names)}")
    write_line(f"Dry Run (no actual deletion):  {'yes' if options.dry_run else 'no'}")
    if keeping.revisions is not None:
        write_line(f"Preserved Legacy Revisions:    {keeping.revisions}")
    if keeping.since is not None:
        write_line(f"Preserve Revisions newer than: {time.strftime('%x %X', time.localtime(keeping.since))}")
    if keeping.revisions == 0:
        write_line("Only the latest revision will be preserved.")


def _confirm() -> None:
    """Anything but "y" ends the command, and so does a script's silence."""
    print("\nPlease confirm this action (y/N)? ", end="", flush=True)
    answer = sys.stdin.readline() if sys.stdin else ""
    if answer.strip() not in {"y", "Y"}:
        sys.exit(1)


def _collect_all(site: Site, names: list[str], request: _Request) -> None:
    """Success whatever happens, as cron wants it: the log tells."""
    logs = f"{site.root}/var/log/cvmfs"
    os.makedirs(logs, exist_ok=True)
    with open(f"{logs}/gc.log", "a", encoding="utf-8", errors="backslashreplace") as log:
        for fqrn in names:
            print(f"\nStarting {fqrn} at {time.ctime()}", file=log, flush=True)
            try:
                _collect(site, fqrn, request, log)
            except (CvfsError, OSError) as error:
                print(one_line(f"{fqrn}: {error}"), "ERROR from cvfs-server gc!", sep="\n", file=log)
            print(f"Finished {fqrn} at {time.ctime()}", file=log, flush=True)


def _collect(site: Site, fqrn: str, request: _Request, out: TextIO) -> None:
    print("Running Garbage Collection", file=out, flush=True)
    with _deletion_log(request.log or load_settings(site, fqrn).gc_deletion_log) as note, _shown_stages(out) as stage:

        def deleted(content: ContentHash) -> None:
            if request.list_deleted:
                print(f"Sweep: {content.name}", file=out)
            note(content)

        def warn(what: str) -> None:
            print(one_line(f"warning: {what}"), file=sys.stderr)

        report = collect(site, fqrn, replace(request.options, deleted=deleted, warn=warn, stage=stage))
    if load_settings(site, fqrn).print_statistics:
        print(*printed(report.statistics), sep="\n", file=out)
    print(_summary(fqrn, report, dry_run=request.options.dry_run), file=out, flush=True)


def _summary(fqrn: str, report: GcReport, *, dry_run: bool) -> str:
    kept = f"{fqrn}: {report.preserved_catalogs} catalogs are kept"
    if dry_run:
        return f"{kept}, {report.condemned} objects would be deleted"
    if report.waits_for:
        waiting = ", ".join(name.partition(".")[0] for name in report.waits_for)
        return f"{kept}, nothing is deleted while publishers are at work that began before: process {waiting}; run gc again"
    return f"{kept}, {report.deleted} objects deleted"


@contextlib.contextmanager
def _deletion_log(path: str) -> Iterator[Callable[[ContentHash], None]]:
    """Writes each object as a line, with its letter."""
    if not path:
        yield lambda _: None
        return
    with open(path, "a", encoding="ascii") as file:
        file.write(f"# Garbage Collection started at {_utc()}\n")
        yield lambda content: print(content.name, file=file)
        file.write(f"# Garbage Collection finished at {_utc()}\n\n")


def _utc() -> str:
    return time.strftime("%-d %b %Y %H:%M:%S", time.gmtime())


@contextlib.contextmanager
def _shown_stages(out: TextIO) -> Iterator[Callable[[str], None]]:
    """A moving line on a terminal, nothing otherwise."""
    if not (sys.stderr.isatty() and out.isatty()):
        yield lambda _: None
        return
    # Here, for in scripts nobody looks, and it takes its time to be imported.
    from rich.console import Console  # noqa: PLC0415

    with Console(stderr=True).status("") as status:
        yield lambda name: status.update(_STAGES[name]) if name in _STAGES else None
