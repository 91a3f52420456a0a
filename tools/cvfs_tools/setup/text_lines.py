"""Lines put into a file that others write too, and taken out again; text only, no file is touched."""

import re
from collections.abc import Iterable

ASIDE = b"#cvfs setup# "
"""What stands before a line of others that was put aside."""


def missing(content: bytes, lines: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those of our lines that are not there yet."""
    present = content.split(b"\n")
    return tuple(line for line in lines if line not in present)


def conflicts(content: bytes, lines: Iterable[bytes], against: bytes | None) -> list[bytes]:
    """The lines of others that say what ours are to say."""
    if against is None:
        return []
    return [line for line in _split(content) if line not in lines and re.match(against, line)]


def with_lines(content: bytes, lines: Iterable[bytes], against: bytes | None = None) -> bytes:
    """Our lines at the end, lines of others that conflict put aside as comments; what is there already stays."""
    aside = conflicts(content, lines, against)
    kept = [ASIDE + line if line in aside else line for line in _split(content)]
    return _join([*kept, *missing(content, lines)])


def without_lines(content: bytes, lines: Iterable[bytes], ending: bytes = b"") -> bytes:
    """Our lines gone, those that were put aside back in their places; and, if ours are the last, the end of the line before."""
    found = _split(content)
    rest = _join([line.removeprefix(ASIDE) for line in found if line not in lines])
    return rest.removesuffix(ending) if found and found[-1] in lines else rest


def missing_ending(content: bytes) -> bytes:
    """What the last line lacks before others can follow."""
    return b"" if content.endswith(b"\n") or not content else b"\n"


def _split(content: bytes) -> list[bytes]:
    return content.removesuffix(b"\n").split(b"\n") if content else []


def _join(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
