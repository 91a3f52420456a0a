"""cvfs-server catalog-chown, eliminate-hardlinks, eliminate-bulk-hashes."""

from pathlib import Path

import click

from cvfs.client.owners import OwnerMap, parse_owner_map
from cvfs.errors import UsageError
from cvfs_server.publication import PublishOptions
from cvfs_server.sources.rewritten import Mapping
from cvfs_server.ways import rewriting
from cvfs_server.ways.rewriting import NO_BULK_HASHES, SINGLE_LINKS, owner_mapping
from cvfs_tools.publish_options import progress_line, warn
from cvfs_tools.running import write_line
from cvfs_tools.server_options import chosen_repository, confirm, site_at, site_options


@click.command("catalog-chown")
@click.argument("fqrn", required=False)
@click.option("-u", "--uid-map", metavar="FILE", required=True, help="Lines '<from> <to>' or '* <to>' for users")
@click.option("-g", "--gid-map", metavar="FILE", required=True, help="The same for groups")
@site_options
def catalog_chown(fqrn: str | None, *, uid_map: str, gid_map: str, root: str) -> None:
    """Other owners for everything that is published, as a new revision; no content is touched."""
    mapping = owner_mapping(_map(uid_map, "UID"), _map(gid_map, "GID"))
    _rewrite(fqrn, root, mapping, "")


@click.command("eliminate-hardlinks")
@click.argument("fqrn", required=False)
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@site_options
def eliminate_hardlinks(fqrn: str | None, *, force: bool, root: str) -> None:
    """Every name of a file becomes a file of its own, as a new revision; no content is touched."""
    question = "" if force else "This will break up all hardlink relationships that are currently present in '{}'."
    _rewrite(fqrn, root, SINGLE_LINKS, question)


@click.command("eliminate-bulk-hashes")
@click.argument("fqrn", required=False)
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@site_options
def eliminate_bulk_hashes(fqrn: str | None, *, force: bool, root: str) -> None:
    """Files that are stored in chunks lose the hash of the whole file, as a new revision; garbage collection frees it."""
    question = "" if force else "This will remove the bulk hashes of all chunked files that are present in '{}'."
    _rewrite(fqrn, root, NO_BULK_HASHES, question)


def _rewrite(fqrn: str | None, root: str, mapping: Mapping, question: str) -> None:
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if question:
        confirm(f"{question.format(name)} This process cannot be undone!", force=False)
    with progress_line(name) as progress:
        report = rewriting.rewrite(site, name, mapping, PublishOptions(progress=progress, warn=warn))
    write_line(
        f"{name}: revision {report.revision} published in {report.seconds:.1f} s: {report.modified} entries changed"
    )


def _map(path: str, kind: str) -> OwnerMap:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{kind} map file {path}: {error.strerror}") from error
    return parse_owner_map(text, path)
