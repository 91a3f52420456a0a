"""The process between client and server: late by half a round trip each way, as fast as the bandwidth, counting what passes.

It changes no byte and knows no cache. What it does not imitate is TCP itself: a window that grows, packets that get lost.

    python -m benchmarks.network.relay HOST PORT --rtt 20 --bandwidth 100

says the port at which it listens. To each line on its standard input it answers with what has passed, as one line of JSON. It
ends with its standard input.
"""

import argparse
import heapq
import json
import os
import selectors
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.network.framing import Exchange, Unframed

_PIECE = 262144
_PIECE_WITH_BANDWIDTH = 16384
_AHEAD = 8 * 2**20
"""Bytes that may be under way in one direction of a connection; then the sender has to wait."""
_MAX_CONNECTIONS = 256
_CONNECT_PATIENCE = 10.0


class Way:
    """One direction of a connection: what was read from `source` and is to be written to `sink`."""

    def __init__(self, source: socket.socket, sink: socket.socket, passed: Callable[[bytes], None]) -> None:
        self.source = source
        self.sink = sink
        self.passed = passed
        self.arrived: deque[memoryview] = deque()
        self.under_way = 0
        self.reading = True
        self.ending = False

    def write(self) -> None:
        """As much as the sink takes now."""
        while self.arrived:
            try:
                sent = self.sink.send(self.arrived[0])
            except BlockingIOError:
                return
            self.under_way -= sent
            if sent == len(self.arrived[0]):
                self.arrived.popleft()
            else:
                self.arrived[0] = self.arrived[0][sent:]
        if self.ending and not self.under_way:
            with suppress(OSError):
                self.sink.shutdown(socket.SHUT_WR)


class Connection:
    """A client's, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket, asked: Callable[[bytes], None]) -> None:
        self.exchange = Exchange(asked)
        self.up = Way(client, server, self.exchange.requests.feed)
        self.down = Way(server, client, self.exchange.answers.feed)

    @property
    def ended(self) -> bool:
        """Nothing comes any more, and all that came was passed on."""
        return not any(way.reading or way.under_way for way in (self.up, self.down))


class Relay:
    """One thread, one loop."""

    def __init__(self, server: tuple[str, int], rtt: float, bandwidth: float) -> None:
        self._server = server
        self._half = rtt / 2
        self._seconds_per_byte = 8 / (bandwidth * 1e6) if bandwidth else 0.0
        self._free = {"up": 0.0, "down": 0.0}
        # poll and epoll count in milliseconds, select in microseconds.
        self._selector = selectors.SelectSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._connections: set[Connection] = set()
        self._watched: set[socket.socket] = set()
        self._closed_bytes = 0
        self._targets: Counter[str] = Counter()
        self._stopping = False

    # --- the loop -----------------------------------------------------------------------------------------------------

    def serve(self, listener: socket.socket) -> None:
        """Until the standard input ends."""
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))
        self._selector.register(sys.stdin, selectors.EVENT_READ, lambda _: self._command())
        while not self._stopping:
            timeout = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, events in self._selector.select(timeout):
                key.data(events)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    def _later(self, moment: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (moment, self._order, action))

    def _command(self) -> None:
        line = os.read(sys.stdin.fileno(), 4096)
        self._stopping = not line
        for _ in line.splitlines():
            print(json.dumps(self._counts()), flush=True)

    def _counts(self) -> dict[str, Any]:
        """Requests, bytes of the bodies that answered them, how often which target was asked for."""
        passed = self._closed_bytes + sum(each.exchange.answers.body_bytes for each in self._connections)
        return {"requests": self._targets.total(), "body_bytes": passed, "targets": self._targets}

    # --- connections --------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            client, _ = listener.accept()
            try:
                self._open(client)
            except OSError:
                client.close()

    def _open(self, client: socket.socket) -> None:
        """The handshake took no time, as everything on this machine: what comes first comes later by a whole round trip."""
        if len(self._connections) >= _MAX_CONNECTIONS:
            raise ConnectionRefusedError
        server = socket.create_connection(self._server, _CONNECT_PATIENCE)
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client, server, self._note)
        self._connections.add(connection)
        self._watch(connection, server)
        if self._half:
            self._later(time.monotonic() + 2 * self._half, lambda: self._watch(connection, client))
        else:
            self._watch(connection, client)

    def _note(self, target: bytes) -> None:
        self._targets[target.decode("latin-1")] += 1

    def _watch(self, connection: Connection, end: socket.socket) -> None:
        if connection in self._connections:
            self._watched.add(end)
            self._attend(connection)

    def _attend(self, connection: Connection) -> None:
        """What each end is waited for: more to read, unless too much is under way; room to write, if there is something."""
        if connection.ended:
            self._close(connection)
            return
        for way, back in ((connection.up, connection.down), (connection.down, connection.up)):
            end = way.source
            if end not in self._watched:
                continue
            wanted = selectors.EVENT_READ if way.reading and way.under_way < _AHEAD else 0
            wanted |= selectors.EVENT_WRITE if back.arrived else 0
            self._want(connection, way, back, wanted)

    def _want(self, connection: Connection, way: Way, back: Way, wanted: int) -> None:
        registered = self._selector.get_map().get(way.source)
        if registered is None and wanted:
            self._selector.register(way.source, wanted, lambda events: self._ready(connection, way, back, events))
        elif registered is not None and not wanted:
            self._selector.unregister(way.source)
        elif registered is not None and registered.events != wanted:
            self._selector.modify(way.source, wanted, registered.data)

    def _ready(self, connection: Connection, way: Way, back: Way, events: int) -> None:
        """`way` comes from the end that is ready, `back` goes there."""
        try:
            if events & selectors.EVENT_WRITE:
                back.write()
            if events & selectors.EVENT_READ:
                self._read(connection, way)
        except (OSError, Unframed) as error:
            self._break(connection, error)
            return
        if way.under_way or not way.reading or events & selectors.EVENT_WRITE:
            self._attend(connection)

    def _read(self, connection: Connection, way: Way) -> None:
        data = way.source.recv(_PIECE_WITH_BANDWIDTH if self._seconds_per_byte else _PIECE)
        if not data:
            way.reading = False
        way.passed(data)
        way.under_way += len(data)
        moment = self._arrival(connection, way, len(data))
        if moment is None:
            self._arrive(way, data)
        else:
            self._later(moment, lambda: self._arrive_late(connection, way, data))

    def _arrival(self, connection: Connection, way: Way, size: int) -> float | None:
        """When these bytes come out at the other end: all connections share the bandwidth of each direction."""
        if not self._half and not self._seconds_per_byte:
            return None
        direction = "up" if way is connection.up else "down"
        passed = max(time.monotonic(), self._free[direction]) + size * self._seconds_per_byte
        self._free[direction] = passed
        return passed + self._half

    def _arrive(self, way: Way, data: bytes) -> None:
        if data:
            way.arrived.append(memoryview(data))
        else:
            way.ending = True
        way.write()

    def _arrive_late(self, connection: Connection, way: Way, data: bytes) -> None:
        if connection not in self._connections:
            return
        try:
            self._arrive(way, data)
        except OSError as error:
            self._break(connection, error)
            return
        self._attend(connection)

    def _break(self, connection: Connection, error: Exception) -> None:
        """A client that goes away is nothing to be told; a stream that cannot be counted is."""
        if isinstance(error, Unframed):
            print(f"relay: {error}", file=sys.stderr)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._closed_bytes += connection.exchange.answers.body_bytes
        for end in (connection.up.source, connection.down.source):
            self._watched.discard(end)
            if end in self._selector.get_map():
                self._selector.unregister(end)
            end.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--rtt", type=float, default=0.0, metavar="MS", help="round trip in milliseconds")
    parser.add_argument("--bandwidth", type=float, default=0.0, metavar="MBIT", help="in Mbit/s, 0: no limit")
    chosen = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0), backlog=_MAX_CONNECTIONS) as listener:
        print(listener.getsockname()[1], flush=True)
        Relay((chosen.host, chosen.port), chosen.rtt / 1000, chosen.bandwidth).serve(listener)


if __name__ == "__main__":
    main()
