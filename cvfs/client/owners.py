"""Whose the entries of a mount are: maps of user and group numbers, read once when a repository is mounted.

A map is a text file: `<from> <to>` lines, `* <to>` for all others, `#` comments. Source: FORMAT section 9.9.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cvfs.client.local_file import read_local
from cvfs.errors import UsageError

_LINE = re.compile(r"(\*|[0-9]{1,10})\s+([0-9]{1,10})")
_LARGEST_ID = 2**32 - 1
_MAX_FILE = 2**22


@dataclass(frozen=True, slots=True)
class OwnerMap:
    """Published numbers to those that are shown; `default` for those without an entry, None: as they are."""

    entries: Mapping[int, int] = field(default_factory=dict)
    default: int | None = None

    def of(self, number: int) -> int:
        """What is shown for a published number."""
        return self.entries.get(number, number if self.default is None else self.default)


def parse_owner_map(text: str, where: str) -> OwnerMap:
    """Raises UsageError with the place of a line that makes no sense: half a map is worse than none."""
    entries: dict[int, int] = {}
    default = None
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = _LINE.fullmatch(content)
        if match is None or any(part != "*" and int(part) > _LARGEST_ID for part in match.groups()):
            raise UsageError(f"{where}:{number}: expected '<from> <to>' or '* <to>', found {content[:60]!r}")
        if match[1] == "*":
            default = int(match[2])
        else:
            entries[int(match[1])] = int(match[2])
    return OwnerMap(entries, default)


def read_owner_map(path: str) -> OwnerMap:
    """The map in a file. Raises UsageError for one that cannot be read or makes no sense."""
    try:
        text = read_local(path, _MAX_FILE).decode("utf-8", "replace")
    except UsageError as error:
        raise UsageError(f"{error}: correct CVMFS_UID_MAP or CVMFS_GID_MAP") from error
    return parse_owner_map(text, path)
