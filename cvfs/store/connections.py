"""Connections to HTTP servers by way of one proxy: dialled within a deadline, kept while idle; this module asks for nothing.

The home of requests and urllib3, whose pools do what is long to get right: certificates, tunnels through proxies, passwords
for them. What is said over a connection is the matter of `conversation`.
"""

import os
import socket
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from cvfs.store.dial import dial
from cvfs.store.names import Names

FAILURES = (requests.RequestException, HTTPError)
"""What the libraries raise, beside OSError and ValueError."""

# More connections than this are closed when they are not in use.
_KEPT_CONNECTIONS = 64
# For a connection without a time-out, which nobody here makes; seconds.
_UNSET_TIMEOUT = 10.0


class Line:
    """A connection while one request uses it; give it back, whatever became of that."""

    def __init__(self, pool: HTTPConnectionPool, connection: Any) -> None:
        self._pool = pool
        self._connection = connection

    @property
    def sock(self) -> socket.socket:
        """The connected socket."""
        connected: socket.socket = self._connection.sock
        return connected

    def give_back(self, *, reusable: bool) -> None:
        """Keep the connection for the next request, or close it."""
        if reusable:
            self._pool._put_conn(self._connection)  # noqa: SLF001  # made for pools of one's own
        else:
            self._connection.close()


class Peer:
    """One server, as one store asks it: by way of that store's proxy or directly."""

    def __init__(self, pool: HTTPConnectionPool) -> None:
        self._pool = pool
        self.headers: dict[str, str] = {}
        """What the proxy wants to hear with every request."""
        if pool.proxy is not None and pool.scheme == "http":
            self.headers = dict(pool.proxy_headers)

    def line(self, seconds: float) -> Line:
        """A connection, whose time-out is `seconds`, less what it took to make it. Raises what any of the libraries does."""
        connection: Any = self._pool._get_conn()  # noqa: SLF001
        if connection.sock is None:
            self._connect(connection, seconds)
        elif connection.sock.gettimeout() != seconds:
            connection.sock.settimeout(seconds)
        return Line(self._pool, connection)

    def _connect(self, connection: Any, seconds: float) -> None:
        connection.timeout = seconds
        try:
            if self._pool.proxy is not None and self._pool.scheme == "https":
                self._pool._prepare_proxy(connection)  # noqa: SLF001
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise


class Connections:
    """Connections of one process, by way of `proxy` (None: directly); `certificates` are those to trust, see `HttpOptions`."""

    def __init__(self, proxy: str | None, certificates: str | None, names: Names) -> None:
        self._proxy = proxy
        self._certificates = certificates
        self._adapter = _Adapter(names)

    def peer(self, url: str) -> Peer:
        """The server that a URL names. Raises what any of the libraries does for a URL that names none."""
        manager = self._adapter.proxy_manager_for(self._proxy) if self._proxy else self._adapter.poolmanager
        pool: HTTPConnectionPool = manager.connection_from_url(url)
        self._adapter.cert_verify(pool, url, self._certificates or _system_certificates(), None)  # type: ignore[no-untyped-call]
        return Peer(pool)

    def close(self) -> None:
        """Close those that are idle."""
        self._adapter.close()


class _Adapter(HTTPAdapter):
    """Pools whose connections are dialled by name and within a deadline, to servers and to proxies."""

    def __init__(self, names: Names) -> None:
        self._classes = {
            "http": _dialled(HTTPConnectionPool, HTTPConnection, names),
            "https": _dialled(HTTPSConnectionPool, HTTPSConnection, names),
        }
        super().__init__(pool_connections=4, pool_maxsize=_KEPT_CONNECTIONS)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._classes
        return manager


def _dialled(
    pool: type[HTTPConnectionPool], connection: type[HTTPConnection], names: Names
) -> type[HTTPConnectionPool]:
    def connect(self: HTTPConnection) -> socket.socket:
        within = self.timeout if isinstance(self.timeout, (int, float)) else _UNSET_TIMEOUT
        return dial(names, self._dns_host, self.port, within, self.socket_options or ())

    dialled = type(f"Dialled{connection.__name__}", (connection,), {"_new_conn": connect})
    return type(f"Dialled{pool.__name__}", (pool,), {"ConnectionCls": dialled})


def _system_certificates() -> str | bool:
    """Where this system keeps the certificates it trusts; True for those that came with requests."""
    paths = ssl.get_default_verify_paths()
    return next((place for place in (paths.cafile, paths.capath) if place and os.path.exists(place)), True)
