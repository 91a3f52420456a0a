"""Hostile servers and proxies that are told at run time how to misbehave, a published tree, and mounts in front of them."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from processes import CVFS, ENVIRONMENT, has_ended

from cvfs.chunking import ChunkSizes
from cvfs.client.control import ask, socket_path
from cvfs.format.manifest import parse as parse_manifest
from cvfs.format.signature import sign_manifest, split_signed
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.publication import PublishOptions
from cvfs_server.settings import default_settings
from cvfs_server.site import Site
from cvfs_server.ways.tree import publish_tree as publish

KINDS = ("manifest", "catalog", "object", "chunk")
_BY_SUFFIX = {"C": "catalog", "P": "chunk", "X": "manifest"}
_MOST = 64 * 2**10
# Nobody who is stalled outlives the test that stalled it.
_STALLED = 60.0
_RESET = struct.pack("ii", 1, 0)


def kind_of(path: str) -> str:
    """The class of a request: documents that are signed, and the certificate, count as the manifest."""
    name = path.rpartition("/")[2]
    return "manifest" if name.startswith(".cvmfs") else _BY_SUFFIX.get(name[-1:], "object")


class Head(NamedTuple):
    """The first line and the fields of a message."""

    line: str
    fields: dict[str, str]

    def __bytes__(self) -> bytes:
        return "\r\n".join([self.line, *(f"{name}: {value}" for name, value in self.fields.items()), "", ""]).encode()


def read_head(stream: Any) -> Head | None:
    """None where the peer has nothing more to say."""
    lines = []
    while line := stream.readline(_MOST).decode("latin-1").strip():
        lines.append(line)
    if not lines:
        return None
    fields = (line.partition(":") for line in lines[1:])
    return Head(lines[0], {name.strip().title(): value.strip() for name, _, value in fields})


class Peer:
    """An HTTP server over `root`, or without one a proxy; `misbehave` says how, and for which kinds of requests.

    `asked` counts the requests by path; `used` is when the last one came; `spoiled` counts those that met a fault.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.asked: Counter[str] = Counter()
        self.used = 0.0
        self.spoiled = 0
        self._mode = ""
        self._kinds: frozenset[str] = frozenset()
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._fillers: list[socket.socket] = []
        self._listener: socket.socket | None = None
        # Holds the port while nobody listens on it.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._port.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"

    # --- control ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen as the present mode demands."""
        if self._mode != "dead":
            self._listener = self._listen(0 if self._mode == "unanswered" else 128)
        if self._mode == "unanswered":
            self._fill()
        elif self._listener is not None:
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, break every connection."""
        self._changed.set()
        listener, self._listener = self._listener, None
        for one in [listener] if listener else []:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with self._lock:
            broken = [*self._connections, *self._fillers]
            self._fillers = []
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the port back."""
        self.stop()
        self._port.close()

    def misbehave(self, mode: str, *kinds: str) -> None:
        """From now on. The ways of connecting know no kinds."""
        self._switch(mode, frozenset(kinds or KINDS))

    def behave(self) -> None:
        self._switch("", frozenset())

    def _switch(self, mode: str, kinds: frozenset[str]) -> None:
        again = {mode, self._mode} & _CONNECTING
        if again:
            self.stop()
        self._changed.set()
        self._changed = threading.Event()
        self._mode, self._kinds = mode, kinds
        if again:
            self.start()

    def _listen(self, backlog: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(backlog)
        return listener

    def _fill(self) -> None:
        """So many connections wait to be accepted that the kernel answers no further one."""
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.address)
            self._fillers.append(filler)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if self._mode == "refusing":
                self.spoiled += 1
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    # --- one connection -----------------------------------------------------------------------------------------------

    def _converse(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        try:
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
                while (head := read_head(stream)) and self._answer(connection, head):
                    pass
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _answer(self, connection: socket.socket, request: Head) -> bool:
        """Whether the connection may be used again."""
        target = request.line.split()[1]
        path = urllib.parse.urlsplit(target).path
        self.asked[path] += 1
        self.used = time.monotonic()
        changed, mode = self._changed, self._mode
        if mode and mode not in _CONNECTING and kind_of(path) in self._kinds:
            self.spoiled += 1
            return bool(_FAULTS[mode](_Request(self, connection, request, changed)))
        return self._relay(connection, request) if self.root is None else self._serve(connection, path)

    def body(self, request: Head) -> bytes:
        """What an honest peer would answer: for those that are about to spoil it."""
        target = urllib.parse.urlsplit(request.line.split()[1])
        if self.root is not None:
            return self._file(target.path) or b""
        with socket.create_connection((target.hostname, target.port), 10) as origin, origin.makefile("rb") as stream:
            origin.sendall(_forwarded(request, keep="close"))
            read_head(stream)
            return bytes(stream.read())

    def _file(self, path: str) -> bytes | None:
        try:
            return (self.root / urllib.parse.unquote(path).lstrip("/")).read_bytes()
        except OSError:
            return None

    def _serve(self, connection: socket.socket, path: str) -> bool:
        body = self._file(path)
        if body is None:
            return respond(connection, "404 Not Found", b"not there")
        return respond(connection, "200 OK", body)

    def _relay(self, connection: socket.socket, request: Head) -> bool:
        """Pass on what comes as it comes; a connection to the server that breaks breaks this one."""
        target = urllib.parse.urlsplit(request.line.split()[1])
        try:
            origin = socket.create_connection((target.hostname, target.port), _STALLED)
        except OSError:
            return respond(connection, "503 Service Unavailable", b"", {"X-Squid-Error": "ERR_CONNECT_FAIL 111"})
        with self._lock:
            self._connections.add(origin)
        try:
            with origin, origin.makefile("rb") as stream:
                origin.sendall(_forwarded(request, keep="close"))
                return _pass_on(stream, connection)
        finally:
            with self._lock:
                self._connections.discard(origin)


def _forwarded(request: Head, keep: str) -> bytes:
    method, target, version = request.line.split()
    parts = urllib.parse.urlsplit(target)
    fields = request.fields | {"Host": parts.netloc, "Connection": keep, "Via": "1.1 hostile"}
    return bytes(Head(f"{method} {parts.path} {version}", fields))


def _pass_on(stream: Any, connection: socket.socket) -> bool:
    head = read_head(stream)
    if head is None:
        return respond(connection, "502 Bad Gateway", b"", {"X-Squid-Error": "ERR_ZERO_SIZE_OBJECT 0"})
    length = head.fields.get("Content-Length")
    head.fields["Connection"] = "keep-alive" if length else "close"
    connection.sendall(bytes(head))
    left = int(length) if length else sys.maxsize
    while left and (piece := stream.read1(min(left, _MOST))):
        connection.sendall(piece)
        left -= len(piece)
    return left == 0


def respond(connection: socket.socket, status: str, body: bytes, fields: dict[str, str] | None = None) -> bool:
    """A whole answer; the connection goes on."""
    head = Head(f"HTTP/1.1 {status}", {"Content-Length": str(len(body)), "Connection": "keep-alive", **(fields or {})})
    connection.sendall(bytes(head) + body)
    return True


# --- faults -----------------------------------------------------------------------------------------------------------


class _Request(NamedTuple):
    """A request that gets what nobody wants; `changed` ends what would last for ever."""

    peer: Peer
    connection: socket.socket
    head: Head
    changed: threading.Event

    @property
    def body(self) -> bytes:
        return self.peer.body(self.head)


def _silent(request: _Request) -> bool:
    request.changed.wait(_STALLED)
    return False


def _slow(request: _Request) -> bool:
    """Far below any limit, and never done."""
    body = request.body
    request.connection.sendall(bytes(Head("HTTP/1.1 200 OK", {"Content-Length": str(len(body) + 1000)})))
    for place in range(int(_STALLED * 5)):
        request.connection.sendall(body[place : place + 1] or b"?")
        if request.changed.wait(0.2):
            break
    return False


def _truncating(request: _Request) -> bool:
    body = request.body
    request.connection.sendall(bytes(Head("HTTP/1.1 200 OK", {"Content-Length": str(len(body))})))
    request.connection.sendall(body[: len(body) // 2])
    return False


def _corrupting(request: _Request) -> bool:
    body = bytearray(request.body)
    body[len(body) // 2] ^= 1
    return respond(request.connection, "200 OK", bytes(body))


def _longer(request: _Request) -> bool:
    """Announces more than ever comes, and waits."""
    body = request.body
    request.connection.sendall(bytes(Head("HTTP/1.1 200 OK", {"Content-Length": str(len(body) + 100)})) + body)
    return _silent(request)


def _shorter(request: _Request) -> bool:
    """What is left of the body stands where the next answer should."""
    body = request.body
    announced = Head("HTTP/1.1 200 OK", {"Content-Length": str(max(0, len(body) - 10))})
    request.connection.sendall(bytes(announced) + body)
    return True


def _endless(request: _Request) -> bool:
    request.connection.sendall(bytes(Head("HTTP/1.1 200 OK", {"Connection": "close"})) + request.body)
    while not request.changed.wait(0.002):
        request.connection.sendall(bytes(_MOST))
    return False


def _redirecting(request: _Request) -> bool:
    target = request.head.line.split()[1]
    return respond(request.connection, "302 Found", b"", {"Location": target})


def _failing(status: str) -> Callable[[_Request], bool]:
    return lambda request: respond(request.connection, status, b"no")


_CONNECTING = {"dead", "refusing", "unanswered"}
_FAULTS: dict[str, Callable[[_Request], bool]] = {
    "silent": _silent,
    "slow": _slow,
    "truncating": _truncating,
    "corrupting": _corrupting,
    "longer": _longer,
    "shorter": _shorter,
    "endless": _endless,
    "redirecting": _redirecting,
    "403": _failing("403 Forbidden"),
    "404": _failing("404 Not Found"),
    "410": _failing("410 Gone"),
    "500": _failing("500 Internal Server Error"),
    "502": _failing("502 Bad Gateway"),
    "503": _failing("503 Service Unavailable"),
}


@pytest.fixture(scope="session")
def faults() -> tuple[str, ...]:
    """All ways to misbehave."""
    return (*sorted(_CONNECTING), *_FAULTS)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Starts servers over a directory, and proxies."""
    with contextlib.ExitStack() as running:

        def start(root: Path | None = None) -> Peer:
            one = Peer(root)
            running.callback(one.close)
            one.start()
            return one

        yield start


# --- a repository -----------------------------------------------------------------------------------------------------

_COUNT = 40


@dataclass(frozen=True)
class Tree:
    """A published repository: `objects/N`, `chunked/N` of three or so chunks, nested catalogs `nested/N`; `warm`.

    There are two root catalogs, which take turns: those of odd revisions have a file `marker/1`, the others `marker/0`.
    """

    site: Site
    fqrn: str
    storage: Path
    roots: tuple[Any, ...]

    @property
    def public_key(self) -> Path:
        return Path(self.site.key(self.fqrn, "pub"))

    def content(self, name: str) -> bytes:
        """What every file holds."""
        return content_of(name)

    def marker(self, revision: int) -> str:
        """The file that only this revision, and every second one, has."""
        return f"marker/{revision % 2}"

    def copy(self, place: Path) -> "Release":
        """The same objects with a manifest of its own."""
        storage = place / "cvmfs" / self.fqrn
        storage.mkdir(parents=True)
        for path in self.storage.iterdir():
            if path.name.startswith(".cvmfs") and path.is_file():
                shutil.copy(path, storage)
        (storage / "data").symlink_to(self.storage / "data")
        return Release(self, place, storage / ".cvmfspublished")


@dataclass(frozen=True)
class Release:
    """What one pair of servers shows; `root` is the directory to serve."""

    tree: Tree
    root: Path
    document: Path

    def publish(self) -> tuple[int, str]:
        """Sign the next revision, with the other root catalog; returns its number and that catalog's hash."""
        manifest = parse_manifest(split_signed(self.document.read_bytes()).payload)
        number = manifest.revision + 1
        root, size = self.tree.roots[number % 2]
        key = load_pem_private_key(Path(self.tree.site.key(self.tree.fqrn, "key")).read_bytes(), None)
        later = {"revision": number, "timestamp": manifest.timestamp + 1, "root_catalog": root, "root_size": size}
        signed = sign_manifest(dataclasses.replace(manifest, **later).serialise(), root.algorithm, key)
        temporary = self.document.with_suffix(".new")
        temporary.write_bytes(signed)
        temporary.replace(self.document)
        return number, str(root)


@functools.cache
def content_of(name: str) -> bytes:
    size = 60_000 if name.startswith(("chunked", "warm")) else 3000
    return Random(name).randbytes(size)


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Tree:
    """Made once per test process; nobody changes it."""
    place = tmp_path_factory.mktemp("faults")
    site, fqrn = Site(str(place / "site")), "faults.example.org"
    settings = dataclasses.replace(default_settings(site, fqrn), chunk_sizes=ChunkSizes(8192, 16384, 32768))
    source = place / "tree"
    names = [f"{kind}/{n}" for kind in ("objects", "chunked") for n in range(_COUNT)]
    for name in [*names, *(f"nested/{n}/file" for n in range(_COUNT)), "warm"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content_of(name))
        if name.startswith("nested"):
            (source / name).with_name(".cvmfscatalog").touch()
    mkfs(site, settings)
    roots = [_published(site, fqrn, source, marker) for marker in "01"]
    return Tree(site, fqrn, Path(settings.storage), tuple(roots))


def _published(site: Site, fqrn: str, source: Path, marker: str) -> tuple[Any, int]:
    """A root catalog and its size."""
    shutil.rmtree(source / "marker", ignore_errors=True)
    (source / "marker").mkdir()
    (source / "marker" / marker).touch()
    publish(site, fqrn, os.fsencode(source), PublishOptions(workers=1))
    manifest = parse_manifest(split_signed((Path(site.storage(fqrn)) / ".cvmfspublished").read_bytes()).payload)
    assert str(manifest.revision % 2) == marker
    return manifest.root_catalog, manifest.root_size


class Published:
    """A repository of its own, published from `source`; `root` is the directory to serve."""

    def __init__(self, place: Path, fqrn: str = "bulk.example.org", **settings: Any) -> None:
        self.fqrn = fqrn
        self.source = place / "source"
        self.site = Site(str(place))
        self.root = place / "srv"
        self.public_key = Path(self.site.key(fqrn, "pub"))
        self.storage = Path(self.site.storage(fqrn))
        self.source.mkdir(parents=True)
        mkfs(self.site, dataclasses.replace(default_settings(self.site, fqrn), **settings))

    def fill(self, count: int, size: int, directories: int = 20) -> dict[str, bytes]:
        """Files at random, the same each time; what they hold, by path."""
        random, files = Random(count), {}
        for number in range(directories):
            (self.source / f"d{number}").mkdir()
        for number in range(count):
            files[f"d{number % directories}/f{number}"] = content = random.randbytes(size)
            (self.source / f"d{number % directories}/f{number}").write_bytes(content)
        self.publish()
        return files

    def publish(self) -> str:
        """The source as it is now; returns the hash of the root catalog."""
        publish(self.site, self.fqrn, os.fsencode(self.source), PublishOptions(workers=1))
        return str(parse_manifest(split_signed((self.storage / ".cvmfspublished").read_bytes()).payload).root_catalog)


@pytest.fixture
def published(tmp_path) -> Callable[..., Published]:
    """Makes repositories."""
    return lambda name="bulk", **settings: Published(tmp_path / name, **settings)


_READ_ALL = """
import concurrent.futures, hashlib, json, os, sys
threads, top, paths = json.load(sys.stdin)
def read(path):
    try:
        with open(top + "/" + path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return path, hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        return path, error.strerror
with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    json.dump(list(pool.map(read, paths)), sys.stdout)
"""


class Readers:
    """Threads of another process that read files, past what the kernel keeps, and tell their SHA-256, or their error."""

    def __init__(self, top: Path, paths: list[str], threads: int = 1) -> None:
        command = [sys.executable, "-c", _READ_ALL]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin
        self.process.stdin.write(json.dumps([threads, str(top), paths]))
        self.process.stdin.close()

    def digests(self, timeout: float = 100) -> list[tuple[str, str]]:
        """By path, in the order they were asked for."""
        self.process.stdin = None
        text = self.process.communicate(timeout=timeout)[0]
        return [(path, digest) for path, digest in json.loads(text)]


@pytest.fixture
def readers() -> Iterator[Callable[..., Readers]]:
    """Starts readers; those that are left are killed."""
    started: list[Readers] = []

    def start(top: Path, paths: list[str], threads: int = 1) -> Readers:
        started.append(Readers(top, paths, threads))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(30)


# --- mounts -----------------------------------------------------------------------------------------------------------


class Mounted:
    """`cvfs mount` in front of some servers and proxies, in a directory of its own."""

    def __init__(self, directory: Path, fqrn: str, public_key: Path) -> None:
        self.fqrn = fqrn
        self.directory = directory
        self.mountpoint = directory / "mnt"
        self.cache = directory / "cache"
        self._key = public_key
        self.pid = 0
        self.mountpoint.mkdir(parents=True)

    def mount(self, servers: list[Peer], proxies: str = "DIRECT", **parameters: Any) -> None:
        """Whatever the parameters are, time-outs are a second."""
        given = {"CVMFS_TIMEOUT": 1, "CVMFS_TIMEOUT_DIRECT": 1, "CVFS_TRUST_STATE_DIR": self.directory / "trust"}
        given |= {"CVMFS_HTTP_PROXY": proxies} | parameters
        url = ";".join(f"{server.url}/cvmfs/{self.fqrn}" for server in servers)
        options = [word for name, value in given.items() for word in ("-o", f"{name}={value}")]
        command = [*CVFS, "mount", url, self.mountpoint, "-k", self._key, "-c", self.cache, *options]
        command += ["--log", self.directory / "log"]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=90, env=ENVIRONMENT, cwd=self.directory
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        self.pid = int(os.getxattr(self.mountpoint, "user.pid"))

    def path(self, name: str) -> Path:
        return self.mountpoint / name

    def talk(self, command: str) -> str:
        """What the control socket says."""
        return ask(socket_path(str(self.cache), self.fqrn), command)

    @property
    def root_hash(self) -> str:
        """Of the catalog that is shown."""
        return os.getxattr(self.mountpoint, "user.root_hash").decode()

    def resident(self) -> int:
        """Bytes of memory that the process occupies."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def unmount(self) -> None:
        """Take it away and wait for the end of its process."""
        subprocess.run(["umount", "-l", self.mountpoint], capture_output=True)
        if self.pid and not has_ended(self.pid, 30):
            found = self._why_it_lives()
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"the client did not end within 30 s of its unmounting\n{found}")
        self.pid = 0

    def _why_it_lives(self) -> str:
        """The stacks of its threads, its log, and who else sees the mount: a copy in another namespace keeps it."""
        os.kill(self.pid, signal.SIGUSR2)
        has_ended(self.pid, 3)
        names = [self.cache / f"stacktrace.{self.fqrn}", self.directory / "log"]
        texts = [name.read_text(errors="replace")[-8000:] for name in names if name.exists()]
        tables = [path for path in Path("/proc").glob("[0-9]*/mounts") if str(self.mountpoint) in _text(path)]
        return "\n".join([*texts, f"mounted for: {tables}"])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[..., Mounted]]:
    """Makes mounts of a tree that end with the test."""
    made: list[Mounted] = []

    def make(tree: Any, name: str = "client") -> Mounted:
        made.append(Mounted(tmp_path / name, tree.fqrn, Path(tree.public_key)))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(AssertionError):
            one.unmount()
