"""A real S3 server for tests, and a relay in front of it that is told at run time how to misbehave.

Test files import the fixtures by name.
"""

import contextlib
import functools
import hashlib
import http.client
import http.server
import importlib.util
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
_PUBLIC = "/v1/AUTH_test"
_names = itertools.count(1)


@dataclass(frozen=True)
class ObjectServer:
    """OpenStack Swift, which speaks S3, on a port of this machine."""

    port: int

    @property
    def bucket(self) -> str:
        """One for all tests of this process: making one takes long, a name before the keys keeps them apart."""
        return f"bucket-{os.getpid()}"

    def new_name(self) -> str:
        """A repository that no other test has."""
        return f"s{next(_names)}.example.org"

    def configuration(self, place: Path, **parameters: object) -> Path:
        """An S3 configuration file, with parameters of one's own by their names after CVMFS_S3_."""
        values = {
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "BUCKET": self.bucket,
            "ACCESS_KEY": ACCESS_KEY,
            "SECRET_KEY": SECRET_KEY,
            "DNS_BUCKETS": "false",
            "MAX_NUMBER_OF_PARALLEL_CONNECTIONS": 8,
            **parameters,
        }
        place.write_text("".join(f"CVMFS_S3_{name}={value}\n" for name, value in values.items()))
        return place

    @property
    def public_url(self) -> str:
        """Where everybody reads the bucket, once it is public."""
        return f"http://127.0.0.1:{self.port}{_PUBLIC}/{self.bucket}"


@pytest.fixture(scope="session")
def object_server(tmp_path_factory) -> Iterator[ObjectServer]:
    """The server, one for each test process; it dies with it."""
    missing = [name for name in ("boto3", "swift") if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"tests of S3 must run here, but {', '.join(missing)} cannot be imported", pytrace=False)
    if missing:
        pytest.skip(f"{', '.join(missing)} cannot be imported; the extra [dev] installs it")
    directory = tmp_path_factory.mktemp("swift")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("swift_server.py")), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=(directory / "log").open("wb")) as process:
        try:
            line = process.stdout.readline()
            assert line, (directory / "log").read_text()
            yield ObjectServer(int(line))
        finally:
            process.kill()


class Request(NamedTuple):
    """What came to the relay; `number` counts those of this method and kind, from 1."""

    method: str
    path: str
    number: int

    @property
    def is_object(self) -> bool:
        return "/data/" in self.path

    @property
    def is_manifest(self) -> bool:
        return self.path.endswith("/.cvmfspublished")


class Relay:
    """Passes requests on to a server, but for those for which `fault` gives the name of a fault.

    `slow` passes on late, `hang` never answers, `cut` breaks off in the middle of the answer, `reset` closes at once,
    `lost` passes on and closes instead of giving the answer, `lie` acknowledges what it drops, `503` refuses.
    `seen` are all requests, `spoiled` those that met a fault.
    """

    def __init__(self, server: ObjectServer) -> None:
        self.server = server
        self.port = 0
        self.fault: Callable[[Request], str] = lambda _request: ""
        self.seen: list[Request] = []
        self.spoiled: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def judge(self, method: str, path: str) -> str:
        """Which fault befalls a request."""
        with self._lock:
            request = Request(method, path.partition("?")[0], 0)
            alike = [one for one in self.seen if (one.method, one.is_object) == (method, request.is_object)]
            request = request._replace(number=len(alike) + 1)
            self.seen.append(request)
            name = self.fault(request)
            if name:
                self.spoiled.append(request)
            return name

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.seen)

    def only(self, fault: str, method: str, *, objects: bool = True, first: int = 1, times: int = 10**9) -> None:
        """The fault befalls requests of a method for objects, or for the manifest, from the `first` one on."""
        met = itertools.count(1)

        def choose(request: Request) -> str:
            wanted = request.is_object if objects else request.is_manifest
            if request.method != method or not wanted:
                return ""
            return fault if first <= next(met) < first + times else ""

        self.fault = choose

    def behave(self) -> None:
        self.fault = lambda _request: ""


@pytest.fixture
def relay(object_server) -> Iterator[Relay]:
    """A relay in front of the server, which behaves until it is told otherwise."""
    made = Relay(object_server)
    handler = functools.partial(_Handler, made)
    with _Listener(("127.0.0.1", 0), handler) as listener:
        made.port = listener.server_port
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield made
        finally:
            made.closing.set()
            listener.shutdown()


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, relay: Relay, *arguments: Any) -> None:
        self._relay = relay
        super().__init__(*arguments)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self._relay.judge(self.command, self.path)
        if fault == "hang":
            self._relay.closing.wait(60)
        if fault in ("hang", "reset"):
            self.close_connection = True
            return
        if fault == "slow":
            self._relay.closing.wait(0.2)
        if fault == "503":
            slow_down = b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"
            self._answer(503, {"Content-Type": "application/xml"}, slow_down)
        elif fault == "lie":
            self._answer(200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b"")
        else:
            self._forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def _forward(self, body: bytes, fault: str) -> None:
        onward = http.client.HTTPConnection("127.0.0.1", self._relay.server.port, timeout=60)
        with contextlib.closing(onward):
            # The name of the server is signed.
            onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    onward.putheader(name, value)
            onward.endheaders(body)
            answer = onward.getresponse()
            content = answer.read()
        if fault == "lost":
            self.close_connection = True
            return
        self._answer(answer.status, dict(answer.getheaders()), content, cut=fault == "cut")

    def _answer(self, status: int, fields: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in fields.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = next((value for name, value in fields.items() if name.lower() == "content-length"), str(len(content)))
        self.send_header("Content-Length", length)
        self.end_headers()
        if cut:
            content, self.close_connection = content[: len(content) // 2], True
        if self.command != "HEAD":
            self.wfile.write(content)
