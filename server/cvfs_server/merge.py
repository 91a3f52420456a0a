"""Two revisions that grew out of one, as changes to the second; decides what is a conflict, writes nothing.

`base` is where both began, `mine` is a draft whose objects and catalogs are stored, `theirs` is what was published
meanwhile. A directory that is untouched on one side is not looked into. Names in one directory are independent of each other,
except that the names of one hard-link group stand together. Source: FORMAT sections 5.5, 5.6, 5.10.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.catalog.touched import TouchedDirectories
from cvfs.catalog.tree import CatalogTree
from cvfs.errors import Conflict, NotFound
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs_server.sources.base import DirectoryEdit, Known, ScannedEntry, Source, WholeCatalog, as_published
from cvfs_server.sources.revision import KnownSource, known_entries, known_entry, published_directory
from cvfs_server.sources.walk import AUTOMATIC_MARKER, MARKER

# They say that there is a catalog, and nothing else.
_MARKERS = frozenset({MARKER, AUTOMATIC_MARKER})
# Belongs to the publisher, who makes it anew.
_VIRTUAL_DIRECTORY = b"/.cvmfs"
_PLACE_FLAGS = int(Flag.NESTED_MOUNTPOINT | Flag.NESTED_ROOT)
_COLUMNS = ("mode", "uid", "gid", "xattr")
_NOTHING = DirectoryEdit([], complete=False)


def merge(base: CatalogTree, mine: CatalogTree, theirs: CatalogTree) -> Source:
    """What was changed from `base` to `mine`, to be published on `theirs`.

    Raises Conflict naming the paths that both changed, each in its own way; StoreError if a catalog cannot be had.
    """
    plan = _Plan(base, mine, theirs)
    plan.make()
    if plan.conflicts:
        raise Conflict(plan.conflicts)
    return _Merged(base, mine, plan)


def difference(base: CatalogTree, mine: CatalogTree) -> Source:
    """What was changed from `base` to `mine`, entry by entry, to be published on `base`. Raises StoreError."""
    plan = _Plan(base, mine, base)
    plan.make()
    return _Merged(base, mine, plan, whole=False)


class _Name(NamedTuple):
    """What one revision says of a path; `together` are all names of the same file in its directory."""

    tree: CatalogTree
    path: bytes
    row: DirectoryEntry
    together: frozenset[bytes]

    @property
    def is_directory(self) -> bool:
        return self.row.is_directory

    def comparable(self) -> tuple[DirectoryEntry, frozenset[bytes] | int]:
        """Equal for equal entries. How many sub-directories there are is counted anew."""
        row = self.row._replace(hardlinks=0)
        if row.is_directory:
            return row._replace(flags=row.flags & ~_PLACE_FLAGS), 0
        return row, self.together or self.row.linkcount


class _Merged(KnownSource):
    """Planned edits where all three sides differ, and those from `base` to `mine` everywhere else."""

    def __init__(self, base: CatalogTree, mine: CatalogTree, plan: "_Plan", *, whole: bool = True) -> None:
        self._base = base
        self._mine = mine
        self._plan = plan
        self._whole = whole

    def root(self) -> ScannedEntry | None:
        return self._plan.root

    def edit(self, path: bytes) -> DirectoryEdit:
        planned = self._plan.edits.pop(path, None)
        if planned is not None:
            return planned
        if not _is_directory(self._base, path):
            edit = published_directory(self._mine, path)
            return edit._replace(entries=[self._entry(path, entry, None) for entry in edit.entries])
        return self._difference(path)

    def _difference(self, path: bytes) -> DirectoryEdit:
        if not self._plan.touched_here(path):
            return _NOTHING
        before, after = _names(self._base, path), _names(self._mine, path)
        changed = [name.row for key, name in after.items() if self._is_touched(before.get(key), name)]
        removed = tuple(sorted(before.keys() - after.keys()))
        entries = known_entries(self._mine, path, changed)
        entries = [self._entry(path, entry, before.get(entry.name)) for entry in entries]
        return DirectoryEdit(entries, removed, complete=False)

    def _entry(self, path: bytes, entry: ScannedEntry, before: _Name | None) -> ScannedEntry:
        # Where only one side has a nested catalog, rows have to move.
        replaces_rows = before is not None and before.is_directory and not before.row.is_mountpoint
        return entry if replaces_rows or not self._whole else _whole_if_nested(self._mine, path, entry)

    def _is_touched(self, before: _Name | None, after: _Name) -> bool:
        return not _is_same(before, after) or (after.is_directory and self._plan.touched_here(after.path))


@dataclass(slots=True)
class _Outcome:
    """What becomes of one directory: its directories, the rest of what is taken over from `mine`, what goes."""

    directories: list[ScannedEntry] = field(default_factory=list)
    taken: list[DirectoryEntry] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)


class _Plan:
    def __init__(self, base: CatalogTree, mine: CatalogTree, theirs: CatalogTree) -> None:
        self._trees = (base, mine, theirs)
        self.touched_here = TouchedDirectories(base, mine).may_differ
        # Asked of the few directories that are touched here only: a pass over whole catalogs would not pay.
        self._touched_there = _catalogs_differ(base, theirs)
        self._pending: list[bytes] = []
        self.root: ScannedEntry | None = None
        self.edits: dict[bytes, DirectoryEdit] = {}
        self.conflicts: list[bytes] = []

    def make(self) -> None:
        base, mine, theirs = (_Name(tree, b"", tree.find(b""), frozenset()) for tree in self._trees)
        self.edits[b""] = _NOTHING
        self.root = self._both_directories(base, mine, theirs)
        while self._pending:
            path = self._pending.pop()
            self.edits[path] = self._directory(path)
        self.conflicts.sort()

    def _directory(self, path: bytes) -> DirectoryEdit:
        """Three versions of one directory."""
        base, mine, theirs = (_names(tree, path) for tree in self._trees)
        outcome = _Outcome()
        for name in sorted(base.keys() | mine.keys()):
            if path + b"/" + name != _VIRTUAL_DIRECTORY:
                self._decide(path + b"/" + name, (base.get(name), mine.get(name), theirs.get(name)), outcome)
        taken = known_entries(self._trees[1], path, outcome.taken)
        entries = outcome.directories + [_whole_if_nested(self._trees[1], path, entry) for entry in taken]
        return DirectoryEdit(sorted(entries, key=_name_of), tuple(outcome.removed), complete=False)

    def _decide(self, path: bytes, sides: tuple[_Name | None, _Name | None, _Name | None], outcome: _Outcome) -> None:
        base, mine, theirs = sides
        if mine and theirs and mine.is_directory and theirs.is_directory:
            entry = self._both_directories(base, mine, theirs)
            outcome.directories += [entry] if entry else []
        elif _is_same(base, mine):
            # Theirs stands, unless they removed a directory in which something was changed here.
            self._refuse_changes_below(base, mine)
        elif _is_same(base, theirs):
            self._refuse_changes_below(base, theirs)
            _take(path, mine, outcome)
        elif mine and theirs and mine.row.name in _MARKERS and not (mine.together or theirs.together):
            if _time(mine.row) > _time(theirs.row):
                _take(path, mine, outcome)
        elif not _is_same(mine, theirs):
            self.conflicts.append(path)

    def _both_directories(self, base: _Name | None, mine: _Name, theirs: _Name) -> ScannedEntry | None:
        """The directory's entry, if it or anything in it changes; what is in it is looked at later."""
        before = base if base and base.is_directory else None
        row = _merged_attributes(before.row if before else None, mine.row, theirs.row)
        if row is None:
            self.conflicts.append(mine.path)
            return None
        touched = before is None or self.touched_here(mine.path)
        if before is None or (touched and self._touched_there(mine.path)):
            self._pending.append(mine.path)
        elif touched:
            # Only here: left to the differences between `base` and `mine`.
            self.edits.pop(mine.path, None)
            if mine.row.is_mountpoint and theirs.row.is_mountpoint and _same_attributes(row, mine.row):
                above = mine.path.rpartition(b"/")[0]
                return _whole_if_nested(mine.tree, above, known_entry(mine.tree, mine.path, mine.row))
        else:
            self.edits[mine.path] = _NOTHING
        return _directory_entry(theirs.row, row) if touched or row != theirs.row else None

    def _refuse_changes_below(self, before: _Name | None, after: _Name | None) -> None:
        """A directory that one side removed or replaced must be as it was on the other side."""
        if before and after and after.is_directory:
            touched = self.touched_here if after.tree is self._trees[1] else self._touched_there
            changed = next(_changes_below(touched, before, after), None)
            self.conflicts += [changed] if changed is not None else []


def _take(path: bytes, mine: _Name | None, outcome: _Outcome) -> None:
    if mine is None:
        outcome.removed.append(path.rpartition(b"/")[2])
    else:
        outcome.taken.append(mine.row)


def _names(tree: CatalogTree, path: bytes) -> dict[bytes, _Name]:
    """What is in a directory, by name; nothing if there is none."""
    rows = tree.listing(path) if _is_directory(tree, path) else []
    groups: dict[int, set[bytes]] = {}
    for row in rows:
        groups.setdefault(row.hardlink_group, set()).add(row.name)
    groups[0] = set()
    together = {group: frozenset(names) for group, names in groups.items()}
    return {row.name: _Name(tree, path + b"/" + row.name, row, together[row.hardlink_group]) for row in rows}


def _is_same(old: _Name | None, new: _Name | None) -> bool:
    if old is None or new is None:
        return old is new
    if old.comparable() != new.comparable():
        return False
    # A chunked file may have no hash of its own, and differ in its pieces only.
    return not old.row.is_chunked or old.tree.chunks(old.path) == new.tree.chunks(new.path)


def _merged_attributes(
    base: DirectoryEntry | None, mine: DirectoryEntry, theirs: DirectoryEntry
) -> DirectoryEntry | None:
    """`theirs` with what both sides want of one directory; None if they cannot agree."""
    newest = max((mine, theirs), key=_time)
    if base and _time(base) in {_time(mine), _time(theirs)}:
        newest = mine if _time(theirs) == _time(base) else theirs
    merged = theirs._replace(size=newest.size, mtime=newest.mtime, mtime_ns=newest.mtime_ns)
    for column in _COLUMNS:
        here, there = getattr(mine, column), getattr(theirs, column)
        before = getattr(base, column) if base else None
        if here != there and (base is None or before not in {here, there}):
            return None
        merged = merged._replace(**{column: here if base and there == before else there})
    return merged


def _same_attributes(row: DirectoryEntry, other: DirectoryEntry) -> bool:
    return row._replace(hardlinks=0, flags=0) == other._replace(hardlinks=0, flags=0)


def _whole_if_nested(tree: CatalogTree, above: bytes, entry: ScannedEntry) -> ScannedEntry:
    """A nested catalog of a draft is taken over as it is: it need not be looked into."""
    if not entry.is_mountpoint:
        return entry
    nested = tree.governing(above + b"/" + entry.name)
    own, below = tree.catalog_at(nested.path).counters()
    return entry._replace(whole=WholeCatalog(nested.content, nested.size, own + below))


def _directory_entry(published: DirectoryEntry, row: DirectoryEntry) -> ScannedEntry:
    """A directory that stays, and what is new of its attributes."""
    entry = as_published(published)
    if row == published:
        return entry
    known = Known(None, published.flags, (), row.xattr)
    return entry._replace(
        mode=row.mode,
        size=row.size,
        mtime=row.mtime,
        mtime_ns=row.mtime_ns,
        uid=row.uid,
        gid=row.gid,
        known=known,
        kept=False,
    )


def _catalogs_differ(old: CatalogTree, new: CatalogTree) -> Callable[[bytes], bool]:
    def differ(path: bytes) -> bool:
        before, after = old.governing(path), new.governing(path)
        return (before.path, before.content, before.root_prefix) != (after.path, after.content, after.root_prefix)

    return differ


def _changes_below(touched: Callable[[bytes], bool], before: _Name, after: _Name) -> Iterator[bytes]:
    """The paths below a directory of both revisions that differ."""
    waiting = [after.path]
    while waiting:
        path = waiting.pop()
        if not touched(path):
            continue
        old, new = _names(before.tree, path), _names(after.tree, path)
        yield from (
            path + b"/" + name for name in old.keys() | new.keys() if not _is_same(old.get(name), new.get(name))
        )
        both = (name for name in old.keys() & new.keys() if old[name].is_directory and new[name].is_directory)
        waiting += [path + b"/" + name for name in both]


def _is_directory(tree: CatalogTree, path: bytes) -> bool:
    try:
        return tree.find(path).is_directory
    except NotFound:
        return False


def _time(row: DirectoryEntry) -> tuple[int, int]:
    return row.mtime, row.mtime_ns or 0


def _name_of(entry: ScannedEntry) -> bytes:
    return entry.name
