"""A new repository: keys, places, configuration, and a first revision that is empty. Source: FORMAT sections 3.1, A.1."""

import contextlib
import datetime as dt
import os
import stat
import time

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
from cvfs_server.keys import generate_keys, write_new_file
from cvfs_server.publishers import Publisher, publishing
from cvfs_server.release import Revision, put_object, release
from cvfs_server.repository import MANIFEST
from cvfs_server.resign import DEFAULT_DAYS, sign_new_whitelist
from cvfs_server.settings import RepositorySettings, configuration_text
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of

MASTER_REPLICA = ".cvmfs_master_replica"
_ROOT_MODE = stat.S_IFDIR | 0o755
_ROOT_SIZE = 4096


def mkfs(site: Site, settings: RepositorySettings, *, days: int = DEFAULT_DAYS, replicable: bool = True) -> Manifest:
    """Create a repository; its first revision is 1, on top of an unpublished 0 as the original does it.

    The whitelist is valid for `days`. Raises UsageError if any part of such a repository is there already, StoreFull.
    """
    storage = storage_of(settings)
    if os.path.exists(site.configuration(settings.fqrn)) or storage.has(MANIFEST):
        raise UsageError(f"{settings.fqrn} exists already: remove it first, or choose another name")
    # First of all: what cannot be written down is refused before anything is made.
    text, now = configuration_text(settings), int(time.time())
    with contextlib.ExitStack() as on_failure:
        # Keys that signed nothing are of no use, and would be in the way of the next attempt.
        _write_keys(site, settings.fqrn, on_failure)
        storage.create()
        sign_new_whitelist(site, settings, days, now)
        with publishing(settings, "mkfs") as publisher:
            manifest = _first_revision(site, settings, publisher, now)
        on_failure.pop_all()
    if replicable:
        storage.replace(MASTER_REPLICA, b"")
    # Last: a repository whose configuration is there is complete.
    _write_configuration(site.configuration(settings.fqrn), text)
    return manifest


def _write_keys(site: Site, fqrn: str, on_failure: contextlib.ExitStack) -> None:
    _make_directory(site.keys)
    for kind, text, mode in generate_keys(fqrn, dt.datetime.now(dt.UTC)).files():
        write_new_file(site.key(fqrn, kind), text, mode)
        on_failure.callback(os.unlink, site.key(fqrn, kind))


def _first_revision(site: Site, settings: RepositorySettings, publisher: Publisher, now: int) -> Manifest:
    storage = publisher.storage
    objects = CatalogObjects(storage, publisher.scratch, settings.algorithm, ZLIB)
    zero = _empty_root(objects, settings, 0, now, None)
    first = _empty_root(objects, settings, 1, now, zero)
    info = put_object(storage, settings.algorithm, ObjectKind.METAINFO, metainfo.serialise({}))
    head = Tag("", first.content, 1, now, "", first.size)
    history = advance(History(settings.fqrn), head, None, automatic=settings.auto_tag)
    revision = Revision(1, now, first, history, metainfo=info, forerunners=(zero.content,))
    return release(site, settings, revision, publisher)


def _empty_root(
    objects: CatalogObjects, settings: RepositorySettings, number: int, now: int, previous: StoredCatalog | None
) -> StoredCatalog:
    root = DirectoryEntry(
        b"", _ROOT_MODE, _ROOT_SIZE, now, None, os.getuid(), os.getgid(), 2, None, int(Flag.DIRECTORY)
    )
    writer = CatalogWriter.create(objects.new_path(), b"", root)
    writer.set_property("TTL", str(settings.ttl))
    writer.finish(number, now, previous.content if previous else None, Counters())
    return objects.store(writer.path)


def _write_configuration(path: str, text: str) -> None:
    _make_directory(os.path.dirname(path))
    write_new_file(path, text.encode("utf-8", "surrogateescape"), 0o644)


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StoreFull(f"cannot make {path}: {error.strerror}; use --root for a place of your own") from error
