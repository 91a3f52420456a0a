"""Who works on a repository now. Each publisher has a name, a scratch directory, a staging area, and a mark that it holds.

Marks are held by locks. A killed publisher's is found free: whoever comes next clears away what it left. A mark stays until
everything that its publisher stored is flushed: if the machine went down meanwhile, the next one looks for objects without
their bytes. A mark also says which list of condemned objects its publisher knows: garbage collection waits for those who
do not know its own. The switch of the manifest is guarded by a lock of its own, which is held for a moment only.
Source: FORMAT section A.2.
"""

import contextlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cvfs.errors import FormatError, MissingObject
from cvfs.hashes import ContentHash, new_hasher
from cvfs_server.gc.condemned import area_of, condemned_now
from cvfs_server.gc.guarded import Guarded
from cvfs_server.lock import is_free, publisher_lock
from cvfs_server.settings import RepositorySettings
from cvfs_server.state import make_directory, read_state, write_state
from cvfs_server.storage.base import Storage
from cvfs_server.storage.choice import storage_of

_SCRATCH = "tmp"
_CLOCK_GRAIN = 2
_REGISTRY_PATIENCE = 600
_numbers = itertools.count(1)
# What `registered` makes. Nothing else that lies there may become a part of a path that is removed.
_NAME = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Publisher:
    """One who may write objects: its name, a scratch directory that vanishes with it, the storage."""

    name: str
    scratch: str
    storage: Storage


@contextlib.contextmanager
def registered(settings: RepositorySettings, purpose: str) -> Iterator[Publisher]:
    """Work on a repository beside others; clears away first what killed ones left. Raises StoreFull."""
    make_directory(_marks(settings))
    name = f"{os.getpid()}.{next(_numbers)}.{time.time_ns()}"
    scratch, mark = _scratch(settings, name), f"{_marks(settings)}/{name}"
    with contextlib.ExitStack() as until_the_end:
        with registry(settings):
            _clear_dead(settings)
            condemned = condemned_now(area_of(settings))
            write_state(mark, f"{_boot()}\n{condemned.name if condemned else ''}\n".encode())
            until_the_end.enter_context(publisher_lock(mark + ".lock", purpose))
        make_directory(scratch)
        storage = storage_of(settings).staged_by(name)
        try:
            yield Publisher(name, scratch, Guarded(storage, condemned) if condemned else storage)
            os.unlink(mark)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            storage.clear_staging(name)
            if not os.path.exists(mark):
                os.unlink(mark + ".lock")


@contextlib.contextmanager
def registry(settings: RepositorySettings) -> Iterator[None]:
    """Nobody begins to publish meanwhile; for moments."""
    make_directory(_marks(settings))
    with publisher_lock(f"{settings.spool}/publishers.lock", "registry", _REGISTRY_PATIENCE):
        yield


@contextlib.contextmanager
def switching(settings: RepositorySettings, purpose: str) -> Iterator[None]:
    """Hold the repository's lock, under which alone its manifest is read and replaced. Raises Locked, after waiting."""
    make_directory(settings.spool)
    with publisher_lock(f"{settings.spool}/publish.lock", purpose, settings.lock_timeout):
        yield


@contextlib.contextmanager
def publishing(settings: RepositorySettings, purpose: str) -> Iterator[Publisher]:
    """Both at once, for work that is short. Raises Locked, StoreFull."""
    with switching(settings, purpose), registered(settings, purpose) as publisher:
        yield publisher


def living(settings: RepositorySettings) -> set[str]:
    """The names of all publishers that are at work; the caller holds the registry."""
    return {name for name in _names(settings) if not is_free(f"{_marks(settings)}/{name}.lock")}


def unaware(settings: RepositorySettings, condemned: str) -> set[str]:
    """Publishers at work that began before the list of this name was there; the caller holds the registry."""
    return {name for name in living(settings) if _known_list(f"{_marks(settings)}/{name}") != condemned}


def _names(settings: RepositorySettings) -> list[str]:
    names = {name.removesuffix(".lock").removesuffix(".new") for name in os.listdir(_marks(settings))}
    return sorted(filter(_NAME.fullmatch, names))


def _clear_dead(settings: RepositorySettings) -> None:
    storage, alive = storage_of(settings), living(settings)
    for name in _names(settings):
        if name in alive:
            continue
        mark = f"{_marks(settings)}/{name}"
        storage.clear_staging(name)
        shutil.rmtree(_scratch(settings, name), ignore_errors=True)
        if os.path.exists(mark):
            _settle(storage, mark)
        for path in (mark, mark + ".lock", f"{mark}.new"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _settle(storage: Storage, mark: str) -> None:
    """Whatever a dead publisher stored is on the disk afterwards, or gone."""
    if (read_state(mark) or b"").partition(b"\n")[0] == _boot().encode():
        storage.sync()
        return
    # The machine went down meanwhile: objects written since may be there without their bytes.
    since = os.stat(mark).st_mtime - _CLOCK_GRAIN
    for path, _ in storage.objects(since):
        if not _is_whole(storage, path):
            storage.discard(path)


def _known_list(mark: str) -> str:
    return (read_state(mark) or b"").decode("ascii", "replace").partition("\n")[2].strip()


def _is_whole(storage: Storage, path: str) -> bool:
    """Whether an object's bytes have the hash that its name says; what has no such name is left alone."""
    try:
        content = ContentHash.parse(path.removeprefix("data/").replace("/", "", 1).rstrip("CHLMPX"))
    except FormatError:
        return True
    hasher = new_hasher(content.algorithm)
    try:
        for piece in storage.fetch(path):
            hasher.update(piece)
    except MissingObject:
        # Collected meanwhile: nobody can miss its bytes.
        return True
    return hasher.digest() == content.digest


def _marks(settings: RepositorySettings) -> str:
    return f"{settings.spool}/publishers"


def _scratch(settings: RepositorySettings, name: str) -> str:
    return f"{settings.spool}/{_SCRATCH}/{name}"


def _boot() -> str:
    """A name that changes with every start of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
