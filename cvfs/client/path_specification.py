"""Which part of a repository is meant: a list of path patterns as in a dirtab file; pure, reads no file. FORMAT section 9.8.

A line names a directory or file, with everything below it; `*` and `?` stay within a level. A line that starts with `!`
takes away what it matches, there they cross levels. Lines that start with `#` say nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cvfs.errors import UsageError

_WILD_IN_LEVEL = {b"*": b"[^/]*", b"?": b"[^/]"}
_WILD_ACROSS = {b"*": b".*", b"?": b"."}
_TOKEN = re.compile(rb"\\[*?\\]|.", re.DOTALL)

_Levels = tuple[re.Pattern[bytes], ...]


@dataclass(frozen=True, slots=True)
class PathSpecification:
    """The patterns of a list. Without any inclusion, everything but the exclusions is meant."""

    inclusions: tuple[_Levels, ...] = ()
    exclusions: tuple[re.Pattern[bytes], ...] = ()

    @classmethod
    def parse(cls, text: bytes, where: str) -> "PathSpecification":
        """The patterns of a file. Raises UsageError with the place of a relative one."""
        included, excluded = list[_Levels](), list[re.Pattern[bytes]]()
        for number, line in enumerate(map(bytes.strip, text.split(b"\n")), 1):
            pattern = line.lstrip(b"!").strip().rstrip(b"/")
            if not line or line.startswith(b"#"):
                continue
            if not line.lstrip(b"!").strip().startswith(b"/"):
                raise UsageError(f"{where}:{number}: {line.decode(errors='replace')!r} does not start with a slash")
            if line.startswith(b"!"):
                excluded.append(re.compile(_translated(pattern, _WILD_ACROSS) + b"(/.*)?", re.DOTALL))
            else:
                included.append(tuple(_level(level) for level in pattern.split(b"/")[1:]))
        return cls(tuple(included), tuple(excluded))

    def takes(self, path: bytes) -> bool:
        """Whether what lies at this absolute path (the root is empty) is meant."""
        if self._excludes(path):
            return False
        levels = path.split(b"/")[1:]
        return not self.inclusions or any(
            len(pattern) <= len(levels) and _agree(pattern, levels) for pattern in self.inclusions
        )

    def enters(self, directory: bytes) -> bool:
        """Whether there may be something below this directory that is meant."""
        levels = directory.split(b"/")[1:]
        on_the_way = not self.inclusions or any(_agree(pattern, levels) for pattern in self.inclusions)
        return on_the_way and not self._excludes(directory)

    def _excludes(self, path: bytes) -> bool:
        return any(pattern.fullmatch(path) for pattern in self.exclusions)


def _agree(pattern: _Levels, levels: Sequence[bytes]) -> bool:
    """As far as both go."""
    return all(expected.fullmatch(level) for expected, level in zip(pattern, levels, strict=False))


def _level(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(_translated(pattern, _WILD_IN_LEVEL), re.DOTALL)


def _translated(pattern: bytes, wild: dict[bytes, bytes]) -> bytes:
    tokens: Iterable[bytes] = (found[0] for found in _TOKEN.finditer(pattern))
    return b"".join(wild.get(token) or re.escape(token[-1:]) for token in tokens)
