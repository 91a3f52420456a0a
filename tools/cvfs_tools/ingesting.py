"""cvfs-server ingest, graft."""

import grp
import os
import pwd
import re
import sys

import click

from cvfs.errors import FormatError, UsageError
from cvfs.hashes import Algorithm, as_path
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.sources.archive import Owner
from cvfs_server.sources.grafting import GraftForm, graft_of, read_graft, regular_files, write_graft
from cvfs_server.ways.archive import ArchiveOptions, publish_archive
from cvfs_tools.publish_options import Chosen, publish_options, warn
from cvfs_tools.running import one_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options

_MOUNTED = re.compile(r"/+cvmfs/+([^/]+)(/.*)?")
_MEGABYTE = 2**20
_STANDARD_INPUT = "-"


@click.command()
@click.argument("fqrn", required=False)
@click.option("-t", "--tar_file", "archive", metavar="FILE", default="", help="The archive, - for standard input")
@click.option("-b", "--base_dir", "base", metavar="PATH", default="", help="Where in the repository it goes")
@click.option("-d", "--delete", "removals", metavar="PATH", multiple=True, help="Remove this first (may be repeated)")
@click.option("-c", "--catalog", is_flag=True, help="Start a nested catalog at the base directory")
@click.option("-u", "--user", metavar="USER", default="", help="Whose everything is to be (default: CVMFS_USER)")
@click.option("-g", "--group", metavar="GROUP", default="", help="Which group's (default: the user's)")
@click.option("-k", "--keep-ownership", is_flag=True, help="Owners and groups as they are in the archive")
@publish_options
@site_options
def ingest(
    fqrn: str | None,
    *,
    archive: str,
    base: str,
    removals: tuple[str, ...],
    catalog: bool,
    user: str,
    group: str,
    keep_ownership: bool,
    chosen: Chosen,
    root: str,
) -> None:
    """Publish a tar archive, plain or compressed, without unpacking it; or only remove paths."""
    _check_words(archive, base, removals)
    site = site_at(root)
    name = chosen_repository(site, _named((base, *removals), fqrn))
    owner = _owner(site, name, user, group, keep=keep_ownership)
    what = ArchiveOptions(archive or None, _inside(base), tuple(map(_inside, removals)), catalog, owner)
    with chosen.watched(name) as told:
        report = publish_archive(site, name, what, told)
    chosen.print_report(report, load_settings(site, name))


def _check_words(archive: str, base: str, removals: tuple[str, ...]) -> None:
    if not archive and not base and not removals:
        raise UsageError("nothing to do: -t FILE names an archive, -b PATH where it goes, -d PATH what is removed")
    if base and not archive:
        raise UsageError(f"-b {base}: -t FILE is missing; to remove paths only, leave out -b")
    if archive and not base:
        raise UsageError(f"-t {archive}: -b PATH is missing, where in the repository it goes; / is the root")
    if "" in removals:
        raise UsageError("-d '': name the path that is to be removed")


def _named(paths: tuple[str, ...], fqrn: str | None) -> str | None:
    """The repository that paths below /cvmfs and the argument name, if they do."""
    names = {found[1] for path in paths if (found := _MOUNTED.fullmatch(path))}
    # As with the original, whatever follows a slash is of no meaning here.
    names |= set() if fqrn is None else {fqrn.partition("/")[0]}
    if len(names) > 1:
        raise UsageError(f"several repositories are named: {' '.join(sorted(names))}; everything goes into one")
    return next(iter(names), None)


def _inside(path: str) -> bytes:
    """A path of the repository; one below /cvmfs/NAME is accepted, too."""
    if found := _MOUNTED.fullmatch(path):
        warn(f"{path} is taken as {found[2] or '/'} of {found[1]}")
        path = found[2] or "/"
    if ".." in path.split("/") or "\0" in path:
        raise UsageError(f"{path!r}: a path of the repository has no '..'")
    return as_path(path)


def _owner(site: Site, fqrn: str, user: str, group: str, *, keep: bool) -> Owner:
    if keep and (user or group):
        raise UsageError("either -k keeps the owners of the archive, or -u and -g say who they are to be")
    if keep:
        return Owner()
    if group and not user:
        raise UsageError(f"-g {group}: -u USER is missing")
    uid, gid = _user(user or load_settings(site, fqrn).user)
    return Owner(uid, _group(group) if group else gid)


def _user(name: str) -> tuple[int, int]:
    try:
        found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():
            return int(name), int(name)
        raise UsageError(f"there is no user {name} on this machine; choose one with -u, or -k") from None
    return found.pw_uid, found.pw_gid


def _group(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {name} on this machine") from None


@click.command()
@click.option("-i", "--input", "source", metavar="FILE", required=True, help="File or directory, - for standard input")
@click.option("-o", "--output", "target", metavar="FILE", default="", help="Where it goes (default: standard output)")
@click.option(
    "-Z", "--compression", metavar="NAME", default="none", show_default=True, help="How the content is stored"
)
@click.option(
    "-c",
    "--chunk-size",
    metavar="MB",
    type=click.IntRange(0),
    default=24,
    show_default=True,
    help="Length of pieces, 0 for whole files",
)
@click.option(
    "-a", "--hash-algorithm", metavar="NAME", default="sha1", show_default=True, help="sha1, rmd160 or shake128"
)
@click.option("-b", "--bulk", is_flag=True, help="Name the whole file's object beside the chunks")
@click.option("-v", "--verbose", is_flag=True, help="Print each file's name")
def graft(
    *,
    source: str,
    target: str,
    compression: str,
    chunk_size: int,
    hash_algorithm: str,
    bulk: bool,
    verbose: bool,
) -> None:
    """Write graft files, which publish names and hashes of files whose content lies elsewhere."""
    form = GraftForm(_algorithm(hash_algorithm), compression, chunk_size * _MEGABYTE, bulk)
    if source == _STANDARD_INPUT:
        if target:
            raise UsageError("-o: what comes from standard input has neither name nor mode; redirect the output")
        _print_graft(graft_of(sys.stdin.buffer.read, form).serialise())
        return
    for path, place in _tasks(os.fsencode(source), os.fsencode(target)):
        if verbose:
            print(one_line(f"Grafting {os.fsdecode(path)}"), file=sys.stderr)
        if place:
            write_graft(path, place, form)
        else:
            _print_graft(read_graft(path, form).serialise())


def _tasks(source: bytes, target: bytes) -> list[tuple[bytes, bytes]]:
    """Each file, and the file that is to stand in its place."""
    if os.path.isdir(source):
        if target and not os.path.isdir(target):
            raise UsageError(f"{os.fsdecode(source)} is a directory, but {os.fsdecode(target)} is none")
        top = source.rstrip(b"/")
        return [(top + path, target + path if target else b"") for path in regular_files(top)]
    if os.path.isdir(target):
        return [(source, os.path.join(target, os.path.basename(source)))]
    return [(source, target)]


def _print_graft(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _algorithm(name: str) -> Algorithm:
    try:
        return Algorithm.named(name)
    except FormatError as error:
        raise UsageError(f"--hash-algorithm {name}: {error}") from error
