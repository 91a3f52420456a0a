"""An archive published: what is in it appears below a base directory, named paths disappear, all in one revision.

Source: FORMAT sections 5.5, 9.8.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cvfs_server.draft import Base, Contribution
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.site import Site
from cvfs_server.sources.archive import ArchiveRules, ArchiveSource, Owner, removable
from cvfs_server.sources.archive_file import open_archive
from cvfs_server.sources.base import check_path
from cvfs_server.ways.direct import publish_directly


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Which archive (`-` is the standard input, None only removes), the directory of the repository below which it goes, the
    paths that are removed before, whether a nested catalog starts there, and whose everything is to be."""

    archive: str | None = None
    base: bytes = b""
    removals: tuple[bytes, ...] = ()
    catalog: bool = False
    owner: Owner = field(default_factory=Owner)


def publish_archive(
    site: Site, fqrn: str, chosen: ArchiveOptions, options: PublishOptions | None = None
) -> PublishReport:
    """Put an archive's members into the repository, as a new revision. Raises as `publish` does."""
    options = options or PublishOptions()
    check_path(chosen.base)
    with contextlib.ExitStack() as opened:
        return publish_directly(site, fqrn, lambda base: _open(base, chosen, options, opened), options)


def _open(base: Base, chosen: ArchiveOptions, options: PublishOptions, opened: contextlib.ExitStack) -> Contribution:
    settings = base.repository.settings
    rules = ArchiveRules(
        chosen.base,
        chosen.owner,
        chosen.catalog,
        settings.mtime_ns,
        settings.xattrs,
        settings.ignore_special_files,
        time.time_ns(),
    )
    archive = open_archive(chosen.archive, base.publisher.scratch) if chosen.archive else None
    if archive:
        opened.callback(archive.close)
    removals = list(_present(base, chosen.removals, options.warn))
    return Contribution(ArchiveSource.open(archive, removals, base.tree, rules))


def _present(base: Base, paths: tuple[bytes, ...], warn: Callable[[str], None]) -> Iterator[bytes]:
    """The paths that can be removed; about the others `warn` is told."""
    for path in paths:
        if removable(base.tree, path):
            yield path
        else:
            warn(f"{path.decode('utf-8', 'backslashreplace') or '/'} cannot be removed: it is not in the repository")
