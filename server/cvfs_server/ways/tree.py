"""A directory tree published: the whole repository shows it, or a sub-tree of it does; remembers what the scan saw."""

import os
import time
from dataclasses import dataclass

from cvfs.errors import Unpublishable
from cvfs.hashes import ContentHash
from cvfs_server.changes import TrustRules
from cvfs_server.draft import Base, Contribution
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.site import Site
from cvfs_server.sources.base import check_path
from cvfs_server.sources.last_scan import DirectoryMemory, LastScan, Tree, keep_last_scan, load_last_scan
from cvfs_server.sources.scan import TreeSource, scan_rules
from cvfs_server.sources.subtree import Subtree
from cvfs_server.ways.direct import publish_directly


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """Where in the repository the tree is to be (empty: it is the whole); whether equal time stamps prove equal content."""

    to: bytes = b""
    trust_mtime: bool = False


def publish_tree(
    site: Site,
    fqrn: str,
    source: str | bytes,
    options: PublishOptions | None = None,
    tree_options: TreeOptions | None = None,
) -> PublishReport:
    """Make the repository show the directory tree `source`, as a new revision. Raises as `publish` does."""
    chosen = tree_options or TreeOptions()
    check_path(chosen.to)
    path = os.path.realpath(os.fsencode(source))
    return publish_directly(site, fqrn, lambda base: _open(base, path, chosen), options)


def _open(base: Base, path: bytes, chosen: TreeOptions) -> Contribution:
    settings = base.repository.settings
    _refuse_own_places(path, base)
    tree = Tree.at(path, xattrs=settings.xattrs)
    last = load_last_scan(settings.spool, str(base.tree.root_hash), tree)
    memory, scanned_at = DirectoryMemory(last), time.time_ns()

    def done(root: ContentHash) -> None:
        keep_last_scan(settings.spool, str(root), tree, LastScan(scanned_at, memory.directories))

    scanned = TreeSource(path, scan_rules(settings))
    source = Subtree(scanned, chosen.to, base.tree) if chosen.to else scanned
    return Contribution(source, memory.recognise, TrustRules(last.started_ns, chosen.trust_mtime), done)


def _refuse_own_places(path: bytes, base: Base) -> None:
    """A tree must not contain the repository that it is published to: it would grow while it is read, and show its keys."""
    settings, site = base.repository.settings, base.repository.site
    keys = os.path.dirname(site.key(settings.fqrn, "key"))
    for what, place in (("storage", settings.storage), ("spool area", settings.spool), ("keys", keys)):
        if (os.path.realpath(os.fsencode(place)) + b"/").startswith(path.rstrip(b"/") + b"/"):
            raise Unpublishable(
                f"{os.fsdecode(path)} contains {place}, the {what} of {settings.fqrn} itself; publish another directory"
            )
