"""A published repository against every rule of the format: one function of seven calls; it repairs nothing.

Source: FORMAT sections 5.14, A.3.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from cvfs.catalog.reader import NestedCatalog
from cvfs.errors import FormatError, NotFound, StoreError, StoreFull
from cvfs.format.manifest import Manifest
from cvfs.format.signature import PublicKey
from cvfs.hashes import ContentHash
from cvfs.history import History
from cvfs.store.base import Store
from cvfs_server.check.documents import manifest_findings, metainfo_findings, reflog_findings, trust_findings
from cvfs_server.check.findings import Finding
from cvfs_server.check.objects import ObjectCheck, References, check_objects
from cvfs_server.check.tags import TAGS, read_history, tag_findings
from cvfs_server.check.tree import CatalogFiles, CatalogWalk

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How deep a check goes, and where.

    `integrity` reads, hashes and inflates every object instead of asking whether it exists, which `existence=False` leaves
    out too. `subtree` is the mountpoint of a nested catalog, `tag` the name of another revision than the newest.
    `public_keys` are the master keys that the whitelist is verified with; without one the chain of trust is not. `now` is
    the Unix time by which its expiry is judged. `reflog_digest` is what the publishing machine recorded. `workers` counts
    processes, 1 means none but this one; more need a store that works as a copy.
    """

    integrity: bool = False
    existence: bool = True
    subtree: bytes = b""
    tag: str | None = None
    public_keys: tuple[PublicKey, ...] = ()
    now: float = 0.0
    reflog_digest: ContentHash | None = None
    workers: int | None = None


def check(
    store: Store, manifest: Manifest, options: CheckOptions, scratch: str, progress: Progress | None = None
) -> Iterator[Finding]:
    """Everything that is wrong, as it is found; nothing for a sound repository.

    `scratch` is an empty directory of the caller's, who removes it; `progress` is told how many more entries or objects
    have been looked at. Raises NotFound for an unknown tag or a subtree that is no nested catalog, StoreFull if the
    scratch directory is full, FormatError where this machine lacks a hash or a decoder, Unreachable if the store is.
    """
    progress = progress or _ignore
    yield from manifest_findings(store, manifest)
    yield from trust_findings(store, manifest, options.public_keys, options.now)
    yield from metainfo_findings(store, manifest)
    yield from reflog_findings(store, manifest, options.reflog_digest, scratch)
    history, troubles = _history(store, manifest, scratch)
    yield from troubles
    if history:
        yield from tag_findings(store, manifest, history, existence=options.existence or options.integrity)
    yield from _check_tree(store, _start(manifest, history, options.tag), options, scratch, progress)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where the walk begins: a root catalog, and the revision it was published as."""

    root: NestedCatalog
    revision: int


def _start(manifest: Manifest, history: History | None, tag_name: str | None) -> _Start:
    if tag_name is None:
        return _Start(NestedCatalog(b"", manifest.root_catalog, manifest.root_size, b""), manifest.revision)
    if history is None:
        raise NotFound(f"{manifest.fqrn} has no tags that could be read: no tag {tag_name!r}")
    tag = history.find(tag_name)
    return _Start(NestedCatalog(b"", tag.root_catalog, tag.size, b""), tag.revision)


def _history(store: Store, manifest: Manifest, scratch: str) -> tuple[History | None, list[Finding]]:
    if not manifest.history:
        return None, []
    try:
        return read_history(store, manifest.history, scratch), []
    except StoreFull:
        raise
    except (StoreError, FormatError) as error:
        return None, [Finding(TAGS, str(error))]


def _check_tree(
    store: Store, start: _Start, options: CheckOptions, scratch: str, progress: Progress
) -> Iterator[Finding]:
    """The catalogs, then the objects they name."""
    files = CatalogFiles(store, scratch)
    top, row = files.find(start.root, options.subtree)
    references = References(f"{scratch}/references") if options.existence or options.integrity else None
    if references is None:
        yield from CatalogWalk(files, None, progress, start.revision).findings(top, row)
        return
    references.start()
    with closing(references):
        yield from CatalogWalk(files, references, progress, start.revision).findings(top, row)
        references.finish()
        for found in check_objects(ObjectCheck(store, scratch, options.integrity), references, options.workers):
            yield from found.findings
            progress(found.objects)


def _ignore(_: int) -> None:
    return
