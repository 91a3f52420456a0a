"""Patterns of paths, answered from the catalogs; symbolic links are followed by names, never by `**`."""

import fnmatch
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from cvfs.errors import NotADirectory, NotFound, TooManyLinks, UsageError
from cvfs.format.dirent import DirectoryEntry

if TYPE_CHECKING:
    from cvfs.client.library.reader import RepositoryReader

_MAGIC = re.compile(r"[*?\[]")


class _Place(NamedTuple):
    """Somewhere below the start: relative path as it is shown, path without links, entry, the rest of the pattern."""

    shown: str
    path: bytes
    entry: DirectoryEntry
    pattern: tuple[str, ...]


def select(reader: "RepositoryReader", start: str, pattern: str) -> Iterator[str]:
    """The relative paths below `start` that fit, each once, directories before what is in them. Raises UsageError.

    A pattern that ends with a slash fits directories only, and links to them.
    """
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    if not parts or pattern.startswith("/"):
        raise UsageError(f"{pattern!r}: a relative pattern is needed")
    try:
        waiting = [_Place("", *reader.find(start), parts)]
    except (NotFound, NotADirectory, TooManyLinks):
        return
    given: set[str] = set()
    while waiting:
        place = waiting.pop()
        if place.pattern:
            waiting += _next(reader, place)
        elif place.shown not in given and (not pattern.endswith("/") or _leads_to_directory(reader, place)):
            given.add(place.shown)
            yield place.shown


def _next(reader: "RepositoryReader", place: _Place) -> list[_Place]:
    """Where the next part of the pattern leads, in reverse order."""
    if not place.entry.is_directory:
        return []
    first, rest = place.pattern[0], place.pattern[1:]
    if first == "**":
        children = _children(reader, place)
        below = [child for child in children if child.entry.is_directory]
        if rest and rest[0] != "**" and _MAGIC.search(rest[0]):
            # One listing serves for both.
            return below + _followed(reader, _fitting(children, rest))
        return [*below, place._replace(pattern=rest)]
    if _MAGIC.search(first):
        return _followed(reader, _fitting(_children(reader, place), place.pattern))
    path = place.path + b"/" + first.encode("utf-8", "surrogateescape")
    return _followed(reader, [_Place(_joined(place.shown, first), path, place.entry, rest)])


def _fitting(children: list[_Place], pattern: tuple[str, ...]) -> list[_Place]:
    """Those whose name fits the first part of a pattern."""
    fits = re.compile(fnmatch.translate(pattern[0])).match
    return [child._replace(pattern=pattern[1:]) for child in children if fits(child.shown.rpartition("/")[2])]


def _children(reader: "RepositoryReader", place: _Place) -> list[_Place]:
    """What is in a directory, in reverse order, with the same pattern."""
    entries = sorted(reader.repository.listing(place.path), reverse=True)
    names = [(entry, entry.name.decode("utf-8", "surrogateescape")) for entry in entries]
    return [
        _Place(_joined(place.shown, name), place.path + b"/" + entry.name, entry, place.pattern)
        for entry, name in names
    ]


def _followed(reader: "RepositoryReader", places: list[_Place]) -> list[_Place]:
    """With links followed where the pattern goes on below them, and without what is not there."""
    found = []
    for place in places:
        try:
            path, entry = reader.find(place.path, follow=bool(place.pattern))
        except (NotFound, NotADirectory, TooManyLinks):
            continue
        found.append(place._replace(path=path, entry=entry))
    return found


def _leads_to_directory(reader: "RepositoryReader", place: _Place) -> bool:
    try:
        return reader.find(place.path)[1].is_directory
    except (NotFound, NotADirectory, TooManyLinks):
        return False


def _joined(shown: str, name: str) -> str:
    return f"{shown}/{name}" if shown else name
