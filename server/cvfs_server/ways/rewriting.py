"""Owners, hard links and redundant hashes of everything that is published, changed in the catalogs; touches no object.

Each is a new revision; older ones stay as they are. Source: FORMAT sections 4.5, 5.2, 5.6.
"""

from cvfs.client.owners import OwnerMap
from cvfs.errors import UsageError
from cvfs.format.dirent import DirectoryEntry
from cvfs_server.draft import Contribution
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.site import Site
from cvfs_server.sources.rewritten import Mapping, Rewritten
from cvfs_server.ways.direct import publish_directly


def rewrite(site: Site, fqrn: str, mapping: Mapping, options: PublishOptions | None = None) -> PublishReport:
    """Publish the present revision with all its rows mapped. Raises as `publish` does."""
    return publish_directly(site, fqrn, lambda base: Contribution(Rewritten.open(base.tree, mapping)), options)


def owner_mapping(users: OwnerMap, groups: OwnerMap) -> Mapping:
    """Other owners; all rules apply at once, so numbers can be swapped. Raises UsageError for a map without any rule."""
    for owners, column in ((users, "UID"), (groups, "GID")):
        if not owners.entries and owners.default is None:
            raise UsageError(f"the {column} map is empty: '<from> <to>' or '* <to>' is needed")

    def apply(row: DirectoryEntry) -> DirectoryEntry:
        return row._replace(uid=users.of(row.uid), gid=groups.of(row.gid))

    return Mapping(f"{_concerned('uid', users)} OR {_concerned('gid', groups)}", apply)


def _concerned(column: str, owners: OwnerMap) -> str:
    changed = ", ".join(str(number) for number, other in owners.entries.items() if other != number)
    condition = f"{column} IN ({changed})"
    if owners.default is not None:
        kept = ", ".join(map(str, {*owners.entries, owners.default}))
        condition += f" OR {column} NOT IN ({kept})"
    return condition


def _alone(row: DirectoryEntry) -> DirectoryEntry:
    return row if row.is_directory or row.hardlinks <= 1 else row._replace(hardlinks=1)


def _without_bulk_hash(row: DirectoryEntry) -> DirectoryEntry:
    return row._replace(digest=None) if row.is_chunked else row


# Every name becomes a file of its own, with the same content.
SINGLE_LINKS = Mapping("hardlinks > 1 AND (mode & 61440) <> 16384", _alone)
# Files that are stored in chunks lose the hash of the whole.
NO_BULK_HASHES = Mapping("(flags & 64) <> 0 AND hash IS NOT NULL", _without_bulk_hash)
