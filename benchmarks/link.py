"""The link between a client and its server as this process sees it: a relay, started, asked what has passed, and ended."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.commands import environment
from benchmarks.model import Failed, Link

_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Passed:
    """Since the relay was started: requests, bytes of bodies that answered them, connections made; `targets` by path."""

    requests: int
    body_bytes: int
    connections: int
    targets: Mapping[str, int]


class Relay:
    """A running relay; `port` is where it listens on this machine."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    def passed(self, *, targets: bool = False) -> Passed:
        """What has gone by so far. Raises Failed if the relay does not answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(b"targets\n" if targets else b"counts\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Failed(f"the relay has ended: {error.strerror}") from error
        found: dict[str, Any] = json.loads(_line(self._process))
        return Passed(found["requests"], found["body_bytes"], found["connections"], found.get("targets", {}))


@contextlib.contextmanager
def relayed(server: tuple[str, int], link: Link, work: Path) -> Iterator[Relay]:
    """A relay to the server behind that link, as long as the context lasts. Raises Failed if it does not start."""
    options = ["--rtt", str(link.rtt), "--bandwidth", str(link.bandwidth)]
    words = [sys.executable, "-m", "benchmarks.relay", server[0], str(server[1]), *options]
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


def ended(process: "subprocess.Popen[bytes]", patience: float = _PATIENCE) -> None:
    """See a process off that was asked to end by closing its input, or by a signal of the caller's: by force at last."""
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(patience)
