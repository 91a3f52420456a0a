"""Variant symbolic links: `$(NAME)` in a target, filled in by the client; pure. Source: FORMAT section 9.6."""

from collections.abc import Mapping


def expand(target: bytes, variables: Mapping[bytes, bytes]) -> bytes:
    """The target as the client shows it: unset names become their default, or nothing; no nesting, no escapes."""
    if b"$" not in target:
        return target
    done, rest = b"", target
    while (start := rest.find(b"$(")) >= 0 and (end := rest.find(b")", start)) >= 0:
        name, found, default = rest[start + 2 : end].partition(b":-")
        done += rest[:start] + variables.get(name, default if found else b"")
        rest = rest[end + 1 :]
    return done + rest
