"""A new repository: keys, places, configuration, and a first revision that is empty. Source: FORMAT sections 3.1, A.1."""

import contextlib
import os
import stat
import time
from dataclasses import dataclass

from cvfs.catalog.schema import Counters
from cvfs.catalog.writer import CatalogWriter
from cvfs.compression import ZLIB
from cvfs.errors import StoreFull, UsageError
from cvfs.format import metainfo
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.format.manifest import Manifest
from cvfs.hashes import ObjectKind
from cvfs.history import History, Tag, advance
from cvfs_server.catalogs.objects import CatalogObjects, StoredCatalog
from cvfs_server.founding.ownership import Owner, give_tree, owner_named
from cvfs_server.publishers import Publisher, publishing
from cvfs_server.release import Revision, put_object, release
from cvfs_server.repository import MANIFEST
from cvfs_server.settings import RepositorySettings, configuration_text
from cvfs_server.signing.keychain import MASTER_KEY, choose_keychain, write_keychain
from cvfs_server.signing.keys import write_new_file
from cvfs_server.signing.resign import DEFAULT_DAYS, sign_new_whitelist
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of
from cvfs_server.tags.tags import keep_automatic_since

MASTER_REPLICA = ".cvmfs_master_replica"
_ROOT_MODE = stat.S_IFDIR | 0o755
_ROOT_SIZE = 4096


@dataclass(frozen=True, slots=True)
class NewRepository:
    """What a new repository is beside its settings. The whitelist is valid for `days`; clients of a `volatile` one forget its
    contents first. `keys` is the directory with keys that exist; without them, new ones are made.
    """

    days: float = DEFAULT_DAYS
    replicable: bool = True
    volatile: bool = False
    keys: str = ""


def mkfs(site: Site, settings: RepositorySettings, new: NewRepository | None = None) -> Manifest:
    """Create a repository; its first revision is 1, on top of an unpublished 0 as the original does it.

    All of it belongs to the user `settings.user`. Without a master key there is no whitelist yet: it has to be signed
    elsewhere. Raises UsageError if any part of such a repository is there already, StoreFull.
    """
    new = new or NewRepository()
    storage = storage_of(settings)
    if os.path.exists(site.configuration(settings.fqrn)) or storage.has(MANIFEST):
        raise UsageError(f"{settings.fqrn} exists already: remove it first, or choose another name")
    # First of all: what cannot be written down, or belong to anybody, is refused before anything is made.
    text, owner, now = configuration_text(settings), owner_named(settings.user), int(time.time())
    keep_automatic_since(settings.auto_tag_timespan, now)
    with contextlib.ExitStack() as on_failure:
        # Keys that signed nothing are of no use, and would be in the way of the next attempt.
        for path in write_keychain(site, settings.fqrn, choose_keychain(site, settings.fqrn, new.keys), owner):
            on_failure.callback(os.unlink, path)
        storage.create()
        if os.path.exists(site.key(settings.fqrn, MASTER_KEY)):
            sign_new_whitelist(site, settings, new.days, now)
        with publishing(settings, "mkfs") as publisher:
            manifest = _first_revision(site, settings, publisher, _empty_tree(owner, now), volatile=new.volatile)
        on_failure.pop_all()
    if new.replicable:
        storage.replace(MASTER_REPLICA, b"")
    give_repository(settings, owner)
    # Last: a repository whose configuration is there is complete.
    write_configuration(site.configuration(settings.fqrn), text)
    return manifest


def give_repository(settings: RepositorySettings, owner: Owner) -> None:
    """Let storage and spool area belong to the user who publishes. Raises StoreFull."""
    if settings.s3 is None:
        give_tree(settings.storage, owner)
    give_tree(settings.spool, owner)


def write_configuration(path: str, text: str) -> None:
    """A server.conf that was not there. Raises UsageError, StoreFull."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise StoreFull(f"cannot make {path}: {error.strerror}; use --root for a place of your own") from error
    write_new_file(path, text.encode("utf-8", "surrogateescape"), 0o644)


def _empty_tree(owner: Owner, now: int) -> DirectoryEntry:
    return DirectoryEntry(b"", _ROOT_MODE, _ROOT_SIZE, now, None, owner.uid, owner.gid, 2, None, int(Flag.DIRECTORY))


def _first_revision(
    site: Site, settings: RepositorySettings, publisher: Publisher, tree: DirectoryEntry, *, volatile: bool
) -> Manifest:
    storage, now = publisher.storage, tree.mtime
    objects = CatalogObjects(storage, publisher.scratch, settings.algorithm, ZLIB)
    properties = {"TTL": str(settings.ttl)} | ({"volatile": "1"} if volatile else {})
    zero = _root_catalog(objects, tree, properties, 0, None)
    first = _root_catalog(objects, tree, properties, 1, zero)
    info = put_object(storage, settings.algorithm, ObjectKind.METAINFO, metainfo.serialise({}))
    head = Tag("", first.content, 1, now, "", first.size)
    history = advance(History(settings.fqrn), head, None, automatic=settings.auto_tag)
    revision = Revision(1, now, first, history, metainfo=info, forerunners=(zero.content,))
    return release(site, settings, revision, publisher)


def _root_catalog(
    objects: CatalogObjects,
    tree: DirectoryEntry,
    properties: dict[str, str],
    number: int,
    previous: StoredCatalog | None,
) -> StoredCatalog:
    writer = CatalogWriter.create(objects.new_path(), b"", tree)
    for key, value in properties.items():
        writer.set_property(key, value)
    writer.finish(number, tree.mtime, previous.content if previous else None, Counters())
    return objects.store(writer.path)


def make_skeleton(directory: str, owner: Owner) -> None:
    """The empty directories of a repository's published files (FORMAT section 1.2). Raises StoreFull."""
    storage_of(RepositorySettings("skeleton.invalid", directory, directory)).create()
    give_tree(directory, owner)
