"""cvfs ls, cat, cp, info: a repository without any mount."""

import errno
import json
import os
import shutil
import stat
import sys
import time
from typing import Any

import click

from cvfs.client.library.links import Paths
from cvfs.client.repository import Repository
from cvfs.errors import IsADirectory, UsageError
from cvfs.format.dirent import DirectoryEntry
from cvfs.hashes import as_path
from cvfs_tools.repository_options import repository_options, settings
from cvfs_tools.running import shown, write_line

_COPY_STEP = 2**20


def _open(repository: str, options: dict[str, Any]) -> Repository:
    return Repository.open_settings(settings(repository, **options))


@click.command()
@click.argument("repository")
@click.argument("paths", nargs=-1)
@click.option("-l", "long", is_flag=True, help="Mode, links, owner, size and time")
@click.option("-a", "all_entries", is_flag=True, help="Names that begin with a dot too")
@click.option("-d", "directory", is_flag=True, help="The entry itself, not what is in it")
@click.option("-R", "recursive", is_flag=True, help="Everything below")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line")
@repository_options
def ls(
    repository: str,
    paths: tuple[str, ...],
    *,
    long: bool,
    all_entries: bool,
    directory: bool,
    recursive: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """List a REPOSITORY's directories (fqrn or URL) without mounting it."""
    with _open(repository, options) as opened:
        for path in paths or ("/",):
            for name, entry in _listed(opened, as_path(path), directory=directory, recursive=recursive):
                if all_entries or directory or not name.rpartition(b"/")[2].startswith(b"."):
                    _print_entry(name, entry, long=long, as_json=as_json)


def _listed(opened: Repository, path: bytes, *, directory: bool, recursive: bool) -> list[tuple[bytes, DirectoryEntry]]:
    entry = opened.lookup(path)
    if directory or not entry.is_directory:
        return [(path or b"/", entry)]
    if recursive:
        return [(found, below) for found, below in opened.walk(path) if found != path]
    return [(below.name, below) for below in sorted(opened.listing(path))]


def _print_entry(name: bytes, entry: DirectoryEntry, *, long: bool, as_json: bool) -> None:
    if as_json:
        write_line(json.dumps(_described(name, entry)))
    elif long:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.mtime))
        target = f" -> {shown(entry.symlink)}" if entry.is_link else ""
        owner = f"{entry.uid:>5} {entry.gid:>5}"
        write_line(
            f"{stat.filemode(entry.mode)} {entry.linkcount:>3} {owner} {entry.size:>11} {when} {shown(name)}{target}"
        )
    else:
        write_line(shown(name))


def _described(name: bytes, entry: DirectoryEntry) -> dict[str, object]:
    return {
        "name": shown(name),
        "mode": f"{entry.mode:o}",
        "links": entry.linkcount,
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": entry.mtime,
        "mtime_ns": entry.mtime_ns,
        "hash": str(entry.content) if entry.content else None,
        "chunked": entry.is_chunked,
        "target": shown(entry.symlink) if entry.is_link else None,
    }


@click.command()
@click.argument("repository")
@click.argument("paths", nargs=-1, required=True)
@repository_options
def cat(repository: str, paths: tuple[str, ...], **options: Any) -> None:
    """Write files of a REPOSITORY to standard output."""
    with _open(repository, options) as opened:
        for path in paths:
            with opened.open_file(_resolved(opened, path)) as file:
                shutil.copyfileobj(file, sys.stdout.buffer, _COPY_STEP)
        sys.stdout.buffer.flush()


@click.command()
@click.argument("repository")
@click.argument("source")
@click.argument("target")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Copy a directory with everything below")
@repository_options
def cp(repository: str, source: str, target: str, *, recursive: bool, **options: Any) -> None:
    """Copy SOURCE out of a REPOSITORY to the local path TARGET; modes and times are kept."""
    with _open(repository, options) as opened:
        path = as_path(source)
        entry = opened.lookup(path)
        if entry.is_directory and not recursive:
            raise IsADirectory(f"{source}: is a directory, use -r")
        place = os.fsencode(target)
        if os.path.isdir(place):
            place = os.path.join(os.path.realpath(place), path.rpartition(b"/")[2])
        _copy(opened, path, entry, place)


def _copy(opened: Repository, path: bytes, entry: DirectoryEntry, place: bytes) -> None:
    if entry.is_directory:
        _make_directory(place)
        for child in opened.listing(path):
            _copy(opened, path + b"/" + child.name, child, os.path.join(place, child.name))
        _keep_attributes(place, entry)
    elif entry.is_link:
        os.symlink(entry.symlink, place)
        os.utime(place, ns=_times(entry), follow_symlinks=False)
    elif entry.is_regular:
        _copy_file(opened, path, entry, place)
    else:
        raise UsageError(f"{shown(path)}: a special file, copy it from a mount")


def _copy_file(opened: Repository, path: bytes, entry: DirectoryEntry, place: bytes) -> None:
    with opened.open_file(path) as file, open(place, "wb", opener=_without_following) as out:
        shutil.copyfileobj(file, out, _COPY_STEP)
        out.flush()
        # /dev/null, a terminal or a pipe takes the bytes; its mode and times are not the file's.
        if stat.S_ISREG(os.fstat(out.fileno()).st_mode):
            _keep_attributes(out.fileno(), entry)


def _keep_attributes(place: bytes | int, entry: DirectoryEntry) -> None:
    os.chmod(place, stat.S_IMODE(entry.mode) & 0o777)
    os.utime(place, ns=_times(entry))


def _times(entry: DirectoryEntry) -> tuple[int, int]:
    moment = entry.mtime * 10**9 + (entry.mtime_ns or 0)
    return moment, moment


# A hostile catalog may list a name twice, as a link and as something to be written through it.


def _make_directory(place: bytes) -> None:
    if os.path.islink(place):
        raise UsageError(f"{shown(place)}: is a symbolic link, a directory cannot be copied there")
    os.makedirs(place, exist_ok=True)


def _without_following(place: str, flags: int) -> int:
    try:
        return os.open(place, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"{shown(os.fsencode(place))}: is a symbolic link, not written through: name its target"
            ) from error
        raise


def _resolved(opened: Repository, path: str) -> bytes:
    """The path behind symbolic links, as `cat` on a mount would follow them; they may not leave the repository."""
    home = f"{opened.settings.mount_dir}/{opened.settings.fqrn}".encode()
    return Paths(home, opened.lookup, lambda entry: entry.symlink).find(as_path(path))[0]


@click.command()
@click.argument("repository")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object")
@repository_options
def info(repository: str, *, as_json: bool, **options: Any) -> None:
    """Show what a REPOSITORY is: revision, trust, contents."""
    with _open(repository, options) as opened:
        facts = _facts(opened)
    if as_json:
        write_line(json.dumps(facts))
        return
    for name, value in facts.items():
        write_line(f"{name + ':':<22} {value}")


def _facts(opened: Repository) -> dict[str, object]:
    revision, root = opened.revision, opened.tree.root()
    own, below = root.counters()
    total = own + below
    return {
        "Repository name": opened.settings.fqrn,
        "Revision": opened.number,
        "Root hash": str(revision.root_hash),
        "Published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(root.last_modified)),
        "TTL": root.ttl,
        "Whitelist expires": revision.whitelist_expires or "not checked (pinned root hash)",
        "Entries": total.entries,
        "Regular files": total.regular,
        "Directories": total.dir,
        "Symbolic links": total.symlink,
        "Nested catalogs": total.nested,
        "Chunked files": total.chunked,
        "Bytes": total.file_size,
    }
