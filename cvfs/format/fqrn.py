"""The rule for fully qualified repository names; pure. Source: FORMAT section 1.5."""

import re

from cvfs.errors import UsageError

_FQRN = re.compile(r"(?=.*\.)[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


def is_fqrn(name: str) -> bool:
    """Whether `name` may be the name of a repository: letters, digits, `-_.`, at most 60, with a dot in it."""
    return _FQRN.fullmatch(name) is not None


def check_fqrn(name: str) -> str:
    """The name itself. Raises UsageError if no repository can be called so."""
    if not is_fqrn(name):
        raise UsageError(
            f"{name[:80]!r} is not a repository name: letters, digits, '-', '_' and '.', at most 60, with a dot in it, "
            "for instance software.example.org"
        )
    return name
