"""Configuration files: shell-style assignments, read without a shell."""

import re

from cvfs.errors import UsageError

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def parse_configuration(text: str, where: str) -> dict[str, str]:
    """Shell-style `KEY=VALUE` lines, without a shell. Raises UsageError with the place of a line that is neither."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if not match:
            raise UsageError(f"{where}:{number}: expected KEY=VALUE, found {line.strip()[:60]!r}")
        found[match[1]] = _unquote(match[2].strip())
    return found


def _unquote(value: str) -> str:
    for quote in "'\"":
        if value.startswith(quote) and value.count(quote) >= 2:
            return value[1 : value.index(quote, 1)]
    return value.split(" #", 1)[0].rstrip()
