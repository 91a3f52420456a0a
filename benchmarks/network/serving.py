"""The web server that a published repository comes from, one for each place that is measured; it is not what is measured.

It is nginx where that is installed, which counts what it gives in a log, else cvfs's own, which takes twice the time.
"""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import CVFS_SERVER, environment
from benchmarks.measuring.processes import ended
from benchmarks.model import Failed

HOST = "127.0.0.1"
_PATIENCE = 20.0
_PAUSE = 0.02
_LOG = "access.log"
_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {state}/nginx.pid;
error_log {state}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format counted '$request_uri $body_bytes_sent';
    access_log {state}/{log} counted;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    keepalive_timeout 600;
    default_type application/octet-stream;
    client_body_temp_path {state}/body;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    server {{
        listen {host}:{port};
        location /cvmfs/ {{ root {root}; }}
        location /counted/ {{ return 204; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Passed:
    """What a client was given so far: requests, bytes of the bodies that answered them, how often which path was asked for."""

    requests: int
    body_bytes: int
    targets: Mapping[str, int]


class Server:
    """Cvfs's own, which counts nothing."""

    counts = False

    def __init__(self, port: int) -> None:
        self.port = port

    def passed(self) -> Passed:
        """Raises Failed: nobody counts."""
        raise Failed("this server does not count what it gives")


class CountingServer(Server):
    """Nginx. Its one process logs each request when it is done with it, before it looks at the next."""

    counts = True

    def __init__(self, port: int, log: Path) -> None:
        super().__init__(port)
        self._log = log
        self._read = self._asked = self._bytes = 0
        self._targets: Counter[str] = Counter()

    def passed(self) -> Passed:
        """All that was given until now. Raises Failed if the server has ended."""
        self._asked += 1
        token, deadline = f"/counted/{self._asked}", time.monotonic() + _PATIENCE
        _ask(self.port, token)
        while not self._read_until(token):
            if time.monotonic() > deadline:
                raise Failed(f"{self._log}: the web server logs nothing")
            time.sleep(_PAUSE)
        return Passed(self._targets.total(), self._bytes, dict(self._targets))

    def _read_until(self, token: str) -> bool:
        """The lines that are new, but for our own requests; whether the one with that path was among them."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            target, _, size = line.decode("latin-1").strip().rpartition(" ")
            if target == token:
                return True
            self._targets[target] += 1
            self._bytes += int(size)
        return False


def _ask(port: int, target: str) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE)
    try:
        connection.request("GET", target)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"the web server does not answer: {error}") from error
    finally:
        connection.close()


@contextlib.contextmanager
def served(site: Path, state: Path, work: Path) -> Iterator[Server]:
    """The repositories of a site below /cvmfs, on a port of this machine. `state` is where the server puts what is its own.

    Raises Failed if no server can be started.
    """
    state.mkdir(parents=True, exist_ok=True)
    (state / _LOG).unlink(missing_ok=True)
    port, program = _free_port(), nginx()
    words = _nginx_words(program, site, state, port) if program else _own_words(site, port)
    with (state / "output.log").open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(work),
            start_new_session=True,
        )
    try:
        _wait_for(process, port, state)
        yield CountingServer(port, state / _LOG) if program else Server(port)
    finally:
        process.terminate()
        ended(process)


def nginx() -> str | None:
    """The program, which is where ordinary users have no path, None if it is not installed."""
    places = ("nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx")
    return next(filter(None, map(shutil.which, places)), None)


def _own_words(site: Path, port: int) -> list[str]:
    return [*CVFS_SERVER, "serve", "--root", str(site), "--port", str(port)]


def _nginx_words(program: str, site: Path, state: Path, port: int) -> list[str]:
    # Workers of root would become another user, who cannot read below a directory that is root's alone.
    user = "user root;" if os.geteuid() == 0 else ""
    text = _NGINX.format(user=user, state=state, log=_LOG, host=HOST, port=port, root=site / "srv")
    (state / "nginx.conf").write_text(text)
    return [program, "-p", str(state), "-e", f"{state}/error.log", "-c", str(state / "nginx.conf")]


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(process: "subprocess.Popen[bytes]", port: int, state: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), _PAUSE):
            return
        time.sleep(_PAUSE)
    raise Failed(f"no web server could be started: see {state}")
