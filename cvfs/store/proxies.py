"""The syntax of CVMFS_HTTP_PROXY as values: groups of proxies in order of preference; it contacts and resolves nobody.

`a|b;c|d;DIRECT`: a and b share the load, c and d come when both have failed, then the servers are asked directly.
"""

import hashlib
import logging
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.errors import StoreError, UsageError

_log = logging.getLogger(__name__)

DIRECT = "DIRECT"
AUTO = "auto"
Group = tuple[str, ...]
# Where the original's library asks a proxy that is given without a port.
_DEFAULT_PORTS = {"http": 1080, "https": 443}
_MOST_PROXIES = 1000


@dataclass(frozen=True, slots=True)
class ProxyChain:
    """Groups of proxies in order of preference; those from number `fallback` on come from CVMFS_FALLBACK_PROXY.

    `written` is CVMFS_HTTP_PROXY alone, with any DIRECT that a fallback proxy took the place of.
    """

    groups: tuple[Group, ...] = ((DIRECT,),)
    fallback: int = 1
    written: str = field(default=DIRECT, compare=False)


WITHOUT_PROXY = ProxyChain()


class ProxyAddress(NamedTuple):
    """Where a proxy listens."""

    scheme: str
    host: str
    port: int


def parse_chain(proxies: str, fallback: str = "") -> ProxyChain:
    """The values of CVMFS_HTTP_PROXY and CVMFS_FALLBACK_PROXY as one chain. No proxy at all means DIRECT.

    As in the original a fallback proxy takes the place of DIRECT, and cannot itself be DIRECT. Raises UsageError.
    """
    groups, spare = parse_groups(proxies), _without_direct(parse_groups(fallback))
    written = format_groups(groups)
    if spare:
        groups = _without_direct(groups)
    if not groups and not spare:
        return WITHOUT_PROXY
    return ProxyChain((*groups, *spare), len(groups), written)


def parse_groups(text: str) -> tuple[Group, ...]:
    """`;` between groups, `|` between the members of one; empty ones are left out. Raises UsageError."""
    groups = [tuple(_member(part.strip()) for part in group.split("|") if part.strip()) for group in text.split(";")]
    kept = tuple(tuple(dict.fromkeys(group)) for group in groups if group)
    if sum(map(len, kept)) > _MOST_PROXIES:
        raise UsageError(f"more than {_MOST_PROXIES} proxies: too many")
    return kept


def expand_auto(proxies: str, discover: Callable[[], str]) -> str:
    """The value of CVMFS_HTTP_PROXY with what `discover` finds in the place of `auto`.

    Raises UsageError if `auto` shares a group, and whatever `discover` raises if there is no other group.
    """
    groups = [group.strip() for group in proxies.split(";") if group.strip()]
    if any(group.lower() != AUTO and AUTO in group.lower().replace(" ", "").split("|") for group in groups):
        raise UsageError(f"{proxies}: auto stands alone in its group, write auto;{DIRECT} or auto")
    if not any(group.lower() == AUTO for group in groups):
        return proxies
    others = [group for group in groups if group.lower() != AUTO]
    try:
        found = discover()
    except StoreError as error:
        if not others:
            raise
        _log.warning("going on without automatic proxies: %s", error)
        return ";".join(others)
    return ";".join(found if group.lower() == AUTO else group for group in groups)


def format_groups(groups: Iterable[Sequence[str]]) -> str:
    """The groups as they are written in a configuration."""
    return ";".join("|".join(group) for group in groups)


def address_of(proxy: str) -> ProxyAddress:
    """Where to connect to for a proxy other than DIRECT. Raises UsageError."""
    try:
        parts = urllib.parse.urlsplit(proxy)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{shown(proxy)}: not a proxy: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"{shown(proxy)}: not a proxy, write http://<host>:<port> or DIRECT")
    return ProxyAddress(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


def at_address(proxy: str, address: str) -> str:
    """The same proxy, reached at one of the addresses of its name."""
    parts = urllib.parse.urlsplit(proxy)
    where = f"[{address}]" if ":" in address else address
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{user}{where}:{address_of(proxy).port}"


def shown(proxy: str) -> str:
    """The proxy for messages: without a password."""
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def shard_order(proxies: Iterable[str], path: str) -> list[str]:
    """The proxies in the order in which this object belongs to them, the same on every machine (CVMFS_PROXY_SHARD).

    When one is gone only its objects move (rendezvous hashing).
    """

    def weight(proxy: str) -> bytes:
        return hashlib.blake2b(f"{proxy} {path}".encode("utf-8", "surrogateescape"), digest_size=8).digest()

    return sorted(proxies, key=weight)


def _member(text: str) -> str:
    """A proxy as a URL with scheme and port; a bare host name is one that speaks HTTP."""
    if text.upper() == DIRECT:
        return DIRECT
    if text.lower() == AUTO:
        return AUTO
    if any(character.isspace() or not character.isprintable() for character in text):
        raise UsageError(f"{shown(text)!r}: not a proxy")
    url = text if "://" in text else f"http://{text}"
    return at_address(url, address_of(url).host)


def _without_direct(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    left = (tuple(proxy for proxy in group if proxy != DIRECT) for group in groups)
    return tuple(group for group in left if group)
