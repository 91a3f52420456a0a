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
    """The relative paths below `start` that fit, each once, directories before what is in them. Raises UsageError."""
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
        elif place.shown not in given:
            given.add(place.shown)
            yield place.shown


def _next(reader: "RepositoryReader", place: _Place) -> list[_Place]:
    """Where the next part of the pattern leads, in reverse order."""
    if not place.entry.is_directory:
        return []
    first, rest = place.pattern[0], place.pattern[1:]
    if first == "**":
        below = [child for child in _children(reader, place, place.pattern) if child.entry.is_directory]
        return [*below, place._replace(pattern=rest)]
    if not _MAGIC.search(first):
        path = place.path + b"/" + first.encode("utf-8", "surrogateescape")
        return _followed(reader, [_Place(_joined(place.shown, first), path, place.entry, rest)])
    fits = re.compile(fnmatch.translate(first)).match
    return _followed(
        reader, [child for child in _children(reader, place, rest) if fits(child.shown.rpartition("/")[2])]
    )


def _children(reader: "RepositoryReader", place: _Place, rest: tuple[str, ...]) -> list[_Place]:
    entries = sorted(reader.repository.listing(place.path), reverse=True)
    names = [(entry, entry.name.decode("utf-8", "surrogateescape")) for entry in entries]
    return [_Place(_joined(place.shown, name), place.path + b"/" + entry.name, entry, rest) for entry, name in names]


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


def _joined(shown: str, name: str) -> str:
    return f"{shown}/{name}" if shown else name
