"""A published repository against every rule of the format: documents, catalogs, objects; it repairs nothing.

Source: FORMAT sections 5.14, A.3.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from cvfs.catalog.reader import NestedCatalog
from cvfs.errors import FormatError, NotFound, StoreError, StoreFull
from cvfs.format.manifest import Manifest
from cvfs.format.signature import PublicKey
from cvfs.hashes import ContentHash
from cvfs.history import History, Tag
from cvfs.store.base import Store
from cvfs_server.check.crew import Crew, StopFlag
from cvfs_server.check.documents import manifest_findings, metainfo_findings, reflog_findings, trust_findings
from cvfs_server.check.findings import Finding
from cvfs_server.check.inspection import CheckKit, check_part, list_objects
from cvfs_server.check.inventory import Listed
from cvfs_server.check.memory import NEVER, Memory
from cvfs_server.check.objects import ObjectCheck
from cvfs_server.check.references import PARTS, References
from cvfs_server.check.tags import TAGS, read_history, tag_findings
from cvfs_server.check.tree import CatalogWalk, Start, find_start

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How deep a check goes, and where.

    `integrity` reads, hashes and inflates every object instead of asking whether it exists, which `existence=False` leaves
    out too; objects that `memory` knows are not read. `subtree` is the mountpoint of a nested catalog, `tags` the names of
    other revisions than the newest, `all_tags` adds every tag to the newest. `public_keys` are the master keys that the
    whitelist is verified with; without one the chain of trust is not. `now` is the Unix time by which its expiry is judged.
    `reflog_digest` is what the publishing machine recorded. `workers` counts processes, 1 means none but this one; more need
    a store that works as a copy, of which each has `parallel` objects on their way at a time.
    """

    integrity: bool = False
    existence: bool = True
    subtree: bytes = b""
    tags: tuple[str, ...] = ()
    all_tags: bool = False
    public_keys: tuple[PublicKey, ...] = ()
    now: float = 0.0
    reflog_digest: ContentHash | None = None
    workers: int | None = None
    parallel: int = 1
    memory: Memory | None = None


def check(
    store: Store, manifest: Manifest, options: CheckOptions, scratch: str, progress: Progress | None = None
) -> Iterator[Finding]:
    """Everything that is wrong, as it is found; nothing for a sound repository.

    `scratch` is an empty directory of the caller's, who removes it; `progress` is told how many more entries or objects
    have been looked at. Raises NotFound for an unknown tag or a subtree that is no nested catalog, StoreFull if the
    scratch directory is full, FormatError where this machine lacks a hash or a decoder, Unreachable if the store is.
    """
    yield from manifest_findings(store, manifest)
    yield from trust_findings(store, manifest, options.public_keys, options.now)
    yield from metainfo_findings(store, manifest)
    yield from reflog_findings(store, manifest, options.reflog_digest, scratch)
    history, troubles = _history(store, manifest, scratch)
    yield from troubles
    if history:
        yield from tag_findings(store, manifest, history, existence=options.existence or options.integrity)
    starts = [find_start(store, scratch, root, options.subtree) for root in _roots(manifest, history, options)]
    yield from _check_trees(store, starts, options, scratch, progress or _ignore)


def _roots(manifest: Manifest, history: History | None, options: CheckOptions) -> list[Start]:
    """The root catalogs to begin at; each revision once."""
    newest = Start(NestedCatalog(b"", manifest.root_catalog, manifest.root_size, b""), revision=manifest.revision)
    if options.tags and history is None:
        raise NotFound(f"{manifest.fqrn} has no tags that could be read: no tag {' '.join(options.tags)!r}")
    if history and options.all_tags:
        others = {tag.root_catalog: tag for tag in history.tags if tag.root_catalog != manifest.root_catalog}
        return [newest, *(_start(tag, f"tag {tag.name}") for tag in others.values())]
    if history and options.tags:
        several = len(options.tags) > 1
        return [_start(history.find(name), f"tag {name}" if several else "") for name in options.tags]
    return [newest]


def _start(tag: Tag, name: str) -> Start:
    return Start(NestedCatalog(b"", tag.root_catalog, tag.size, b""), None, tag.revision, name)


def _history(store: Store, manifest: Manifest, scratch: str) -> tuple[History | None, list[Finding]]:
    if not manifest.history:
        return None, []
    try:
        return read_history(store, manifest.history, scratch), []
    except StoreFull:
        raise
    except (StoreError, FormatError) as error:
        return None, [Finding(TAGS, str(error))]


def _check_trees(
    store: Store, starts: list[Start], options: CheckOptions, scratch: str, progress: Progress
) -> Iterator[Finding]:
    """The catalogs, then the objects they name."""
    kit = _kit(store, options, scratch)
    with closing(Crew(kit, options.workers, kit.objects.stop)) as crew:
        walk = CatalogWalk(crew, progress)
        for start in starts:
            yield from walk.findings(start)
        if kit.references is None:
            return
        kit.let_go()
        if kit.objects.inventory is not None:
            crew.submit(list_objects, kit.objects.inventory)()
        for wait in [crew.submit(check_part, part) for part in PARTS]:
            found = wait()
            yield from found.findings
            progress(found.objects)


def _kit(store: Store, options: CheckOptions, scratch: str) -> CheckKit:
    directory, inventory = f"{scratch}/references", f"{scratch}/inventory"
    references = References(directory) if options.existence or options.integrity else None
    believes = options.memory is not None and options.memory.since != NEVER
    # The names of all objects are worth their reading where most of them are asked for.
    is_listed = isinstance(store, Listed) and not options.subtree and (believes or not options.integrity)
    if references is not None and is_listed:
        os.mkdir(inventory)
    objects = ObjectCheck(
        store,
        scratch,
        directory,
        options.integrity,
        inventory if references is not None and is_listed else None,
        options.memory,
        options.parallel,
        StopFlag(),
    )
    return CheckKit(store, scratch, references, objects)


def _ignore(_: int) -> None:
    return
