"""The tag database: which names which revisions of a repository have. A value in memory; the file is read and written whole.

Every schema revision is read, the newest is written. Rows of a file that came from elsewhere are checked before they
become values; the caller bounds its size before it opens one. Source: FORMAT section 6.
"""

import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from cvfs.catalog.database import ForeignDatabase
from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.hashes import ContentHash, ObjectKind

SCHEMA = "1.0"
SCHEMA_REVISION = 3
TRUNK = "trunk"
TRUNK_PREVIOUS = "trunk-previous"
DEFAULT_BRANCH = ""
_TRUNK_DESCRIPTION = "current HEAD"
_PAGE_SIZE = 1024
_LARGEST = 2**63 - 1
_TAG_NAME = re.compile(r"[A-Za-z0-9._/:-]+")
BRANCH_NAME = re.compile(r"[A-Za-z0-9._/:@-]+")
_AUTOMATIC = re.compile(r"generic(?:_[0-9]+)?-[0-9-]{10}T[0-9:.]+Z")

_CREATE_TABLES = (
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key))",
    "CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER, "
    "CONSTRAINT pk_branch PRIMARY KEY (branch), FOREIGN KEY (parent) REFERENCES branches (branch))",
    "CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT, "
    "size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name), "
    "FOREIGN KEY (branch) REFERENCES branches (branch))",
    "CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash))",
)


@dataclass(frozen=True, slots=True)
class Tag:
    """A name for a revision: its root catalog, the Unix time it was published, the root catalog's length in bytes."""

    name: str
    root_catalog: ContentHash
    revision: int
    timestamp: int
    description: str = ""
    size: int = 0
    branch: str = DEFAULT_BRANCH

    @property
    def is_automatic(self) -> bool:
        """Whether the publisher made up the name from the time of publishing."""
        return _AUTOMATIC.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of revisions that left its parent after `initial_revision`; the default branch is '' and has no parent."""

    name: str
    parent: str | None
    initial_revision: int


@dataclass(frozen=True, slots=True)
class History:
    """The tags and branches of a repository; changes give a new value. `predecessor` is the tag database before it."""

    fqrn: str
    tags: tuple[Tag, ...] = ()
    branches: tuple[Branch, ...] = (Branch(DEFAULT_BRANCH, None, 0),)
    predecessor: ContentHash | None = None

    @classmethod
    def read(cls, path: str) -> "History":
        """The tag database in a file. Raises FormatError."""
        database = ForeignDatabase.open(path, "tag database")
        with closing(database):
            return _Reader(database).history()

    @classmethod
    def parse(cls, data: bytes) -> "History":
        """The tag database in `data`, the content of an object. Raises FormatError."""
        # Without a name: a process that is killed leaves nothing behind.
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            return cls.read(f"/proc/self/fd/{file.fileno()}")

    def serialise(self) -> bytes:
        """The content of the object to be stored, in the newest schema revision."""
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
            for statement in ("BEGIN", *_CREATE_TABLES):
                connection.execute(statement)
            connection.executemany("INSERT INTO properties VALUES (?, ?)", self._properties())
            rows = [(branch.name, branch.parent, branch.initial_revision) for branch in self.branches]
            connection.executemany("INSERT INTO branches VALUES (?, ?, ?)", rows)
            connection.executemany("INSERT INTO tags VALUES (?, ?, ?, ?, 0, ?, ?, ?)", map(_row, self.tags))
            connection.execute("COMMIT")
            return connection.serialize()

    def find(self, name: str) -> Tag:
        """The tag of that name. Raises NotFound."""
        for tag in self.tags:
            if tag.name == name:
                return tag
        raise NotFound(f"{self.fqrn} has no tag {name!r}")

    def has(self, name: str) -> bool:
        """Whether there is a tag of that name."""
        return any(tag.name == name for tag in self.tags)

    def at(self, timestamp: int) -> Tag:
        """The newest revision of the default branch published at that Unix time or before. Raises NotFound."""
        early = [tag for tag in self.tags if tag.branch == DEFAULT_BRANCH and tag.timestamp <= timestamp]
        if not early:
            raise NotFound(f"{self.fqrn} has no tagged revision as old as {_utc(timestamp)}")
        return max(early, key=_by_revision)

    def head(self, branch: str = DEFAULT_BRANCH) -> Tag:
        """The newest tagged revision of a branch. Raises NotFound."""
        tags = [tag for tag in self.tags if tag.branch == branch]
        if not tags:
            raise NotFound(f"{self.fqrn} has no tags on branch {branch!r}")
        return max(tags, key=_by_revision)

    def without_idle_branches(self) -> "History":
        """Without the branches that no tag is on; what left one of them belongs to its parent then (section 6)."""
        used = {DEFAULT_BRANCH, *(tag.branch for tag in self.tags)}
        parents = {branch.name: branch.parent for branch in self.branches}

        def kept_parent(name: str | None) -> str | None:
            seen = set()
            while name is not None and name not in used:
                # A database that came from elsewhere may go in circles.
                if name in seen:
                    return DEFAULT_BRANCH
                seen.add(name)
                name = parents.get(name, DEFAULT_BRANCH)
            return name

        kept = (replace(b, parent=kept_parent(b.parent)) for b in self.branches if b.name in used)
        return replace(self, branches=tuple(kept))

    def newest_first(self) -> list[Tag]:
        """All tags, the highest revision first."""
        return sorted(self.tags, key=lambda tag: (-tag.revision, tag.name))

    def with_tag(self, tag: Tag) -> "History":
        """One tag more. Raises UsageError for a name that is taken or not allowed, or an unknown branch."""
        if not _TAG_NAME.fullmatch(tag.name):
            raise UsageError(f"{tag.name!r} is no tag name: use letters, digits and '-_./:'")
        if self.has(tag.name):
            raise UsageError(f"{self.fqrn} has a tag {tag.name!r} already: remove it first or choose another name")
        self._check_branch(tag.branch)
        check_description(tag.description)
        return replace(self, tags=(*self.tags, tag))

    def without(self, name: str) -> "History":
        """One tag less. Raises NotFound."""
        gone = self.find(name)
        return replace(self, tags=tuple(tag for tag in self.tags if tag is not gone))

    def with_branch(self, branch: Branch) -> "History":
        """One branch more. Raises UsageError for a name that is taken or not allowed, or an unknown parent."""
        if not BRANCH_NAME.fullmatch(branch.name):
            raise UsageError(f"{branch.name!r} is no branch name: use letters, digits and '-_./:@'")
        if any(known.name == branch.name for known in self.branches):
            raise UsageError(f"{self.fqrn} has a branch {branch.name!r} already")
        self._check_branch(branch.parent)
        return replace(self, branches=(*self.branches, branch))

    def _check_branch(self, name: str | None) -> None:
        if all(branch.name != name for branch in self.branches):
            raise UsageError(f"{self.fqrn} has no branch {name!r}")

    def _properties(self) -> Iterator[tuple[str, str]]:
        yield from (("schema", SCHEMA), ("schema_revision", str(SCHEMA_REVISION)), ("fqrn", self.fqrn))
        if self.predecessor:
            yield "previous_revision", str(self.predecessor)


def advance(
    history: History,
    head: Tag,
    predecessor: ContentHash | None,
    *,
    automatic: bool = True,
    keep_automatic_since: int = 0,
) -> History:
    """The tags after a publish, by the conventions of section 6.

    `head` is the published revision under the user's tag; with an empty name the publisher makes one up if `automatic`.
    `trunk` moves to it and the old one becomes `trunk-previous`. Made-up tags of before the Unix time
    `keep_automatic_since` are dropped. `predecessor` is the hash of `history` as an object. Raises UsageError if the
    user's tag exists.
    """
    moved = replace(history, tags=tuple(_moved_trunk(history.tags, keep_automatic_since)), predecessor=predecessor)
    moved = moved.with_tag(replace(head, name=TRUNK, description=_TRUNK_DESCRIPTION))
    if head.name:
        return moved.with_tag(head)
    return moved.with_tag(replace(head, name=_made_up(moved, head.timestamp))) if automatic else moved


def roll_back(history: History, name: str, head: Tag, predecessor: ContentHash | None) -> History:
    """The tags after the revision called `name` was published again as `head`, the newest one (section 6).

    Tags of later revisions of the default branch are gone; `name` and `trunk` point to `head`. There is no
    `trunk-previous` any more, so that nothing can be undone twice. Raises NotFound.
    """
    target = history.find(name)
    kept = [tag for tag in history.tags if tag.branch != DEFAULT_BRANCH or tag.revision <= target.revision]
    kept = [tag for tag in kept if tag.name not in {name, TRUNK, TRUNK_PREVIOUS}]
    trunk = replace(head, name=TRUNK, description=_TRUNK_DESCRIPTION)
    again = () if name in {TRUNK, TRUNK_PREVIOUS} else (replace(head, name=name, description=target.description),)
    return replace(history, tags=(*kept, trunk, *again), predecessor=predecessor)


def put_on_branch(history: History, tag: Tag, parent: str, predecessor: ContentHash | None) -> History:
    """The tags after `tag` was published on its branch, which leaves `parent` there if it is new (section 6).

    `trunk` stays what it is. Raises UsageError for names that are taken, not allowed or unknown.
    """
    if all(branch.name != tag.branch for branch in history.branches):
        history = history.with_branch(Branch(tag.branch, parent, tag.revision))
    return replace(history.with_tag(tag), predecessor=predecessor)


def _moved_trunk(tags: Iterable[Tag], keep_automatic_since: int) -> Iterator[Tag]:
    for tag in tags:
        if tag.name == TRUNK:
            yield replace(tag, name=TRUNK_PREVIOUS, description="default undo target")
        elif tag.name != TRUNK_PREVIOUS and not (tag.is_automatic and tag.timestamp < keep_automatic_since):
            yield tag


def _made_up(history: History, timestamp: int) -> str:
    taken = {tag.name for tag in history.tags}
    name, count = f"generic-{_utc(timestamp)}", 0
    while name in taken:
        count += 1
        name = f"generic_{count}-{_utc(timestamp)}"
    return name


def _utc(timestamp: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp))


def _by_revision(tag: Tag) -> int:
    return tag.revision


def _row(tag: Tag) -> tuple[str, str, int, int, str, int, str]:
    root = str(tag.root_catalog)
    return (tag.name, root, tag.revision, tag.timestamp, tag.description, tag.size, tag.branch)


class _Reader:
    """The rows of a tag database as checked values."""

    def __init__(self, database: ForeignDatabase) -> None:
        self._database = database

    def history(self) -> History:
        rows = self._database.query("SELECT key, value FROM properties")
        properties = {_text(key): _text(value) for key, value in rows}
        if properties.get("schema") not in {SCHEMA, "1"}:
            raise FormatError(f"tag database: schema {properties.get('schema')!r} is not supported")
        predecessor = _predecessor(properties.get("previous_revision", ""))
        return History(properties.get("fqrn", ""), tuple(self._tags()), tuple(self._branches()), predecessor)

    def _tags(self) -> Iterator[Tag]:
        columns = self._database.columns("tags")
        size = "size" if b"size" in columns else "0"
        branch = "branch" if b"branch" in columns else "''"
        query = f"SELECT name, hash, revision, timestamp, description, {size}, {branch} FROM tags"
        for name, root, revision, timestamp, description, length, on in self._database.query(query):
            content = ContentHash.parse(_text(root), ObjectKind.CATALOG)
            numbers = _number(revision), _number(timestamp)
            yield Tag(_text(name), content, *numbers, _text(description), _number(length), _text(on))

    def _branches(self) -> Iterator[Branch]:
        if b"branches" not in self._database.tables:
            yield Branch(DEFAULT_BRANCH, None, 0)
            return
        for name, parent, initial in self._database.query("SELECT branch, parent, initial_revision FROM branches"):
            yield Branch(_text(name), None if parent is None else _text(parent), _number(initial))


def check_description(text: str) -> None:
    """Raises UsageError for what the tag database, which holds UTF-8, cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the description {text!r} is not UTF-8: write it in UTF-8") from error


def _predecessor(text: str) -> ContentHash | None:
    """The first tag database has none, or one of zeros."""
    content = ContentHash.parse(text, ObjectKind.HISTORY) if text else None
    return content if content and any(content.digest) else None


def _text(value: Any) -> str:
    """Text, which comes as bytes; numbers as text are numbers to SQLite, and NULL is nothing."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _number(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise FormatError("tag database: a number is none, or negative")
    return value
