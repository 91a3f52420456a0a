"""cvfs-server diff."""

import time

import click

from cvfs.catalog.schema import Counters
from cvfs.history import TRUNK, TRUNK_PREVIOUS, Tag
from cvfs_server.difference import Change, Comparison, changes, compare, find_revision, kind_of, worktree_changes
from cvfs_server.repository import PublishedRepository, reading
from cvfs_tools.running import shown, write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options

_LEGEND = (
    "# line descriptor: A - add, R - remove, M - modify, S - statistics; modify flags: S - size, M - mode, T - timestamp, "
    "C - content, L - symlink target, I - link count, O - owner, X - xattrs, P - chunked file, E - external file, "
    "B - bind mountpoint, H - hidden, D - direct I/O; entry types: F - regular file, S - symbolic link, D - directory, "
    "N - nested catalog"
)


@click.command()
@click.argument("fqrn", required=False)
@click.option("-s", "--from", "source", metavar="REVISION", default=TRUNK_PREVIOUS, help="Tag, number or root hash")
@click.option("-d", "--to", "target", metavar="REVISION", default=TRUNK, help="Tag, number or root hash")
@click.option("-m", "--machine-readable", "machine", is_flag=True, help="Lines for programs")
@click.option("-h", "--header", is_flag=True, help="First what is compared; with -m what the letters mean")
@click.option("-i", "--ignore-timediff", "ignore_times", is_flag=True, help="Leave out what differs in its time only")
@click.option("--worktree", is_flag=True, help="What the open transaction has changed so far, as publish -v prints it")
@site_options
def diff(
    fqrn: str | None,
    *,
    source: str,
    target: str,
    machine: bool,
    header: bool,
    ignore_times: bool,
    worktree: bool,
    root: str,
) -> None:
    """Compare two revisions: by default the newest one and the one before."""
    site = site_at(root)
    repository = PublishedRepository.open(site, chosen_repository(site, fqrn))
    if worktree:
        with reading(repository.settings) as scratch:
            for kind, path in worktree_changes(site, repository.settings, scratch):
                write_line(f"[{kind}] {shown(path) or '/'}")
        return
    old, new = find_revision(repository, source), find_revision(repository, target)
    with reading(repository.settings) as scratch:
        comparison = compare(repository, old, new, scratch)
        if header:
            write_line(_LEGEND if machine else _header(comparison))
        for line in _statistics(comparison.counters, machine=machine):
            write_line(line)
        for change in changes(repository, old, new, scratch, ignore_times=ignore_times):
            write_line(_machine_line(change) if machine else _line(change))


def _header(comparison: Comparison) -> str:
    return f"DELTA: {_side(comparison.old)} --> {_side(comparison.new)}"


def _side(tag: Tag) -> str:
    return f"{tag.name}/r{tag.revision} ({time.strftime('%d %b %Y %H:%M:%S', time.gmtime(tag.timestamp))})"


def _statistics(more: Counters, *, machine: bool) -> list[str]:
    # The place of a nested catalog is an entry in both catalogs.
    numbers = (more.regular, more.symlink, more.dir - more.nested, more.nested)
    labels = ("S F", "S S", "S D", "S N") if machine else tuple(f"d(# {what}):" for what in _COUNTED)
    return [f"{label} {number}" for label, number in zip(labels, numbers, strict=True)]


_COUNTED = ("regular files", "symlinks", "directories", "catalogs")


def _line(change: Change) -> str:
    path, old, new = shown(change.path) or "/", change.old, change.new
    if old is None and new is not None:
        return f"{path} add {kind_of(new)[0]} +{new.size} bytes"
    if old is not None and new is None:
        return f"{path} remove {kind_of(old)[0]} -{old.size} bytes"
    kinds = [kind_of(entry)[0] for entry in (old, new) if entry is not None]
    words = ", ".join(aspect.word for aspect in change.aspects)
    return f"{path} modify {'->'.join(dict.fromkeys(kinds))} [{words}]"


def _machine_line(change: Change) -> str:
    path, old, new = shown(change.path) or "/", change.old, change.new
    if old is None and new is not None:
        return f"A {kind_of(new)[1]} {path} +{new.size}"
    if old is not None and new is None:
        return f"R {kind_of(old)[1]} {path} -{old.size}"
    kinds = [kind_of(entry)[1] for entry in (old, new) if entry is not None]
    letters = "".join(aspect.letter for aspect in change.aspects)
    return f"M[{letters}] {''.join(dict.fromkeys(kinds))} {path}"
