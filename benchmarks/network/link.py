"""The link between a client and its server as this process sees it: a relay, started, asked what has passed, and ended."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measuring.commands import environment
from benchmarks.measuring.processes import ended
from benchmarks.model import Failed, Link
from benchmarks.network.serving import HOST, Passed, served

_PATIENCE = 20.0


class Relay:
    """A running relay; `port` is where it listens on this machine."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    def passed(self) -> Passed:
        """What has gone by so far. Raises Failed if the relay does not answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Failed(f"the relay has ended: {error.strerror}") from error
        found: dict[str, Any] = json.loads(_line(self._process))
        return Passed(found["requests"], found["body_bytes"], found["targets"])


class Connected(Protocol):
    """The end of a link that a client is given: what answers on this machine's `port`, and counts."""

    @property
    def port(self) -> int:
        """Where to ask."""

    def passed(self) -> Passed:
        """What the client was given so far. Raises Failed."""


@contextlib.contextmanager
def connected(site: Path, link: Link, state: Path, work: Path) -> Iterator[Connected]:
    """A server for the site, behind that link. Without any delay there is no relay, which takes its own 65 µs for a request,
    unless nobody else would count. Raises Failed."""
    with served(site, state, work) as server:
        if link == Link() and server.counts:
            yield server
        else:
            with relayed(server.port, link, work) as relay:
                yield relay


@contextlib.contextmanager
def relayed(port: int, link: Link, work: Path) -> Iterator[Relay]:
    """A relay to the server behind that link, as long as the context lasts. Raises Failed if it does not start."""
    options = ["--rtt", str(link.rtt), "--bandwidth", str(link.bandwidth)]
    words = [sys.executable, "-m", "benchmarks.network.relay", HOST, str(port), *options]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(work),
        start_new_session=True,
    )
    try:
        yield Relay(process, int(_line(process)))
    finally:
        ended(process)


def _line(process: "subprocess.Popen[bytes]") -> bytes:
    """A process that hangs is killed: then its stream ends."""
    timer = threading.Timer(_PATIENCE, process.kill)
    timer.start()
    try:
        assert process.stdout
        line = process.stdout.readline()
    finally:
        timer.cancel()
    if not line:
        raise Failed("the relay ended without an answer")
    return line
