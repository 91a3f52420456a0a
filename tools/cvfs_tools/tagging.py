"""cvfs-server tag."""

import time

import click

from cvfs.errors import FormatError, UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import Tag
from cvfs_server import tags
from cvfs_tools.running import write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options


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
