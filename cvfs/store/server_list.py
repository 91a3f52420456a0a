"""Which server is in use, and which ones are known to be down; not thread-safe, it knows no clock and contacts nobody."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple


class ServerState(NamedTuple):
    """One server as the control socket shows it; `rtt`, the measured round trip, in seconds."""

    url: str
    active: bool
    rtt: float | None


class ServerList:
    """Servers in order of preference. The first serves until it fails, then the next one does, the first behind the last."""

    def __init__(self, servers: Sequence[str]) -> None:
        self.generation = 0
        self._down: set[str] = set()
        self._revived: dict[str, int] = {}
        self._rtt: dict[str, float] = {}
        self.set_servers(servers)

    def set_servers(self, servers: Sequence[str]) -> None:
        """Other servers, or another order: begin with the first, whatever was known is forgotten."""
        self._servers = tuple(servers)
        self._active = 0
        self._revive()

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers in order of preference."""
        return self._servers

    @property
    def active(self) -> str:
        """The server in use."""
        return self._servers[self._active]

    @property
    def disturbed(self) -> bool:
        """Whether anything is not as preferred."""
        return bool(self._down) or self._active > 0

    def in_order(self) -> Iterator[str]:
        """The servers that are not known to be down, best first."""
        return (url for url in self._from(self._active) if url not in self._down)

    def left_out(self) -> list[str]:
        """The servers that are known to be down."""
        return [url for url in self._servers if url in self._down]

    def states(self) -> tuple[ServerState, ...]:
        """All servers for the control socket."""
        return tuple(
            ServerState(url, number == self._active, self._rtt.get(url)) for number, url in enumerate(self._servers)
        )

    def set_round_trips(self, seconds: Mapping[str, float]) -> None:
        """Remember measured round trips."""
        self._rtt.update(seconds)

    def fail(self, server: str, generation: int) -> bool:
        """Leave out a server that failed a request begun in `generation`; False if that is no news.

        With all servers failed everything begins anew with the one behind it.
        """
        if server not in self._servers or server in self._down or generation < self._revived.get(server, 0):
            return False
        self._down.add(server)
        if len(self._down) == len(self._servers):
            self._revive()
            self.switch()
        elif server == self.active:
            self._active = self._servers.index(next(self.in_order()))
        self.generation += 1
        return True

    def absolve(self, server: str) -> None:
        """It was something else: the server is up."""
        if server in self._down:
            self._down.discard(server)
            self.generation += 1
            self._revived[server] = self.generation

    def restore(self) -> None:
        """The preferred server again: nothing is down."""
        self._active = 0
        self._revive()

    def switch(self) -> None:
        """The next server, the first behind the last."""
        self._active = (self._active + 1) % len(self._servers)
        self._down.discard(self.active)
        self.generation += 1

    def _from(self, first: int) -> Iterator[str]:
        return (self._servers[(first + step) % len(self._servers)] for step in range(len(self._servers)))

    def _revive(self) -> None:
        """Nothing is down any more. What began before this moment can no longer tell that one is."""
        self.generation += 1
        for server in self._down:
            self._revived[server] = self.generation
        self._down.clear()
