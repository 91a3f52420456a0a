"""cvfs fsck, cvfs wipecache, cvfs cache list|size: what lies in the caches of this machine, without a mount."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from cvfs.client.cache.alien import AlienCache
from cvfs.client.cache.base import CacheEntry, Checked, EntryKind
from cvfs.client.cache.choice import standing_cache
from cvfs.client.cache.object_cache import ObjectCache
from cvfs.client.settings.cache import directories
from cvfs.errors import CvfsError, StoreFull, UsageError
from cvfs_tools.repository_options import settings, sources
from cvfs_tools.running import Group, write_line

# Exit status of fsck(8), as the original has it; several add up.
FIXED, UNFIXED, OPERATIONAL, USAGE = 1, 4, 8, 16
# A shared cache is the same for every repository; this stands for any.
_ANY_REPOSITORY = "any.repository.example"
_MEGABYTE = 2**20

_CACHE = click.option("-c", "--cache", metavar="DIR", help="Cache directory  [CVMFS_CACHE_DIR]")
_OPTIONS = click.option("-o", "options", metavar="KEY=VALUE[,…]", multiple=True, help="CVMFS_* parameters; config=FILE")


class _WrongUse(click.UsageError):
    exit_code = USAGE


class _Fsck(click.Command):
    """Wrong use has the exit status of fsck(8)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _WrongUse(error.format_message(), ctx) from error


@click.command(cls=_Fsck)
@click.argument("places", nargs=-1, metavar="[DIR|REPOSITORY]...")
@click.option("-p", "--repair", is_flag=True, help="Try to fix automatically: what is corrupted is put aside")
@click.option("-f", "--force", is_flag=True, help="Make the books agree with the files")
@click.option("-j", "--workers", metavar="N", type=click.IntRange(1, 256), default=1, help="Files read at a time")
@click.option("-v", "--verbose", is_flag=True, help="Each file by name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each cache")
@_OPTIONS
def fsck(places: tuple[str, ...], *, options: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Check that every file of a cache holds what was kept: of a directory, or of the caches of the configuration.

    The cache may be in use. Exit status: 0 clean, 1 repaired, 4 corrupted, 8 could not be checked; they add up.
    """
    status = 0
    for directory in _directories(places, options):
        status |= _checked(directory, as_json=as_json, **how)
    sys.exit(status)


@click.command()
@click.argument("repositories", nargs=-1, metavar="[REPOSITORY]...")
@_CACHE
@_OPTIONS
def wipecache(repositories: tuple[str, ...], *, cache: str | None, options: tuple[str, ...]) -> None:
    """Empty the caches of the configuration, also below running mounts, which fetch anew; never an alien cache.

    What a mount has open it still reads. What was seen of each repository's revisions stays known: see `cvfs trust`.
    """
    failed = False
    for directory in _directories((cache,) if cache else repositories, options):
        click.echo(f"Wiping out {directory} ... ", nl=False)
        wiped = _wipe(directory)
        click.echo("OK" if wiped else "Failed!")
        failed |= not wiped
    sys.exit(1 if failed else 0)


@click.group(cls=Group)
def cache() -> None:
    """What lies in a cache of this machine."""


@cache.command("list")
@click.argument("what", required=False, type=click.Choice(["pinned", "catalogs", "volatile"]))
@click.argument("repository", required=False)
@_CACHE
@_OPTIONS
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each content")
def list_contents(what: str | None, repository: str | None, *, as_json: bool, **where: Any) -> None:
    """Every content, or those that are pinned, catalogs, or volatile: the least recently used first."""
    chosen: Callable[[CacheEntry], bool] = {
        "pinned": lambda entry: entry.held,
        "catalogs": lambda entry: entry.kind is EntryKind.CATALOG,
        "volatile": lambda entry: entry.volatile,
        None: lambda _: True,
    }[what]
    with _opened(repository, **where) as standing:
        for entry in filter(chosen, standing.entries()):
            write_line(json.dumps(_as_json(entry)) if as_json else _as_text(entry))


@cache.command()
@click.argument("repository", required=False)
@_CACHE
@_OPTIONS
@click.option("--json", "as_json", is_flag=True, help="One JSON object")
def size(repository: str | None, *, as_json: bool, **where: Any) -> None:
    """Bytes in a cache, and how many of them are pinned."""
    with _opened(repository, **where) as standing:
        entries = standing.entries()
    used, pinned = sum(entry.size for entry in entries), sum(entry.size for entry in entries if entry.held)
    if as_json:
        return write_line(json.dumps({"used": used, "pinned": pinned, "objects": len(entries)}))
    write_line(
        f"Current cache size is {used // _MEGABYTE}MB ({used} Bytes), pinned: {pinned // _MEGABYTE}MB ({pinned} Bytes)"
    )
    return None


def _directories(places: tuple[str, ...], options: tuple[str, ...]) -> Iterator[str]:
    """The directories that are named, and those of the repositories that are named, or of all; each once."""
    seen = set()
    for place in places or (*sources(options).common().repositories(), _ANY_REPOSITORY):
        found = [place] if "/" in place or os.path.isdir(place) else _of_repository(place, options)
        for directory in found:
            # What the configuration names may not have been used yet.
            if directory not in seen and (directory == place or os.path.isdir(directory)):
                seen.add(directory)
                yield directory


def _of_repository(fqrn: str, options: tuple[str, ...]) -> list[str]:
    chosen = settings(fqrn, options=options).with_absolute_places().cache
    return [one.directory for one in directories(chosen.instance) if not one.alien]


def _checked(directory: str, *, repair: bool, force: bool, workers: int, verbose: bool, as_json: bool) -> int:
    """One cache, with the words of the original; the exit status for it."""
    say = (lambda _: None) if as_json else write_line
    say(f"CernVM-FS fsck on {directory}")
    try:
        standing = standing_cache(directory)
        standing.prepare()
        try:
            if force:
                standing.rebuild()
            progress = functools.partial(_tell, directory, verbose=verbose and not as_json)
            found = standing.check(repair=repair, workers=workers, progress=progress)
        finally:
            standing.close()
    except (UsageError, StoreFull) as error:
        click.echo(str(error), err=True)
        return OPERATIONAL
    status = (FIXED if found.dropped or force else 0) | (UNFIXED if found.unfixed else 0)
    if as_json:
        write_line(json.dumps({"directory": directory, "status": status, **_numbers(found)}))
    else:
        _report(directory, found, force=force, repair=repair)
    return status


def _tell(directory: str, name: str, *, verbose: bool) -> None:
    if verbose:
        write_line(f"Checking file {directory}/{name[:2]}/{name[2:]}")


def _report(directory: str, found: Checked, *, force: bool, repair: bool) -> None:
    for content in found.dropped:
        write_line(f"Fix: {_place(directory, content.name)} is corrupted, moved to quarantaine folder")
    for content in found.unfixed:
        advice = "could not unlink" if repair else "delete this file from cache directory!"
        write_line(f"Error: {_place(directory, content.name)} is corrupted, {advice}")
    write_line(f"Verified {found.objects} files")
    if force:
        write_line("Fix: managed cache db rebuilt")
    if found.dropped:
        write_line(
            "\nWARNING: There might by corrupted files in the kernel buffers.\n"
            "Remount CernVM-FS or run 'echo 3 > /proc/sys/vm/drop_caches'\n"
        )


def _numbers(found: Checked) -> dict[str, Any]:
    return {
        "objects": found.objects,
        "size": found.size,
        "fixed": [content.name for content in found.dropped],
        "unfixed": [content.name for content in found.unfixed],
    }


def _place(directory: str, name: str) -> str:
    return f"{directory}/{name[:2]}/{name[2:]}"


def _wipe(directory: str) -> bool:
    try:
        standing = standing_cache(directory)
        if not isinstance(standing, ObjectCache):
            raise UsageError(f"{directory}: an alien cache belongs to others too, remove files there yourself")
        standing.prepare()
        try:
            return standing.wipe()
        finally:
            standing.close()
    except CvfsError as error:
        click.echo(str(error), err=True)
        return False


@contextlib.contextmanager
def _opened(
    repository: str | None, *, cache: str | None, options: tuple[str, ...]
) -> Iterator[ObjectCache | AlienCache]:
    """The cache of a directory, of a repository, or the shared one, while it is looked at."""
    directory = cache or next(iter(_of_repository(repository or _ANY_REPOSITORY, options)), None)
    if directory is None:
        raise UsageError(f"{repository}: keeps nothing in a directory of its own, name one with -c")
    standing = standing_cache(directory)
    standing.prepare()
    try:
        yield standing
    finally:
        standing.close()


def _as_text(entry: CacheEntry) -> str:
    pinned = " pinned" if entry.held else ""
    return f"{entry.content.name} {entry.size} {entry.kind.value}{pinned}"


def _as_json(entry: CacheEntry) -> dict[str, Any]:
    return {
        "content": entry.content.name,
        "size": entry.size,
        "kind": entry.kind.value,
        "pinned": entry.held,
        "last_use": entry.last_use / 10**9,
    }
