"""What differs between two revisions of a repository, as people and scripts know it; changes nothing.

Source: FORMAT sections 5.2 to 5.10.
"""

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.catalog.diff import differences
from cvfs.catalog.schema import Counters
from cvfs.errors import FormatError, NotFound
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import Tag
from cvfs_server.changes import Kind, TrustRules, find_changes
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import RepositorySettings
from cvfs_server.site import Site
from cvfs_server.sources.dirtab import DIRTAB
from cvfs_server.sources.walk import WalkRules, walk
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import open_record
from cvfs_server.transaction.worktree import worktree

_BITS = {
    "chunked-file": int(Flag.CHUNKED),
    "external-file": int(Flag.EXTERNAL),
    "bind-mountpoint": int(Flag.BIND_MOUNTPOINT),
    "hidden": int(Flag.HIDDEN),
    "direct-io": int(Flag.DIRECT_IO),
}
_TIME = "timestamp"


class Aspect(NamedTuple):
    """One thing in which two entries may differ: its word, its letter in lines for programs, and what is compared."""

    word: str
    letter: str
    of: Callable[[DirectoryEntry], object]


class Change(NamedTuple):
    """A path that differs, None is a side that has none, and in what two entries do."""

    path: bytes
    old: DirectoryEntry | None
    new: DirectoryEntry | None
    aspects: tuple[Aspect, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two revisions, and how many more entries of each kind the second one has."""

    old: Tag
    new: Tag
    counters: Counters


def find_revision(repository: PublishedRepository, text: str) -> Tag:
    """The revision that is meant: the name of a tag, the hash of a root catalog, or the number of a revision with a tag.

    Raises NotFound.
    """
    history = repository.history()
    if history.has(text):
        return history.find(text)
    numbered = [tag for tag in history.tags if text.isdigit() and tag.revision == int(text)]
    if numbered:
        return numbered[0]
    try:
        root = ContentHash.parse(text, ObjectKind.CATALOG)
    except FormatError:
        root = None
    if root is None or not repository.storage.has(root.path):
        raise NotFound(f"{repository.settings.fqrn}: no tag, revision of a tag, or root hash {text!r}")
    return next((tag for tag in history.tags if tag.root_catalog == root), Tag(text, root, 0, 0))


def compare(repository: PublishedRepository, old: Tag, new: Tag, scratch: str) -> Comparison:
    """The counters. Raises StoreError, FormatError."""
    before, after = (
        sum(repository.tree_of(tag.root_catalog, scratch).root().counters(), Counters()) for tag in (old, new)
    )
    return Comparison(old, new, after - before)


def changes(
    repository: PublishedRepository, old: Tag, new: Tag, scratch: str, *, ignore_times: bool = False
) -> Iterator[Change]:
    """Every path that differs, a directory before what is in it. Raises StoreError, FormatError."""
    before, after = (repository.tree_of(tag.root_catalog, scratch) for tag in (old, new))
    for path, was, now in differences(before, after):
        aspects = tuple(_aspects(was, now, ignore_times=ignore_times))
        if was is None or now is None or aspects or not ignore_times:
            yield Change(path, was, now, aspects)


def _aspects(was: DirectoryEntry | None, now: DirectoryEntry | None, *, ignore_times: bool) -> Iterator[Aspect]:
    if was is None or now is None:
        return
    for aspect in ASPECTS:
        if aspect.of(was) != aspect.of(now) and not (ignore_times and aspect.word == _TIME):
            yield aspect


def _bit(word: str) -> Callable[[DirectoryEntry], object]:
    bit = _BITS[word]
    return lambda entry: entry.flags & bit


# A symbolic link's size is that of its target; a directory's says nothing.
ASPECTS = (
    Aspect("link-count", "I", lambda entry: entry.linkcount),
    Aspect("size", "S", lambda entry: entry.size),
    Aspect("mode", "M", lambda entry: entry.mode),
    Aspect("owner", "O", lambda entry: (entry.uid, entry.gid)),
    Aspect(_TIME, "T", lambda entry: (entry.mtime, entry.mtime_ns)),
    Aspect("symlink-target", "L", lambda entry: entry.symlink),
    Aspect("content", "C", lambda entry: entry.digest),
    Aspect("chunked-file", "P", _bit("chunked-file")),
    Aspect("xattrs", "X", lambda entry: entry.xattr),
    Aspect("external-file", "E", _bit("external-file")),
    Aspect("bind-mountpoint", "B", _bit("bind-mountpoint")),
    Aspect("hidden", "H", _bit("hidden")),
    Aspect("direct-io", "D", _bit("direct-io")),
)


def kind_of(entry: DirectoryEntry) -> tuple[str, str]:
    """The word for an entry's type and its letter in lines for programs."""
    kinds = {stat.S_IFREG: ("file", "F"), stat.S_IFLNK: ("symlink", "S"), stat.S_IFDIR: ("directory", "D")}
    return kinds.get(stat.S_IFMT(entry.mode), ("unknown", "U"))


def worktree_changes(site: Site, settings: RepositorySettings, scratch: str) -> Iterator[tuple[str, bytes]]:
    """What publishing the open transaction would do: the kind of each change as publish prints it, and the path.

    Contents are not compared: a file that was opened for writing and not changed is named too. What the transaction began
    with as a copy comes first. Raises UsageError if there is no transaction, Unpublishable, StoreError.
    """
    repository, record = PublishedRepository.open(site, settings.fqrn), open_record(Layout.of(site, settings))
    tree = repository.tree_of(record.shown, scratch)
    if record.draft:
        for path, was, now in differences(repository.tree_of(record.base_hash, scratch), tree):
            kind = Kind.REMOVE if now is None else Kind.MODIFY if was else Kind.ADD
            yield kind.value, path
    rules = WalkRules(dirtab=repository.small_file(tree, b"/" + DIRTAB), keep_automatic=settings.autocatalogs)
    for directory in find_changes(walk(worktree(site, settings, tree), tree, rules), tree, TrustRules()):
        for removal in directory.removals:
            yield Kind.REMOVE.value, removal.path
        for change in directory.changes:
            if change.kind is not Kind.MOVE:
                # Whether the content is another one would show when it is read.
                yield (Kind.MODIFY if change.reads and change.published else change.kind).value, change.path
