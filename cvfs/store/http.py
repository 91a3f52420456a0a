"""A store behind an HTTP server, directly or through one proxy; it never chooses another server and verifies nothing.

The only home of requests, whose connection pools it uses: its sessions cost more than all the rest of a small request.
Source: FORMAT sections 1.1, 1.5, 4.6.
"""

import contextlib
import os
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.exceptions import TimeoutError as PoolTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from cvfs import __version__
from cvfs.errors import MissingObject, StoreError, Trouble, Unreachable
from cvfs.store import paced
from cvfs.store.names import Names
from cvfs.store.patience import USUAL_TIMEOUTS, Timeouts
from cvfs.store.proxies import DIRECT, shown

__all__ = ["DIRECT", "MAX_REDIRECTS", "USER_AGENT", "HttpOptions", "HttpStore", "Timeouts", "encode_place"]

# Proxies and servers of the field know clients by the first two words; what follows is the version.
USER_AGENT = f"cvmfs Fuse {__version__} (cvfs)"
MAX_REDIRECTS = 4
_STEP = 256 * 1024
_NEVER_ENCODED = "/:.@+-_~[],"
_REDIRECTS = {301, 302, 303, 307}
# A proxy that cannot reach the server says so with one of these, or with a header of its own.
_GATEWAY = {502, 503, 504}
# What a server says itself, beside 5xx; any other status may be the proxy's.
_SERVERS_OWN = {400, 429}
# The text of an error page up to this size is read away, so that the connection can be used again.
_DRAINED = 4096
# More connections than this are closed when they are not in use.
_KEPT_CONNECTIONS = 64


class HttpOptions(NamedTuple):
    """How servers are asked: redirects, certificates to trust for https (a file or a directory; None: the system's),
    headers that are added to every request.
    """

    follow_redirects: bool = False
    certificates: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class HttpStore:
    """Stored bytes below `base_url`, by way of `proxy` ("http://host:port"; None or "DIRECT" for none).

    May be used by many threads, which share a pool of connections, and after a fork. No variable of the environment
    changes what it does. `timeouts` may be given as a function, for those that change.
    """

    def __init__(
        self,
        base_url: str,
        proxy: str | None = None,
        timeouts: Timeouts | Callable[[], Timeouts] = USUAL_TIMEOUTS,
        *,
        options: HttpOptions | None = None,
        names: Names | None = None,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        self._proxy = None if proxy == DIRECT else proxy
        self._timeouts = timeouts if callable(timeouts) else lambda: timeouts
        self._options = options or HttpOptions()
        self._names = names or Names()
        # Any other encoding would be undone or not by whoever is on the way: the hash is over the bytes as stored.
        usual = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "Keep-Alive"}
        self._usual = usual | dict(self._options.headers) | {"Pragma": ""}
        self._fresh = self._usual | {"Pragma": "no-cache", "Cache-Control": "no-cache"}
        self._lock = threading.Lock()
        self._pools: _Pools | None = None

    def fetch(
        self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None, patience: float | None = None
    ) -> Iterator[bytes]:
        """See `Store.fetch`, `Way.fetch`. A body shorter than announced, or one that is not the span, is Unreachable."""
        headers = self._fresh if fresh else self._usual
        if span is not None:
            headers = headers | {"Range": f"bytes={span[0]}-{span[0] + span[1] - 1}"}
        url = self._url(path)
        with self._naming(url), contextlib.closing(self._answer("GET", url, headers, patience)) as response:
            self._check_status(response, span)
            yield from _body(response, None if span is None else span[1])

    def has(self, path: str, *, patience: float | None = None) -> bool:
        """See `Store.has`."""
        url = self._url(path)
        with self._naming(url), contextlib.closing(self._answer("HEAD", url, self._usual, patience)) as response:
            try:
                self._check_status(response, None)
            except MissingObject:
                return False
            return True

    def close(self) -> None:
        """Close the idle connections. The store may go on being used: it connects again."""
        with self._lock:
            pools, self._pools = self._pools, None
        if pools is not None:
            pools.adapter.close()

    def __str__(self) -> str:
        """Where the bytes come from, for messages."""
        return f"{self._base} via {shown(self._proxy)}" if self._proxy else self._base

    def _url(self, path: str) -> str:
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise MissingObject(f"{path!r}: not a path below {self._base}, refused")
        return self._base + path.lstrip("/")

    @contextlib.contextmanager
    def _naming(self, url: str) -> Iterator[None]:
        """Whatever goes wrong inside becomes an error of the store that names the URL and the proxy."""
        where = f"{url} via {shown(self._proxy)}" if self._proxy else url
        try:
            yield
        except Unreachable as error:
            raise Unreachable(f"{where}: {error}", error.trouble) from error
        except StoreError as error:
            raise type(error)(f"{where}: {error}") from error
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise Unreachable(f"{where}: {_reason(error)}", _trouble(error)) from error

    def _answer(self, method: str, url: str, headers: Mapping[str, str], patience: float | None) -> BaseHTTPResponse:
        """The response to look at, redirects followed where that is allowed. Its body is not read yet."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(method, url, headers, patience)
            if response.status not in _REDIRECTS or not self._options.follow_redirects:
                return response
            url = urllib.parse.urljoin(url, response.headers.get("Location", ""))
            response.close()
            if not url.startswith(("http://", "https://")):
                raise Unreachable(f"redirects to {url[:200]!r}, refused")
        raise Unreachable(f"redirects more than {MAX_REDIRECTS} times")

    def _ask(self, method: str, url: str, headers: Mapping[str, str], patience: float | None) -> BaseHTTPResponse:
        seconds = self._silence() if patience is None else patience
        try:
            return self._send(method, url, headers, seconds)
        except ProtocolError:
            # The server may close a kept connection in the instant in which it is used again: not a failure yet.
            return self._send(method, url, headers, seconds)

    def _send(self, method: str, url: str, headers: Mapping[str, str], seconds: float) -> BaseHTTPResponse:
        pool, target = self._pool(url)
        return pool.urlopen(
            method,
            target,
            headers=headers,
            redirect=False,
            retries=False,
            assert_same_host=False,
            timeout=Timeout(total=seconds, connect=seconds, read=seconds),
            preload_content=False,
            decode_content=False,
        )

    def _silence(self) -> float:
        """Seconds that the peer may be silent."""
        timeouts = self._timeouts()
        return timeouts.proxied if self._proxy else timeouts.direct

    def _pool(self, url: str) -> tuple[HTTPConnectionPool, str]:
        """The connections to use for a URL, and what to ask for on them: a proxy is asked with the whole URL."""
        pools = self._pools
        if pools is None or pools.process != os.getpid():
            pools = self._open()
        if not url.startswith(self._base):
            return self._connections(pools.adapter, url), self._target(url)
        return pools.base, url if pools.whole_url else url[pools.cut :]

    def _open(self) -> "_Pools":
        """The connections of this process; one that was forked off never shares a connection with its parent."""
        with self._lock:
            if self._pools is None or self._pools.process != os.getpid():
                adapter = _PacedAdapter(self._names, self._timeouts().low_speed)
                target = self._target(self._base)
                cut = len(self._base) - len(target)
                pool = self._connections(adapter, self._base)
                self._pools = _Pools(os.getpid(), adapter, pool, whole_url=cut == 0, cut=cut)
            return self._pools

    def _connections(self, adapter: "_PacedAdapter", url: str) -> HTTPConnectionPool:
        manager = adapter.proxy_manager_for(self._proxy) if self._proxy else adapter.poolmanager
        pool: HTTPConnectionPool = manager.connection_from_url(url)
        adapter.cert_verify(pool, url, self._options.certificates or _system_certificates(), None)  # type: ignore[no-untyped-call]
        return pool

    def _target(self, url: str) -> str:
        """What a request line names."""
        if self._proxy and url.startswith("http://"):
            return url
        parts = urllib.parse.urlsplit(url)
        return url[url.index(parts.netloc) + len(parts.netloc) :] or "/"

    def _check_status(self, response: BaseHTTPResponse, span: tuple[int, int] | None) -> None:
        status = response.status
        if status == requests.codes.not_found:
            _drain(response)
            raise MissingObject("404, not there")
        if not 200 <= status < 300:
            _drain(response)
            reason = f"answers with status {status} {response.reason or ''}".rstrip()
            raise Unreachable(reason, self._trouble_told(response))
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise Unreachable(f"sends encoding {encoding!r} that nobody asked for")
        if span is not None:
            _check_span(response, span)

    def _trouble_told(self, response: BaseHTTPResponse) -> Trouble:
        """Who is to blame for an error status, as far as it can be told."""
        if self._proxy and (response.status in _GATEWAY or "X-Squid-Error" in response.headers):
            return Trouble.GATEWAY
        return Trouble.STATUS if response.status >= 500 or response.status in _SERVERS_OWN else Trouble.ANSWER


class _Pools(NamedTuple):
    """The connections of one process: those for the base URL, and the adapter that makes others."""

    process: int
    adapter: "_PacedAdapter"
    base: HTTPConnectionPool
    whole_url: bool
    cut: int


class _PacedAdapter(HTTPAdapter):
    """Connections that are dialled within a deadline and given up when they dribble, to servers and to proxies."""

    def __init__(self, names: Names, low_speed: int) -> None:
        self._classes = paced.pool_classes(names, low_speed)
        super().__init__(pool_connections=4, pool_maxsize=_KEPT_CONNECTIONS)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._classes
        return manager


def encode_place(path: bytes) -> str:
    """An absolute path in a repository as a place below an external URL (FORMAT sections 1.5, 4.6)."""
    return urllib.parse.quote(path.lstrip(b"/"), safe=_NEVER_ENCODED)


def _check_span(response: BaseHTTPResponse, span: tuple[int, int]) -> None:
    """Only the very part that was asked for will do."""
    wanted = f"bytes {span[0]}-{span[0] + span[1] - 1}/"
    got = response.headers.get("Content-Range", "")
    if response.status != requests.codes.partial_content or not got.startswith(wanted):
        raise Unreachable(f"asked for {wanted[:-1]}, answers with status {response.status} and range {got!r}")


def _body(response: BaseHTTPResponse, length: int | None) -> Iterator[bytes]:
    """The bytes on the wire. They end where they were announced to end, and at `length` where that is known."""
    left = length
    while piece := response.read(_STEP, decode_content=False):
        if left is not None:
            left -= len(piece)
            if left < 0:
                raise Unreachable(f"sends more than the {length} bytes that were asked for")
        yield piece
    if left:
        raise Unreachable(f"ends {left} bytes early")


def _drain(response: BaseHTTPResponse) -> None:
    response.read(_DRAINED, decode_content=False)


def _system_certificates() -> str | bool:
    """Where this system keeps the certificates it trusts; True for those that came with requests."""
    paths = ssl.get_default_verify_paths()
    return next((place for place in (paths.cafile, paths.capath) if place and os.path.exists(place)), True)


def _trouble(error: Exception) -> Trouble:
    if isinstance(error, (PoolTimeoutError, TimeoutError)):
        return Trouble.SILENT
    if "Tunnel connection failed" in _reason(error):
        return Trouble.GATEWAY
    return Trouble.ANSWER


def _reason(error: Exception) -> str:
    """The innermost cause in one line: the layers around it only repeat each other."""
    cause: BaseException = error
    while nested := cause.__cause__ or cause.__context__:
        cause = nested
    return " ".join(str(cause).split())[:300] or type(cause).__name__
