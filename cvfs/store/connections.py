"""Connections to HTTP servers by way of one proxy: dialled within a deadline, kept while idle; this module asks for nothing.

The home of urllib3, whose pools do what is long to get right: certificates, tunnels through proxies, connections kept and
found closed. What is said over one is the matter of `conversation`.
"""

import os
import socket
import ssl
import urllib.parse
from typing import Any

from urllib3 import PoolManager, ProxyManager, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from cvfs.store.dial import dial
from cvfs.store.names import Names

FAILURES = (HTTPError,)
"""What the library raises, beside OSError and ValueError."""

_KEPT_SERVERS = 4
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

    def __init__(self, pool: HTTPConnectionPool, scheme: str) -> None:
        self._pool = pool
        # By way of a proxy, https goes through a tunnel. The pool's scheme would be that of the proxy.
        self._tunnelled = pool.proxy is not None and scheme == "https"
        self.headers: dict[str, str] = {}
        """What the proxy wants to hear with every request."""
        if pool.proxy is not None and not self._tunnelled:
            self.headers = dict(pool.proxy_headers)

    def line(self, seconds: float) -> Line:
        """A connection, whose time-out is `seconds`, less what it took to make it. Raises what the library does."""
        connection: Any = self._pool._get_conn()  # noqa: SLF001
        if connection.sock is None:
            self._connect(connection, seconds)
        elif connection.sock.gettimeout() != seconds:
            connection.sock.settimeout(seconds)
        return Line(self._pool, connection)

    def _connect(self, connection: Any, seconds: float) -> None:
        connection.timeout = seconds
        try:
            if self._tunnelled:
                self._pool._prepare_proxy(connection)  # noqa: SLF001
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise


class Connections:
    """Connections of one process, by way of `proxy` (None: directly); `certificates` are those to trust, see `HttpOptions`."""

    def __init__(self, proxy: str | None, certificates: str | None, names: Names) -> None:
        self._certificates = certificates
        self._manager = _manager(proxy)
        self._manager.pool_classes_by_scheme = {
            "http": _dialled(HTTPConnectionPool, HTTPConnection, names),
            "https": _dialled(HTTPSConnectionPool, HTTPSConnection, names),
        }

    def peer(self, url: str) -> Peer:
        """The server that a URL names. Raises HTTPError or ValueError where there is none to talk to."""
        pool = self._manager.connection_from_url(url)
        if isinstance(pool, HTTPSConnectionPool):
            _trust(pool, self._certificates or _system_certificates())
        return Peer(pool, urllib.parse.urlsplit(url).scheme)

    def close(self) -> None:
        """Close those that are idle."""
        self._manager.clear()


def _manager(proxy: str | None) -> PoolManager:
    if proxy is None:
        return PoolManager(_KEPT_SERVERS, maxsize=_KEPT_CONNECTIONS)
    return ProxyManager(proxy, _KEPT_SERVERS, proxy_headers=_password(proxy), maxsize=_KEPT_CONNECTIONS)


def _password(proxy: str) -> dict[str, str]:
    """What a proxy wants to hear whose URL names a user."""
    parts = urllib.parse.urlsplit(proxy)
    if not parts.username:
        return {}
    user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
    return dict(make_headers(proxy_basic_auth=f"{user}:{password}"))


def _trust(pool: HTTPSConnectionPool, certificates: str) -> None:
    if not os.path.exists(certificates):
        raise ValueError(f"{certificates}: certificates to trust are not there")
    pool.cert_reqs = "CERT_REQUIRED"
    if os.path.isdir(certificates):
        pool.ca_cert_dir = certificates
    else:
        pool.ca_certs = certificates


def _dialled(
    pool: type[HTTPConnectionPool], connection: type[HTTPConnection], names: Names
) -> type[HTTPConnectionPool]:
    def connect(self: HTTPConnection) -> socket.socket:
        within = self.timeout if isinstance(self.timeout, (int, float)) else _UNSET_TIMEOUT
        return dial(names, self._dns_host, self.port, within, self.socket_options or ())

    dialled = type(f"Dialled{connection.__name__}", (connection,), {"_new_conn": connect})
    return type(f"Dialled{pool.__name__}", (pool,), {"ConnectionCls": dialled})


def _system_certificates() -> str:
    """Where this system keeps the certificates it trusts; those of certifi where it keeps none."""
    paths = ssl.get_default_verify_paths()
    kept = next((place for place in (paths.cafile, paths.capath) if place and os.path.exists(place)), None)
    if kept is None:
        import certifi  # noqa: PLC0415  # hardly ever needed

        return certifi.where()
    return kept
