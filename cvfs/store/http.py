"""A store behind an HTTP server, directly or through one proxy; it never chooses another server and verifies nothing.

The only home of requests. Source: FORMAT sections 1.1, 1.5, 4.6.
"""

import contextlib
import os
import threading
import urllib.parse
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ProtocolError

from cvfs import __version__
from cvfs.errors import MissingObject, StoreError, Unreachable
from cvfs.store import paced

DIRECT = "DIRECT"
# Proxies and servers of the field know clients by the first two words; what follows is the version.
USER_AGENT = f"cvmfs Fuse {__version__} (cvfs)"
MAX_REDIRECTS = 4
_STEP = 256 * 1024
_NEVER_ENCODED = "/:.@+-_~[],"
_REDIRECTS = {301, 302, 303, 307}
# The text of an error page up to this size is read away, so that the connection can be used again.
_DRAINED = 4096


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take, in seconds, to accept a connection and between two reads: `proxied`, or `direct`.

    A response that on average stays below `low_speed` bytes per second for that long is given up. Looking up a host
    name is bounded by the system's resolver alone.
    """

    proxied: float = 5.0
    direct: float = 10.0
    low_speed: int = 1024


class HttpStore:
    """Stored bytes below `base_url`, by way of `proxy` ("http://host:port"; None or "DIRECT" for none).

    May be used by many threads, each of which has a session with keep-alive of its own, and after a fork. No
    variable of the environment changes what it does. Redirects are refused unless `follow_redirects`.
    """

    def __init__(
        self,
        base_url: str,
        proxy: str | None = None,
        timeouts: Timeouts = Timeouts(),
        *,
        follow_redirects: bool = False,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        self._proxy = None if proxy == DIRECT else proxy
        self._timeouts = timeouts
        self._follow_redirects = follow_redirects
        self._local = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()

    def fetch(self, path: str, *, fresh: bool = False, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """See `Store.fetch`. A body shorter than announced, or one that is not exactly the span, is Unreachable."""
        headers = {"Pragma": "no-cache", "Cache-Control": "no-cache"} if fresh else {"Pragma": ""}
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[0] + span[1] - 1}"
        url = self._url(path)
        with self._naming(url), contextlib.closing(self._answer("GET", url, headers)) as response:
            _check_status(response, span)
            yield from _body(response, None if span is None else span[1])

    def has(self, path: str) -> bool:
        """See `Store.has`."""
        url = self._url(path)
        with self._naming(url), contextlib.closing(self._answer("HEAD", url, {"Pragma": ""})) as response:
            try:
                _check_status(response, None)
            except MissingObject:
                return False
            return True

    def close(self) -> None:
        """Close the idle connections of all threads. The store may go on being used: it connects again."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def __str__(self) -> str:
        """Where the bytes come from, for messages."""
        return f"{self._base} via {self._proxy}" if self._proxy else self._base

    def _url(self, path: str) -> str:
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise MissingObject(f"{path!r}: not a path below {self._base}, refused")
        return self._base + path.lstrip("/")

    @contextlib.contextmanager
    def _naming(self, url: str) -> Iterator[None]:
        """Whatever goes wrong inside becomes an error of the store that names the URL and the proxy."""
        where = f"{url} via {self._proxy}" if self._proxy else url
        try:
            yield
        except StoreError as error:
            raise type(error)(f"{where}: {error}") from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Unreachable(f"{where}: {_reason(error)}") from error

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        """The response to look at, redirects followed where that is allowed. Its body is not read yet."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(method, url, headers)
            if response.status_code not in _REDIRECTS or not self._follow_redirects:
                return response
            url = urllib.parse.urljoin(url, response.headers.get("Location", ""))
            response.close()
            if not url.startswith(("http://", "https://")):
                raise Unreachable(f"redirects to {url[:200]!r}, refused")
        raise Unreachable(f"redirects more than {MAX_REDIRECTS} times")

    def _ask(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        try:
            return self._send(method, url, headers)
        except requests.ConnectionError as error:
            # The server may close a kept connection in the instant in which it is used again: not a failure yet.
            if not (error.args and isinstance(error.args[0], ProtocolError)):
                raise
            return self._send(method, url, headers)

    def _send(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        session = self._session()
        request = requests.Request(method, url, headers={**session.headers, **headers}).prepare()
        patience = self._timeouts.proxied if self._proxy else self._timeouts.direct
        proxies = {"http": self._proxy, "https": self._proxy} if self._proxy else {}
        return session.get_adapter(url).send(request, stream=True, timeout=(patience, patience), proxies=proxies)

    def _session(self) -> requests.Session:
        """This thread's session; a process that was forked off never shares a connection with its parent."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.session = self._new_session()
            self._local.pid = os.getpid()
        session: requests.Session = self._local.session
        return session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.headers.clear()
        # Any other encoding would be undone or not by whoever is on the way: the hash is over the bytes as stored.
        session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "Keep-Alive"})
        for scheme in ("http://", "https://"):
            session.mount(scheme, _PacedAdapter(self._timeouts.low_speed))
        with self._lock:
            self._sessions.add(session)
        return session


class _PacedAdapter(HTTPAdapter):
    """Connections that are given up when they dribble, to servers and to proxies."""

    def __init__(self, low_speed: int) -> None:
        self._low_speed = low_speed
        super().__init__(pool_connections=4, pool_maxsize=4)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = paced.pool_classes(self._low_speed)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = paced.pool_classes(self._low_speed)
        return manager


def encode_place(path: bytes) -> str:
    """An absolute path in a repository as a place below an external URL (FORMAT sections 1.5, 4.6)."""
    return urllib.parse.quote(path.lstrip(b"/"), safe=_NEVER_ENCODED)


def _check_status(response: requests.Response, span: tuple[int, int] | None) -> None:
    status = response.status_code
    if status == requests.codes.not_found:
        _drain(response)
        raise MissingObject("404, not there")
    if not 200 <= status < 300:
        _drain(response)
        raise Unreachable(f"answers with status {status} {response.reason or ''}".rstrip())
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Unreachable(f"sends encoding {response.headers['Content-Encoding']!r} that nobody asked for")
    if span is not None:
        _check_span(response, span)


def _check_span(response: requests.Response, span: tuple[int, int]) -> None:
    """Only the very part that was asked for will do."""
    wanted = f"bytes {span[0]}-{span[0] + span[1] - 1}/"
    got = response.headers.get("Content-Range", "")
    if response.status_code != requests.codes.partial_content or not got.startswith(wanted):
        raise Unreachable(f"asked for {wanted[:-1]}, answers with status {response.status_code} and range {got!r}")


def _body(response: requests.Response, length: int | None) -> Iterator[bytes]:
    """The bytes on the wire. They end where they were announced to end, and at `length` where that is known."""
    left = length
    while piece := response.raw.read(_STEP, decode_content=False):
        if left is not None:
            left -= len(piece)
            if left < 0:
                raise Unreachable(f"sends more than the {length} bytes that were asked for")
        yield piece
    if left:
        raise Unreachable(f"ends {left} bytes early")


def _drain(response: requests.Response) -> None:
    response.raw.read(_DRAINED, decode_content=False)


def _reason(error: Exception) -> str:
    """The innermost cause in one line: the layers around it only repeat each other."""
    cause: BaseException = error
    while nested := cause.__cause__ or cause.__context__:
        cause = nested
    return " ".join(str(cause).split())[:300] or type(cause).__name__
