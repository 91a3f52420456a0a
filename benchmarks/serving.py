"""The web server that published repositories come from: nginx where it is installed, else cvfs's own; it is not measured.

Each site has its own, started when it is first asked for, on a free port of this machine.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from benchmarks.commands import CVFS_SERVER, environment
from benchmarks.link import ended
from benchmarks.model import Failed

_PATIENCE = 20.0
_PAUSE = 0.02
_HOST = "127.0.0.1"
_NGINX = """
{user}
daemon off;
worker_processes 1;
pid {state}/nginx.pid;
error_log {state}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
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
    }}
}}
"""


class Servers:
    """One for each site that was asked for; all of them end with the context."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._ports: dict[Path, int] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ports.clear()
        self._stack.close()

    def address(self, site: Path) -> tuple[str, int]:
        """Where the site's repositories are: below /cvmfs there. Raises Failed if no server can be started."""
        if site not in self._ports:
            self._ports[site] = self._stack.enter_context(_serving(site, self._work))
        return _HOST, self._ports[site]


@contextlib.contextmanager
def _serving(site: Path, work: Path) -> Iterator[int]:
    port = _free_port()
    log = work / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            _words(site, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(work),
            start_new_session=True,
        )
    try:
        _wait_for(process, port, log)
        yield port
    finally:
        process.terminate()
        ended(process)


def _words(site: Path, port: int) -> list[str]:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        return [*CVFS_SERVER, "serve", "--root", str(site), "--port", str(port)]
    state = site / "nginx"
    state.mkdir(exist_ok=True)
    # Workers of root would become another user, who cannot read below a directory that is root's alone.
    user = "user root;" if os.geteuid() == 0 else ""
    text = _NGINX.format(user=user, state=state, host=_HOST, port=port, root=site / "srv")
    (state / "nginx.conf").write_text(text)
    return [nginx, "-p", str(state), "-e", f"{state}/error.log", "-c", str(state / "nginx.conf")]


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), _PAUSE):
            return
        time.sleep(_PAUSE)
    raise Failed(f"no web server could be started: see {log}")
