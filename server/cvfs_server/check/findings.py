"""What is wrong with a repository, and where; a value that is printed, it decides nothing."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One fault: the path or document it was found at, what it is; a warning harms nobody today."""

    where: str
    what: str
    is_warning: bool = False


def shown(path: bytes) -> str:
    """A path as people read it, on one line: what is no UTF-8 and what cannot be printed is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text or "/"


def fault(path: bytes, what: str, *, is_warning: bool = False) -> Finding:
    """A finding at a path of the repository."""
    return Finding(shown(path), what, is_warning)
