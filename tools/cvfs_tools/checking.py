"""cvfs-server check."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TextIO

import click

from cvfs.errors import CvfsError, Locked, UsageError
from cvfs.format.signature import load_public_key
from cvfs.hashes import as_path
from cvfs_server.check.check import CheckOptions
from cvfs_server.check.check import check as check_repository
from cvfs_server.check.every import due_repositories, note_check
from cvfs_server.check.findings import Finding
from cvfs_server.check.memory import NEVER, Memory
from cvfs_server.check.reflog_repair import repair_reflog
from cvfs_server.check.runs import interrupted, remembering
from cvfs_server.lock import publisher_lock
from cvfs_server.repository import PublishedRepository, reading, recorded_reflog_digest
from cvfs_server.settings import RepositorySettings
from cvfs_server.signing.keys import read_key_file
from cvfs_server.site import Site
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import WORKERS, chosen_repository, site_at, site_options

_DAY = 86400


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What was asked for beside the options of the check itself. `log` is the file of -a, None: standard output."""

    resume: bool
    skip_days: int | None
    repair: bool
    as_json: bool
    log: TextIO | None = None

    def say(self, line: str) -> None:
        """A line for people or programs."""
        if self.log is None:
            write_line(line)
        else:
            print(line, file=self.log, flush=True)


@click.command()
@click.argument("fqrn", required=False)
@click.option("-i", "--integrity", is_flag=True, help="Read, hash and inflate every object")
@click.option("-c", "--no-existence", is_flag=True, help="Do not ask whether each object exists")
@click.option("-t", "--tag", metavar="NAME", multiple=True, help="Check a tag instead of the newest; several times")
@click.option("--all-tags", is_flag=True, help="Check the newest revision and every tag, what they share once")
@click.option("-s", "--subtree", metavar="PATH", default="", help="Check from this nested catalog on")
@click.option("-r", "--repair-reflog", is_flag=True, help="First put the reflog and its checksum right")
@click.option(
    "-a", "--all", "every", is_flag=True, help="All repositories that are due; into /var/log/cvmfs/checks.log"
)
@click.option("--resume", is_flag=True, help="With -i: go on where an interrupted check ended")
@click.option(
    "--skip-verified",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="With -i: do not read objects again that were found sound in the last DAYS days",
)
@click.option("-j", "--workers", type=WORKERS, metavar="N", help="Processes that look at objects (default: all cores)")
@click.option("--json", "as_json", is_flag=True, help="Each finding as one JSON object")
@site_options
def check(  # one parameter for each option
    fqrn: str | None,
    *,
    integrity: bool,
    no_existence: bool,
    tag: tuple[str, ...],
    all_tags: bool,
    subtree: str,
    repair_reflog: bool,
    every: bool,
    resume: bool,
    skip_verified: int | None,
    workers: int | None,
    as_json: bool,
    root: str,
) -> None:
    """Check a repository: every catalog, every entry, every object. Exit status 1 if anything is wrong."""
    if (resume or skip_verified is not None) and not integrity:
        raise UsageError("check: --resume and --skip-verified need -i")
    if tag and all_tags:
        raise UsageError("check: either -t or --all-tags")
    options = CheckOptions(integrity, not no_existence, as_path(subtree), tag, all_tags, workers=workers)
    wishes = _Wishes(resume, skip_verified, repair_reflog, as_json)
    site = site_at(root)
    if every:
        if fqrn:
            raise UsageError("check: -a checks all repositories, name none")
        _check_all(site, options, wishes)
    elif not _check_one(site, chosen_repository(site, fqrn), options, wishes):
        sys.exit(1)


def _check_all(site: Site, options: CheckOptions, wishes: _Wishes) -> None:
    """Success whatever was found, as cron wants it: the log and the status files tell."""
    logs = f"{site.root}/var/log/cvmfs"
    os.makedirs(logs, exist_ok=True)
    spool = f"{site.root}/var/spool/cvmfs"
    os.makedirs(spool, exist_ok=True)
    with (
        publisher_lock(f"{spool}/is_checking_all", "check -a"),
        open(f"{logs}/checks.log", "a", encoding="utf-8", errors="backslashreplace") as log,
    ):
        wishes = replace(wishes, log=log)
        for fqrn in due_repositories(site, time.time()):
            wishes.say(f"\nStarting {fqrn} at {time.ctime()}")
            try:
                succeeded = _check_one(site, fqrn, options, wishes)
                note_check(PublishedRepository.open(site, fqrn), succeeded=succeeded)
            except CvfsError as error:
                wishes.say(one_line(f"{fqrn}: {error}"))
                succeeded = False
            if not succeeded:
                wishes.say("ERROR from cvfs-server check!")
            wishes.say(f"Finished {fqrn} at {time.ctime()}")


def _check_one(site: Site, fqrn: str, options: CheckOptions, wishes: _Wishes) -> bool:
    """Whether nothing is wrong."""
    if wishes.repair:
        for line in repair_reflog(site, fqrn):
            wishes.say(f"Warning: {line}")
    repository = PublishedRepository.open(site, fqrn)
    settings = repository.settings
    with contextlib.ExitStack() as stack:
        options = replace(
            options,
            public_keys=(load_public_key(read_key_file(site.key(fqrn, "pub"))),),
            now=time.time(),
            reflog_digest=recorded_reflog_digest(settings),
            parallel=repository.storage.parallel,
            memory=_memory(stack, settings, options, wishes) if options.integrity else None,
        )
        scratch = stack.enter_context(reading(settings))
        progress = stack.enter_context(_progress(shown=wishes.log is None))
        errors = 0
        for finding in check_repository(repository.storage, repository.manifest, options, scratch, progress):
            errors += not finding.is_warning
            wishes.say(_line(finding, as_json=wishes.as_json))
    if errors:
        print(f"{fqrn}: {errors} errors found", file=wishes.log or sys.stderr)
    elif not wishes.as_json:
        wishes.say(f"{fqrn}: {_what_was_checked(repository, options)}: no problems found")
    return not errors


def _what_was_checked(repository: PublishedRepository, options: CheckOptions) -> str:
    """In words, for who reads the outcome alone."""
    if options.tags:
        return ", ".join(f"tag {name}" for name in options.tags)
    return f"revision {repository.manifest.revision}" + (" and every tag" if options.all_tags else "")


def _memory(
    stack: contextlib.ExitStack, settings: RepositorySettings, options: CheckOptions, wishes: _Wishes
) -> Memory | None:
    """What earlier checks found out; None while another check is under way, which writes it down."""
    began = interrupted(settings)
    if wishes.resume and began is None:
        print(f"{settings.fqrn}: no check was interrupted: this one begins at the start", file=sys.stderr)
    elif began is not None and not wishes.resume:
        print(f"{settings.fqrn}: a check was interrupted: --resume would go on with it", file=sys.stderr)
    since = NEVER if wishes.skip_days is None else time.time() - wishes.skip_days * _DAY
    try:
        chosen = remembering(settings, resume=wishes.resume, since=since, keep_all=bool(options.subtree))
        return stack.enter_context(chosen)
    except Locked as error:
        if wishes.resume:
            raise
        print(one_line(f"{settings.fqrn}: nothing is remembered of this check: {error}"), file=sys.stderr)
        return None


def _line(finding: Finding, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"where": finding.where, "what": finding.what, "warning": finding.is_warning})
    kind = "warning" if finding.is_warning else "error"
    return one_line(f"{kind}: {finding.where}: {finding.what}")


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int], None]]:
    """A moving line on a terminal, nothing otherwise."""
    if not (shown and sys.stderr.isatty()):
        yield lambda _: None
        return
    # Here, for in scripts nobody looks, and importing it takes longer than many a check.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.completed:,.0f} looked at"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("check", total=None)
        yield lambda count: bar.advance(task, count)
