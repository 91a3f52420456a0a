"""cvfs-server info, list, tag, check."""

import sys
import time

import click

from cvfs.errors import CvfsError, FormatError, UsageError
from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import Tag
from cvfs_server import tags
from cvfs_server.repository import WHITELIST, PublishedRepository, reading
from cvfs_server.settings import configured_repositories
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options


@click.command(name="list")
@site_options
def list_repositories(*, root: str) -> None:
    """List the repositories of this site; one that cannot be read does not hide the others."""
    site, broken = site_at(root), 0
    for fqrn in configured_repositories(site):
        try:
            manifest = PublishedRepository.open(site, fqrn).manifest
        except CvfsError as error:
            print(one_line(f"cvfs-server: {fqrn}: {error}"), file=sys.stderr)
            broken = error.exit_status
        else:
            write_line(f"{fqrn} (stratum0 / local) - revision {manifest.revision}")
    sys.exit(broken)


@click.command()
@click.argument("fqrn", required=False)
@site_options
def info(fqrn: str | None, *, root: str) -> None:
    """Show what a repository is and how it is published."""
    site = site_at(root)
    repository = PublishedRepository.open(site, chosen_repository(site, fqrn))
    with reading(repository.settings) as scratch:
        own, below = repository.tree(scratch).root().counters()
    settings, manifest, total = repository.settings, repository.manifest, own + below
    whitelist = repository.document(WHITELIST)
    expires = parse_whitelist(split_signed(whitelist).payload).expires if whitelist else "missing"
    facts = {
        "Repository name": settings.fqrn,
        "Stratum0 URL": settings.url,
        "Storage": settings.storage,
        "Revision": manifest.revision,
        "Root hash": manifest.root_catalog,
        "Published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(manifest.timestamp)),
        "Whitelist expires": expires,
        "Hash algorithm": settings.algorithm.name.lower(),
        "Compression": settings.compression + (" (cvfs clients only)" if settings.compression == "zstd" else ""),
        "Garbage collection": "yes" if manifest.garbage_collectable else "no",
        "TTL": manifest.ttl,
        "Entries": total.entries,
        "Nested catalogs": total.nested,
        "Bytes": total.file_size,
    }
    for name, value in facts.items():
        write_line(f"{name + ':':<20} {value}")


@click.command()
@click.argument("fqrn", required=False)
@click.option("-a", "--add", metavar="NAME", help="Name the present revision, or the one of -h")
@click.option("-m", "--message", metavar="TEXT", default="", help="Description of the new tag")
@click.option("-h", "--root-hash", metavar="HASH", help="The root catalog to name")
@click.option("-r", "--remove", metavar="NAME", multiple=True, help="Forget a name; several times")
@click.option("-i", "--inspect", metavar="NAME", help="Show one tag")
@click.option("-l", "--list", "list_all", is_flag=True, help="List all tags (what happens by default)")
@click.option("-x", "--machine", is_flag=True, help="Separated by single blanks, for programs")
@click.option("-f", "--force", is_flag=True, help="Ask nothing (nothing is asked)")
@site_options
def tag(
    fqrn: str | None,
    *,
    add: str | None,
    message: str,
    root_hash: str | None,
    remove: tuple[str, ...],
    inspect: str | None,
    list_all: bool,
    machine: bool,
    force: bool,
    root: str,
) -> None:
    """Named revisions of a repository: list, add, remove, inspect."""
    del force
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if sum(map(bool, (add, remove, inspect, list_all))) > 1:
        raise UsageError("tag: one of -a, -r, -i and -l at a time")
    if add:
        content = _content(root_hash) if root_hash else None
        tags.add_tag(site, name, add, message, content)
    elif remove:
        tags.remove_tags(site, name, list(remove))
    else:
        found = tags.list_tags(site, name)
        if inspect:
            found = [entry for entry in found if entry.name == inspect]
            if not found:
                raise UsageError(f"{name} has no tag {inspect!r}")
        _print_tags(found, machine=machine)


def _content(root_hash: str) -> ContentHash:
    try:
        return ContentHash.parse(root_hash, ObjectKind.CATALOG)
    except FormatError as error:
        raise UsageError(f"--root-hash {root_hash}: {error}") from error


def _print_tags(found: list[Tag], *, machine: bool) -> None:
    if machine:
        for entry in found:
            branch = entry.branch or "(default)"
            fields = (entry.name, entry.root_catalog, entry.size, entry.revision, entry.timestamp, branch)
            write_line(" ".join(map(str, (*fields, entry.description))))
        return
    width = max((len(entry.name) for entry in found), default=4)
    write_line(f"{'Name':<{width}} | Revision | Timestamp            | Branch    | Description")
    for entry in found:
        when = time.strftime("%d %b %Y %H:%M:%S", time.gmtime(entry.timestamp))
        write_line(f"{entry.name:<{width}} | {entry.revision:>8} | {when} | {entry.branch:<9} | {entry.description}")
    write_line(f"listing contains {len(found)} tags")
