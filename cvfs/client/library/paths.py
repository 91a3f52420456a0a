"""Paths of an opened repository, used like those of pathlib; they are read only, and not places of this machine."""

import io
import os
import stat
from collections.abc import Iterator
from functools import total_ordering
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, overload

from cvfs.client.library.files import RepositoryFile
from cvfs.client.library.globbing import select
from cvfs.errors import NotADirectory, NotALink, NotFound, TooManyLinks

if TYPE_CHECKING:
    from cvfs.client.library.reader import RepositoryReader

_NOWHERE = (NotFound, NotADirectory, TooManyLinks)


@total_ordering
class RepositoryPath:
    """An absolute path of a repository, whether there is something or not.

    Names that are not UTF-8 are decoded with surrogateescape, as `os.fsdecode` does. Methods are those of `pathlib.Path`
    and behave alike; whatever looks at the repository may raise StoreError or TrustError beside what is said there.
    """

    __slots__ = ("_pure", "_reader")

    def __init__(self, reader: "RepositoryReader", path: str | PurePosixPath = "/") -> None:
        self._reader = reader
        # POSIX keeps two slashes at the beginning apart from one; a repository does not.
        self._pure = PurePosixPath("/" + str(path).lstrip("/"))

    def __truediv__(self, other: "str | PurePosixPath") -> "RepositoryPath":
        return self._with(self._pure / other)

    def joinpath(self, *others: "str | PurePosixPath") -> "RepositoryPath":
        """The path with others added; an absolute one begins anew at the root."""
        return self._with(self._pure.joinpath(*others))

    def __str__(self) -> str:
        return str(self._pure)

    def __repr__(self) -> str:
        return f"RepositoryPath({self._reader.request.repository!r}, {str(self._pure)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RepositoryPath) and self._key() == other._key()

    def __lt__(self, other: object) -> bool:
        return self._key() < other._key() if isinstance(other, RepositoryPath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        return RepositoryPath, (self._reader, str(self._pure))

    # --- the path itself ----------------------------------------------------------------------------------------------

    @property
    def repository(self) -> "RepositoryReader":
        """The repository that it belongs to."""
        return self._reader

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def stem(self) -> str:
        return self._pure.stem

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def suffixes(self) -> list[str]:
        return self._pure.suffixes

    @property
    def parts(self) -> tuple[str, ...]:
        return self._pure.parts

    @property
    def parent(self) -> "RepositoryPath":
        return self._with(self._pure.parent)

    @property
    def parents(self) -> "tuple[RepositoryPath, ...]":
        return tuple(self._with(parent) for parent in self._pure.parents)

    def as_posix(self) -> str:
        """The path as text."""
        return str(self._pure)

    def as_uri(self) -> str:
        """The URL by which fsspec finds it, where the repository is configured by its name."""
        return f"cvmfs://{self._reader.fqrn}{self._pure}"

    def with_name(self, name: str) -> "RepositoryPath":
        return self._with(self._pure.with_name(name))

    def with_stem(self, stem: str) -> "RepositoryPath":
        return self._with(self._pure.with_stem(stem))

    def with_suffix(self, suffix: str) -> "RepositoryPath":
        return self._with(self._pure.with_suffix(suffix))

    def relative_to(self, other: "RepositoryPath | str") -> PurePosixPath:
        """The way from another path to this one, which is no place by itself. Raises ValueError if it is not below."""
        return self._pure.relative_to(str(other))

    def is_relative_to(self, other: "RepositoryPath | str") -> bool:
        return self._pure.is_relative_to(str(other))

    def match(self, pattern: str) -> bool:
        return self._pure.match(pattern)

    def is_absolute(self) -> bool:
        return True

    # --- what is there ------------------------------------------------------------------------------------------------

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """What stat(2) tells on a mount, but device and inode numbers are 0."""
        return self._reader.stat(str(self), follow=follow_symlinks)

    def lstat(self) -> os.stat_result:
        return self.stat(follow_symlinks=False)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is something. A link out of the repository leads to nothing here."""
        return self._mode(follow=follow_symlinks) != 0

    def is_file(self) -> bool:
        return stat.S_ISREG(self._mode())

    def is_dir(self) -> bool:
        return stat.S_ISDIR(self._mode())

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._mode(follow=False))

    def readlink(self) -> PurePosixPath:
        """The target of a symbolic link as a mount shows it. Raises NotALink."""
        _, entry = self._reader.find(str(self), follow=False)
        if not entry.is_link:
            raise NotALink(f"{self}: not a symbolic link")
        return PurePosixPath(_text(self._reader.target(entry)))

    def resolve(self, strict: bool = False) -> "RepositoryPath":
        """The path without links and `..`. Raises NotFound if it leads out of the repository, or, if `strict`, nowhere."""
        if strict:
            return self._with(_text(self._reader.find(str(self))[0]))
        return self._with(_text(self._reader.resolve(str(self))))

    def samefile(self, other: "RepositoryPath | str") -> bool:
        """Whether both are the same entry, links followed; hard links are different entries here."""
        there = other if isinstance(other, RepositoryPath) else self._with(other)
        return self.resolve(strict=True) == there.resolve(strict=True)

    def iterdir(self) -> "Iterator[RepositoryPath]":
        """What is in a directory, sorted by name. Raises NotADirectory."""
        for entry in self._reader.listing(str(self))[1]:
            yield self / _text(entry.name)

    def glob(self, pattern: str) -> "Iterator[RepositoryPath]":
        """What fits a pattern with `*`, `?`, `[…]` and `**` (any number of directories; links are not followed by it)."""
        yield from (self._with(self._pure / found) for found in select(self._reader, str(self), pattern))

    def rglob(self, pattern: str) -> "Iterator[RepositoryPath]":
        """The same in every directory below."""
        yield from self.glob(f"**/{pattern}")

    def walk(self, top_down: bool = True) -> "Iterator[tuple[RepositoryPath, list[str], list[str]]]":
        """Each directory with the names of its directories and of everything else, links among the latter.

        Top down, names that are removed from the list of directories are not entered. Errors are raised, none are left out.
        """
        waiting: list[tuple[RepositoryPath, list[str], list[str]] | RepositoryPath] = [self]
        while waiting:
            item = waiting.pop()
            if isinstance(item, tuple):
                yield item
                continue
            entries = self._reader.listing(str(item))[1]
            below = [_text(entry.name) for entry in entries if entry.is_directory]
            found = item, below, [_text(entry.name) for entry in entries if not entry.is_directory]
            if top_down:
                yield found
            else:
                waiting.append(found)
            waiting += [item / name for name in reversed(below)]

    # --- contents -----------------------------------------------------------------------------------------------------

    @overload
    def open(
        self,
        mode: Literal["r", "rt", "tr"] = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...

    @overload
    def open(self, mode: Literal["rb", "br"], buffering: int = -1) -> RepositoryFile: ...

    @overload
    def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> RepositoryFile | io.TextIOWrapper: ...

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> RepositoryFile | io.TextIOWrapper:
        """The file, to read from; text is UTF-8 unless said otherwise. Raises NotFound, IsADirectory, ReadOnly."""
        del buffering
        return self._reader.open(str(self), mode, encoding=encoding, errors=errors, newline=newline)

    def read_bytes(self) -> bytes:
        return self._reader.read_bytes(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        with self.open("r", encoding=encoding, errors=errors) as file:
            return file.read()

    def _mode(self, *, follow: bool = True) -> int:
        """Type and rights of what is there, 0 if there is nothing."""
        try:
            return self._reader.find(str(self), follow=follow)[1].mode
        except _NOWHERE:
            return 0

    def _key(self) -> "tuple[str, tuple[tuple[str, str], ...], str, tuple[str, ...]]":
        request = self._reader.request
        return request.repository, request.assigned, request.etc or "", self._pure.parts

    def _with(self, path: str | PurePosixPath) -> "RepositoryPath":
        return RepositoryPath(self._reader, path)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
