"""A small HTTP/1.1 server for published repositories, for trying out, tests and small sites; it never writes a file.

It answers GET and HEAD below /cvmfs with the types and ages of FORMAT section 1.5. For many clients there are nginx and
Apache in front of the same directory, see server/deploy.
"""

import contextlib
import http
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Collection
from typing import Self

from cvfs.errors import UsageError
from cvfs_server.site import Site
from cvfs_server.web.conversation import Conversation, Limits, response_head
from cvfs_server.web.files import WebFiles

_log = logging.getLogger(__name__)
_CLOSE_PATIENCE = 5.0
_LIMITS = Limits()


def serve(
    site: Site,
    host: str = "127.0.0.1",
    port: int = 0,
    repositories: Collection[str] | None = None,
    limits: Limits = _LIMITS,
) -> "WebServer":
    """Start serving the site's repositories, or of these the named ones, in threads of this process.

    Port 0 takes any free one. Raises UsageError if the address cannot be listened on.
    """
    listener = _listen(host, port)
    server = WebServer(listener, WebFiles(os.path.abspath(site.web_root), repositories), limits)
    server.start()
    return server


class WebServer:
    """A running server; leaving its context closes it."""

    def __init__(self, listener: socket.socket, files: WebFiles, limits: Limits) -> None:
        self._listener = listener
        self._files = files
        self._limits = limits
        self._address = listener.getsockname()
        self._acceptor = threading.Thread(target=self._accept, name="web acceptor", daemon=True)
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0

    @property
    def url(self) -> str:
        """What stands before `/<fqrn>` for clients of this machine: http://127.0.0.1:8000/cvmfs."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._address[0], self._address[0])  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self._address[1]}/cvmfs"

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return self._requests

    @property
    def bytes(self) -> int:
        """How many bytes of bodies were sent."""
        return self._bytes

    def start(self) -> None:
        """Accept connections from now on."""
        self._acceptor.start()

    def serve_forever(self) -> None:
        """Wait until `close`, or for an interrupt."""
        self._acceptor.join()

    def close(self) -> None:
        """Stop listening and cut all connections. Does no harm twice."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_CLOSE_PATIENCE)
        self._listener.close()
        deadline = time.monotonic() + _CLOSE_PATIENCE
        for thread in self._cut():
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self) -> list[threading.Thread]:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            return list(self._connections.values())

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._closing.is_set():
                    # Most likely there are no descriptors left: connections that end give some back.
                    _log.warning("cannot accept a connection: %s", error.strerror)
                    self._closing.wait(0.1)
                continue
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections:
            _refuse(connection)
            return
        thread = threading.Thread(target=self._converse, args=(connection,), name="web connection", daemon=True)
        with self._lock:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads for us
            self._forget(connection)
            _refuse(connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            del self._connections[connection]

    def _converse(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Conversation(connection, self._files, self._limits, self._count).run()
        except TimeoutError as error:
            # Reset: what the client does not read would stay in the kernel's memory for minutes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            _log.debug("connection is reset: %s", error)
        except OSError as error:
            _log.debug("connection ends: %s", error)
        except Exception:
            _log.exception("connection ends by a defect of the server")
        finally:
            self._forget(connection)
            connection.close()

    def _count(self, sent: int) -> None:
        with self._lock:
            self._requests += 1
            self._bytes += sent


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port}: {why}; choose another address or port") from error


def _refuse(connection: socket.socket) -> None:
    """One connection too many: it is told so, in one write that never waits, and cut."""
    _log.warning("too many connections: one is refused")
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(response_head(http.HTTPStatus.SERVICE_UNAVAILABLE, ["Content-Length: 0"], keep_alive=False))
