"""A store behind an HTTP server, directly or through one proxy; it never chooses another server and verifies nothing.

Connections are those of `connections`, what is said over them is the matter of `conversation`.
Source: FORMAT sections 1.1, 1.5, 4.6.
"""

import contextlib
import os
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cvfs import __version__
from cvfs.errors import MissingObject, StoreError, Trouble, Unreachable
from cvfs.store import conversation
from cvfs.store.connections import FAILURES, Connections, Line, Peer
from cvfs.store.conversation import Answer
from cvfs.store.names import Names
from cvfs.store.patience import USUAL_TIMEOUTS, Timeouts
from cvfs.store.proxies import DIRECT, shown

__all__ = ["DIRECT", "MAX_REDIRECTS", "USER_AGENT", "HttpOptions", "HttpStore", "Timeouts", "encode_place"]

# Proxies and servers of the field know clients by the first two words; what follows is the version.
USER_AGENT = f"cvmfs Fuse {__version__} (cvfs)"
MAX_REDIRECTS = 4
_STEP = 256 * 1024
_NEVER_ENCODED = "/:.@+-_~[],"
_NOT_FOUND = 404
_PARTIAL = 206
_REDIRECTS = {301, 302, 303, 307}
# A proxy that cannot reach the server says so with one of these, or with a header of its own.
_GATEWAY = {502, 503, 504}
# What a server says itself, beside 5xx; any other status may be the proxy's.
_SERVERS_OWN = {400, 429}
# The text of an error page up to this size is read away, so that the connection can be used again.
_DRAINED = 4096


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
        self._ours: _Ours | None = None

    def fetch(
        self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None, patience: float | None = None
    ) -> Iterator[bytes]:
        """See `Store.fetch`, `Way.fetch`. A body shorter than announced, or one that is not the span, is Unreachable."""
        url = self._url(path)
        with self._naming(url), self._answer(_Question("GET", bool(fresh), span), url, patience) as answer:
            self._check_status(answer, span)
            yield from _body(answer, None if span is None else span[1])

    def has(self, path: str, *, patience: float | None = None) -> bool:
        """See `Store.has`."""
        url = self._url(path)
        with self._naming(url), self._answer(_Question("HEAD"), url, patience) as answer:
            try:
                self._check_status(answer, None)
            except MissingObject:
                return False
            return True

    def close(self) -> None:
        """Close the idle connections. The store may go on being used: it connects again."""
        with self._lock:
            ours, self._ours = self._ours, None
        if ours is not None:
            ours.connections.close()

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
        except (*FAILURES, OSError, ValueError) as error:
            raise Unreachable(f"{where}: {_reason(error)}", _trouble(error)) from error

    @contextlib.contextmanager
    def _answer(self, question: "_Question", url: str, patience: float | None) -> Iterator[Answer]:
        """The answer to look at, redirects followed where that is allowed. Its body is not read yet."""
        seconds = self._silence() if patience is None else patience
        for _ in range(MAX_REDIRECTS + 1):
            line, answer = self._ask(question, url, seconds)
            try:
                if answer.status not in _REDIRECTS or not self._options.follow_redirects:
                    yield answer
                    return
            finally:
                line.give_back(reusable=answer.reusable)
            url = urllib.parse.urljoin(url, answer.headers.get("location", ""))
            if not url.startswith(("http://", "https://")):
                raise Unreachable(f"redirects to {url[:200]!r}, refused")
        raise Unreachable(f"redirects more than {MAX_REDIRECTS} times")

    def _ask(self, question: "_Question", url: str, seconds: float) -> tuple[Line, Answer]:
        peer, message = self._message(question, url)
        try:
            return self._converse(peer, message, seconds)
        except ConnectionError:
            # The server may close a kept connection in the instant in which it is used again: not a failure yet.
            return self._converse(peer, message, seconds)

    def _converse(self, peer: Peer, message: bytes, seconds: float) -> tuple[Line, Answer]:
        line = peer.line(seconds)
        try:
            return line, conversation.ask(line.sock, message, self._timeouts().low_speed)
        except BaseException:
            line.give_back(reusable=False)
            raise

    def _silence(self) -> float:
        """Seconds that the peer may be silent."""
        timeouts = self._timeouts()
        return timeouts.proxied if self._proxy else timeouts.direct

    def _message(self, question: "_Question", url: str) -> tuple[Peer, bytes]:
        """Whom to ask, and in which words: a proxy is asked with the whole URL."""
        ours = self._ours
        if ours is None or ours.process != os.getpid():
            ours = self._open()
        if url.startswith(self._base):
            peer, host, target = ours.peer, ours.host, url if ours.whole_url else url[ours.cut :]
            lines = ours.fresh if question.fresh else ours.usual
        else:
            peer, host, target = ours.connections.peer(url), _host(url), self._target(url)
            lines = self._lines(peer, fresh=question.fresh)
        if question.span is not None:
            first, length = question.span
            lines += b"Range: bytes=%d-%d\r\n" % (first, first + length - 1)
        return peer, conversation.request(question.method, target, host, lines)

    def _open(self) -> "_Ours":
        """The connections of this process; one that was forked off never shares a connection with its parent."""
        with self._lock:
            if self._ours is None or self._ours.process != os.getpid():
                connections = Connections(self._proxy, self._options.certificates, self._names)
                peer = connections.peer(self._base)
                target = self._target(self._base)
                self._ours = _Ours(
                    os.getpid(),
                    connections,
                    peer,
                    usual=self._lines(peer, fresh=False),
                    fresh=self._lines(peer, fresh=True),
                    host=_host(self._base),
                    whole_url=target == self._base,
                    cut=len(self._base) - len(target),
                )
            return self._ours

    def _lines(self, peer: Peer, *, fresh: bool) -> bytes:
        return conversation.header_lines((self._fresh if fresh else self._usual) | peer.headers)

    def _target(self, url: str) -> str:
        """What a request line names."""
        if self._proxy and url.startswith("http://"):
            return url
        parts = urllib.parse.urlsplit(url)
        return url[url.index(parts.netloc) + len(parts.netloc) :] or "/"

    def _check_status(self, answer: Answer, span: tuple[int, int] | None) -> None:
        status = answer.status
        if status == _NOT_FOUND:
            _drain(answer)
            raise MissingObject("404, not there")
        if not 200 <= status < 300:
            _drain(answer)
            reason = f"answers with status {status} {answer.reason}".rstrip()
            raise Unreachable(reason, self._trouble_told(answer))
        encoding = answer.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Unreachable(f"sends encoding {encoding!r} that nobody asked for")
        if span is not None:
            _check_span(answer, span)

    def _trouble_told(self, answer: Answer) -> Trouble:
        """Who is to blame for an error status, as far as it can be told."""
        if self._proxy and (answer.status in _GATEWAY or "x-squid-error" in answer.headers):
            return Trouble.GATEWAY
        return Trouble.STATUS if answer.status >= 500 or answer.status in _SERVERS_OWN else Trouble.ANSWER


class _Question(NamedTuple):
    """What is asked of whatever URL: `fresh` past every cache on the way, `span` for a part as (offset, length)."""

    method: str
    fresh: bool = False
    span: tuple[int, int] | None = None


class _Ours(NamedTuple):
    """The connections of one process, and what every request below the base URL has in common."""

    process: int
    connections: Connections
    peer: Peer
    usual: bytes
    fresh: bytes
    host: str
    whole_url: bool
    cut: int


def encode_place(path: bytes) -> str:
    """An absolute path in a repository as a place below an external URL (FORMAT sections 1.5, 4.6)."""
    return urllib.parse.quote(path.lstrip(b"/"), safe=_NEVER_ENCODED)


def _check_span(answer: Answer, span: tuple[int, int]) -> None:
    """Only the very part that was asked for will do."""
    wanted = f"bytes {span[0]}-{span[0] + span[1] - 1}/"
    got = answer.headers.get("content-range", "")
    if answer.status != _PARTIAL or not got.startswith(wanted):
        raise Unreachable(f"asked for {wanted[:-1]}, answers with status {answer.status} and range {got!r}")


def _body(answer: Answer, length: int | None) -> Iterator[bytes]:
    """The bytes on the wire. They end where they were announced to end, and at `length` where that is known."""
    left = length
    while piece := answer.read(_STEP):
        if left is not None:
            left -= len(piece)
            if left < 0:
                raise Unreachable(f"sends more than the {length} bytes that were asked for")
        yield piece
    if left:
        raise Unreachable(f"ends {left} bytes early")


def _drain(answer: Answer) -> None:
    left = _DRAINED
    while left > 0 and (piece := answer.read(left)):
        left -= len(piece)


def _host(url: str) -> str:
    """What a request says in its Host header: never a password."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def _trouble(error: Exception) -> Trouble:
    if isinstance(error, TimeoutError):
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
