"""A web server that does what it is told, down to single bytes, and objects to serve from it."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from cvfs.compression import ENCODERS, Compression
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import Wanted
from cvfs.store.failover import Failover
from cvfs.store.patience import Timeouts
from cvfs.store.proxies import parse_chain
from cvfs.store.routes import Route, RoutePolicy, Routes


@dataclass
class Request:
    """What the client sent, and the line to answer on."""

    method: str
    path: str
    headers: dict[str, str]
    connection: socket.socket
    closing: threading.Event = field(repr=False)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, status: str, body: bytes = b"", *headers: str, length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + (b"" if self.method == "HEAD" else body))

    def serve(self, files: dict[str, bytes]) -> None:
        """What an honest server does."""
        body = files.get(self.path)
        if body is None:
            return self.answer("404 Not Found", b"<html>no such file</html>")
        if "range" not in self.headers:
            return self.answer("200 OK", body)
        first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
        return self.answer(
            "206 Partial Content", body[first : last + 1], f"Content-Range: bytes {first}-{last}/{len(body)}"
        )


@dataclass
class Server:
    """A running server: its address, and every request it has seen."""

    url: str
    requests: list[Request]
    connections: list[socket.socket]


Behaviour = Callable[[Request], bool | None]


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Server]]:
    """Starts a server whose `behaviour` answers each request; it closes the connection by returning False."""
    with contextlib.ExitStack() as running:
        yield lambda behaviour: running.enter_context(_running(behaviour))


@contextlib.contextmanager
def _running(behaviour: Behaviour) -> Iterator[Server]:
    closing = threading.Event()
    seen: list[Request] = []
    connections: list[socket.socket] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            connections.append(self.connection)
            with contextlib.suppress(OSError):
                while (request := self._read()) is not None:
                    seen.append(request)
                    if behaviour(request) is False:
                        return

        def _read(self) -> Request | None:
            line = self.rfile.readline().decode()
            if not line:
                return None
            headers = {}
            while (header := self.rfile.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            method, path, _ = line.split(" ", 2)
            return Request(method, path, headers, self.connection, closing)

    class Threading(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True
        request_queue_size = 128

    with Threading(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield Server(f"http://127.0.0.1:{server.server_address[1]}", seen, connections)
        finally:
            closing.set()
            server.shutdown()
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address of this machine where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def stored() -> Callable[..., tuple[Wanted, bytes]]:
    """Makes an object: what to ask for, and the bytes a store has of it."""

    def make(content: bytes, encoder: str = "zlib", algorithm: Algorithm = Algorithm.SHA1) -> tuple[Wanted, bytes]:
        data = ENCODERS[encoder].encode(content)
        code: Compression = ENCODERS[encoder].code
        return Wanted(ContentHash.of(data, algorithm), code, len(content)), data

    return make


class Clock:
    """A clock that only moves when somebody waits on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """A clock that only moves when somebody waits on it."""
    return Clock()


@pytest.fixture
def over(clock) -> Callable[..., Failover]:
    """Makes a fail-over over stores, each the way to a server of its own, named by its number: http://0, http://1 …

    With `proxies` the stores are given by a dictionary from "server proxy", where "http://a:1" is "a".
    """

    def make(stores, proxies: str = "", **policy) -> Failover:
        names = list(dict.fromkeys(key.split()[0] for key in stores)) if proxies else range(len(stores))
        routes = Routes(
            [f"http://{name}" for name in names],
            parse_chain(proxies),
            RoutePolicy(Timeouts(proxied=5, direct=10), **policy),
            clock=clock,
            wall=clock,
            random=Random(1),
        )

        def way(route: Route):
            server = route.server.removeprefix("http://")
            if not proxies:
                return stores[int(server)]
            return stores[f"{server} {route.proxy.removeprefix('http://').partition(':')[0]}"]

        failover = Failover(routes, way, sleep=clock.sleep)
        failover.routes = routes
        return failover

    return make
