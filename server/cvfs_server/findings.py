"""What is wrong with a repository, and where; a value that is printed, it decides nothing."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One fault: the path or document it was found at, what it is; a warning harms nobody today."""

    where: str
    what: str
    is_warning: bool = False


def shown(path: bytes) -> str:
    """A path as people read it; bytes that are no UTF-8 are escaped."""
    return path.decode("utf-8", "backslashreplace") or "/"


def fault(path: bytes, what: str, *, is_warning: bool = False) -> Finding:
    """A finding at a path of the repository."""
    return Finding(shown(path), what, is_warning)
