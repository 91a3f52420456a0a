"""`.cvmfsdirtab`: patterns of directories that become nested catalogs. Source: FORMAT section 9.8."""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from cvfs.errors import Unpublishable
from cvfs_server.sources.base import Place

DIRTAB = b".cvmfsdirtab"
_MAX_DIRTAB = 2**20

_WILD_IN_LEVEL = {b"*": b"[^/]*", b"?": b"[^/]"}
_WILD_ACROSS = {b"*": b".*", b"?": b"."}
_TOKEN = re.compile(rb"\\[*?\\]|.", re.DOTALL)


def is_native(path: bytes) -> bool:
    """Whether a file is stored in external repositories, too: no other server has what the publisher itself reads again."""
    return path == b"/" + DIRTAB


@dataclass(frozen=True, slots=True)
class Dirtab:
    """Which directories become nested catalogs."""

    inclusions: tuple[re.Pattern[bytes], ...] = ()
    exclusions: tuple[re.Pattern[bytes], ...] = ()

    def matches(self, path: bytes) -> bool:
        """Whether the directory at this absolute path in the repository starts a nested catalog."""
        if not any(pattern.fullmatch(path) for pattern in self.inclusions):
            return False
        return not any(pattern.fullmatch(path) for pattern in self.exclusions)


def parse(text: bytes) -> Dirtab:
    """The patterns of a file. Raises Unpublishable for a relative one, and for one both included and excluded."""
    included: list[bytes] = []
    excluded: list[bytes] = []
    for line in map(bytes.strip, text.split(b"\n")):
        if line and not line.startswith(b"#"):
            negated = line.startswith(b"!")
            (excluded if negated else included).append(line[1:].strip() if negated else line)
    _check(included, excluded)
    return Dirtab(_compiled(included, _WILD_IN_LEVEL), _compiled(excluded, _WILD_ACROSS))


def _check(included: list[bytes], excluded: list[bytes]) -> None:
    for pattern in included:
        if not pattern.startswith(b"/"):
            raise Unpublishable(f"/.cvmfsdirtab: {pattern.decode(errors='replace')!r} does not start with a slash")
        if pattern in excluded:
            raise Unpublishable(f"/.cvmfsdirtab: {pattern.decode(errors='replace')!r} is both included and excluded")


def _compiled(patterns: Iterable[bytes], wild: dict[bytes, bytes]) -> tuple[re.Pattern[bytes], ...]:
    # A trailing slash only says that a directory is meant.
    return tuple(re.compile(_translate(pattern.rstrip(b"/"), wild), re.DOTALL) for pattern in patterns)


def _translate(pattern: bytes, wild: dict[bytes, bytes]) -> bytes:
    tokens = (found[0] for found in _TOKEN.finditer(pattern))
    return b"".join(wild.get(token) or re.escape(token[-1:]) for token in tokens)


def read_dirtab(place: Place) -> bytes:
    """The text of a file. Raises Unpublishable for anything but a regular file, and for a huge one."""
    try:
        descriptor = os.open(place.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unpublishable(f"/{DIRTAB.decode()}: {error.strerror}; nothing was published") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unpublishable(f"/{DIRTAB.decode()}: must be a regular file")
        offset, size = (place.part.offset, place.part.size) if place.part else (0, _MAX_DIRTAB + 1)
        text = os.pread(descriptor, min(size, _MAX_DIRTAB + 1), offset)
    finally:
        os.close(descriptor)
    if len(text) > _MAX_DIRTAB:
        raise Unpublishable(f"/{DIRTAB.decode()}: longer than {_MAX_DIRTAB} bytes")
    return text
