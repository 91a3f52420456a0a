"""Proxies given by name: each address of a name is a proxy of its own, and stays so while the name's addresses do.

It never waits: until a name is known, it is asked for as it is.
"""

from collections.abc import Callable

from cvfs.store.names import Names, literal_address
from cvfs.store.proxies import address_of
from cvfs.store.routes import Routes

_WHILE_UNKNOWN = 1.0
_WHEN_KNOWN = 30.0


class ProxyNames:
    """Keeps the members of proxy groups as the name servers have them, `most` addresses of each name. Called often."""

    def __init__(self, routes: Routes, names: Names, most: int | None, clock: Callable[[], float]) -> None:
        self._routes = routes
        self._names = names
        self._most = most
        self._clock = clock
        self._next = float("-inf")
        self._seen: dict[str, tuple[str, ...]] = {}

    def __call__(self) -> None:
        """Look whether any name has other addresses now, if it is time to."""
        now = self._clock()
        if now < self._next:
            return
        # Set before anything else: whoever comes meanwhile has nothing to do.
        self._next = now + _WHEN_KNOWN
        known = [self._is_known(proxy) for proxy in self._routes.proxy_names()]
        if not all(known):
            self._next = now + _WHILE_UNKNOWN

    def _is_known(self, proxy: str) -> bool:
        host = address_of(proxy).host
        if literal_address(host):
            return True
        addresses = self._names.known(host)[: self._most]
        if addresses and addresses != self._seen.get(proxy):
            self._seen[proxy] = addresses
            self._routes.set_addresses(proxy, addresses)
        return bool(addresses)
