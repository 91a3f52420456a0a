"""cvfs-server tag, rollback, checkout."""

import json
import time

import click

from cvfs.errors import FormatError, UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import TRUNK, TRUNK_PREVIOUS, Branch, Tag
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.tags import tags
from cvfs_server.tags.branches import check_out, leave_branch
from cvfs_server.tags.rollback import rollback as roll_back
from cvfs_server.transaction.transactions import refresh_mount
from cvfs_tools.running import write_line
from cvfs_tools.server_options import chosen_repository, confirm, site_at, site_options

_DEFAULT_BRANCH = "(default)"
_LABELS = ("Name", "Revision", "Timestamp", "Branch", "Description")
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "kiB"))


@click.command()
@click.argument("fqrn", required=False)
@click.option("-a", "--add", metavar="NAME", help="Name the present revision, or the one of -h")
@click.option("-m", "--message", metavar="TEXT", default="", help="Description of the new tag")
@click.option("-h", "--root-hash", metavar="HASH", help="The root catalog to name; a name that is taken moves to it")
@click.option("-r", "--remove", metavar="NAME", multiple=True, help="Forget a name; several times")
@click.option("-i", "--inspect", metavar="NAME", help="Show one tag")
@click.option("-l", "--list", "list_all", is_flag=True, help="List all tags (what happens by default)")
@click.option("-b", "--branches", is_flag=True, help="List all branches")
@click.option("-x", "--machine", is_flag=True, help="Separated by single blanks, for programs")
@click.option("--json", "as_json", is_flag=True, help="Tags as a JSON array")
@click.option("-f", "--force", is_flag=True, help="Remove without asking")
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
    branches: bool,
    machine: bool,
    as_json: bool,
    force: bool,
    root: str,
) -> None:
    """Named revisions of a repository: list, add, move, remove, inspect."""
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if sum((add is not None, bool(remove), inspect is not None, list_all, branches)) > 1:
        raise UsageError("tag: one of -a, -r, -i, -l and -b at a time")
    if add is not None:
        content = _content(root_hash) if root_hash else None
        tags.add_tag(site, name, add, message, content, moving=_print_move)
    elif remove:
        _remove(site, name, [word for words in remove for word in words.split() or [words]], force=force)
    elif branches:
        _print_branches(tags.list_branches(site, name), machine=machine)
    else:
        _show(site, name, inspect, machine=machine, as_json=as_json)


@click.command()
@click.argument("fqrn", required=False)
@click.option("-t", "--tag", metavar="NAME", help="Where to go back to (by default the last publish is undone)")
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@site_options
def rollback(fqrn: str | None, *, tag: str | None, force: bool, root: str) -> None:
    """Publish an earlier revision again, as the newest one; the tags in between are removed."""
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    question = f"ROLLBACK to {tag} AS THE LATEST REVISION!" if tag is not None else "UNDO your last published revision!"
    confirm(f"You are about to {question}", force=force)
    done = roll_back(site, name, TRUNK_PREVIOUS if tag is None else tag)
    write_line(f"Rolling back repository (leaving behind {done.left_behind})")
    removed = [gone for gone in done.removed if gone.name not in {TRUNK, TRUNK_PREVIOUS}]
    width = max((len(gone.name) for gone in removed), default=0)
    for gone in removed:
        write_line(f"removed tag {gone.name:<{width}} ({gone.root_catalog})")
    write_line(
        f"{name}: revision {done.revision} published, as revision {done.target.revision} was ({done.target.name})"
    )


@click.command()
@click.argument("fqrn", required=False)
@click.option("-b", "--branch", metavar="NAME", help="The branch to publish on")
@click.option("-t", "--tag", metavar="NAME", help="Where a new branch starts")
@site_options
def checkout(fqrn: str | None, *, branch: str | None, tag: str | None, root: str) -> None:
    """Choose what the next publish starts from: the head of a branch, a tag as a new branch, or trunk."""
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if branch is None:
        if tag is not None:
            raise UsageError("checkout: a tag starts a new branch, name it with -b")
        leave_branch(site, name)
        write_line("Reset to trunk on default branch")
    else:
        done = check_out(site, name, branch, tag or "")
        onto = "on branch" if tag is None else "onto new branch"
        write_line(f"Checked out tag {done.tag} ({done.root}) {onto} {done.branch}")
    refresh_mount(site, load_settings(site, name))


def _content(root_hash: str) -> ContentHash:
    try:
        return ContentHash.parse(root_hash, ObjectKind.CATALOG)
    except FormatError as error:
        raise UsageError(f"--root-hash {root_hash}: {error}") from error


def _print_move(old: Tag, new: Tag) -> None:
    write_line(f"moving tag '{new.name}' from '{old.root_catalog}' to '{new.root_catalog}'")


def _remove(site: Site, name: str, names: list[str], *, force: bool) -> None:
    listed = "".join(f"* {gone}\n" for gone in names)
    confirm(f"You are about to remove these tags from {name}:\n{listed}\n", force=force)
    for gone in tags.remove_tags(site, name, names):
        write_line(f"deleting '{gone.name}' ({gone.root_catalog})")


def _show(site: Site, name: str, inspect: str | None, *, machine: bool, as_json: bool) -> None:
    found = tags.list_tags(site, name)
    if inspect is not None:
        found = [entry for entry in found if entry.name == inspect]
        if not found:
            raise UsageError(f"{name} has no tag {inspect!r}")
    if as_json:
        write_line(json.dumps([_facts(entry) for entry in found]))
    elif machine:
        for entry in found:
            write_line(_machine_line(entry))
    elif inspect is not None:
        _print_tag(found[0])
    else:
        _print_table(found)


def _facts(entry: Tag) -> dict[str, object]:
    return {
        "name": entry.name,
        "root_hash": str(entry.root_catalog),
        "size": entry.size,
        "revision": entry.revision,
        "timestamp": entry.timestamp,
        "branch": entry.branch,
        "description": entry.description,
    }


def _machine_line(entry: Tag) -> str:
    branch = entry.branch or _DEFAULT_BRANCH
    text = " ".join(entry.description.splitlines())
    fields = (entry.name, entry.root_catalog, entry.size, entry.revision, entry.timestamp, branch, text)
    return " ".join(map(str, fields))


def _print_tag(entry: Tag) -> None:
    facts = {
        "Name": entry.name,
        "Revision": entry.revision,
        "Timestamp": _when(entry.timestamp),
        "Branch": entry.branch,
        "Root Hash": entry.root_catalog,
        "Catalog Size": _size(entry.size),
    }
    for label, value in facts.items():
        write_line(f"{label + ':':<13} {value}")
    write_line(entry.description)


def _print_table(found: list[Tag]) -> None:
    """The latest last, where the eye is."""
    rows = [(e.name, str(e.revision), _when(e.timestamp), e.branch, e.description) for e in reversed(found)]
    widths = [max(len(row[column]) for row in [_LABELS, *rows]) for column in range(4)]
    rule = ["─" * width for width in [*widths, len(_LABELS[4]) + 1]]
    write_line(_table_line(_LABELS, widths))
    write_line("─┼─".join(rule))
    for row in rows:
        write_line(_table_line((row[0], row[1].rjust(widths[1]), *row[2:]), widths))
    write_line("─┴─".join(rule))
    write_line(f"listing contains {len(found)} tags")


def _table_line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells[:4], widths, strict=True))
    return " │ ".join((*padded, cells[4]))


def _when(timestamp: int) -> str:
    there = time.gmtime(timestamp)
    return f"{there.tm_mday} {time.strftime('%b %Y %H:%M:%S', there)}"


def _size(size: int) -> str:
    for unit, name in _UNITS:
        if size > unit:
            return f"{size / unit:.3f} {name}"
    return f"{size} Byte"


def _print_branches(found: list[tuple[int, Branch]], *, machine: bool) -> None:
    for level, branch in found:
        name = f"{branch.name or _DEFAULT_BRANCH} @{branch.initial_revision}"
        lines = "│ " * (level - 1) + "├ " * (level > 0)
        write_line(f"[{level}] {' ' * level}{name}" if machine else f"{lines}{name}")
