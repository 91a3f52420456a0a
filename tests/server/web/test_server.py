"""The embedded web server over real sockets: what is shown and what never is, connections, limits, closing."""

import contextlib
import http.client
import itertools
import json
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from cvfs.client.repository import Repository
from cvfs.errors import UsageError
from cvfs_server.site import Site
from cvfs_server.web.conversation import Limits
from cvfs_server.web.server import WebServer, serve

FQRN = "sw.example.org"
LARGE = 300_000
LARGE_CONTENT = random.Random(1).randbytes(LARGE)
THREE_DAYS = "max-age=259200"
A_MINUTE = "max-age=61"
OBJECT = "application/x-cvmfs"
JSON = "application/json"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """A client that keeps its connection and speaks in bytes."""

    def __init__(self, server: WebServer) -> None:
        host, port = server.url.removeprefix("http://").removesuffix("/cvmfs").rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=20)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, target: str, method: str = "GET", *headers: str, version: str = "HTTP/1.1") -> None:
        self.send("\r\n".join([f"{method} {target} {version}", *headers, "", ""]).encode("latin-1"))

    def answer(self, method: str = "GET") -> Answer:
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        body = response.read()
        return Answer(response.status, response.headers, body)

    def get(self, target: str, method: str = "GET", *headers: str) -> Answer:
        self.ask(target, method, *headers)
        return self.answer(method)

    def is_cut(self) -> bool:
        """Waits for the end of the connection; false if the server says something instead."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


@pytest.fixture
def site(tmp_path) -> Site:
    """A site with one repository made of files that show where they are from."""
    storage = tmp_path / f"srv/cvmfs/{FQRN}"
    (storage / "data/aa").mkdir(parents=True)
    (storage / "data/txn/ab").mkdir(parents=True)
    (storage / ".cvmfspublished").write_bytes(b"manifest")
    (storage / ".cvmfs_status.json").write_bytes(b"{}")
    (storage / "data/aa/bb").write_bytes(b"0123456789")
    (storage / "data/aa/empty").write_bytes(b"")
    (storage / "data/aa/large").write_bytes(LARGE_CONTENT)
    (storage / "data/txn/secret").write_bytes(b"secret")
    (storage / "data/txn/ab/secret").write_bytes(b"secret")
    (storage / ".cvmfsalt-aabbX").symlink_to("data/aa/bb")
    (storage / ".odd name+\udcff".encode(errors="surrogateescape").decode(errors="surrogateescape")).write_bytes(b"odd")
    (tmp_path / "srv/cvmfs/secret").write_bytes(b"secret")
    (tmp_path / "srv/secret").write_bytes(b"secret")
    return Site(str(tmp_path))


@pytest.fixture
def start(site) -> Iterator[Callable[..., WebServer]]:
    """Starts a server of the site."""
    with contextlib.ExitStack() as running:
        yield lambda **options: running.enter_context(serve(site, **options))


@pytest.fixture
def connect() -> Iterator[Callable[[WebServer], Client]]:
    """Makes a client with a connection of its own."""
    with contextlib.ExitStack() as connected:

        def connect(server: WebServer) -> Client:
            client = Client(server)
            connected.callback(client.socket.close)
            return client

        yield connect


@pytest.fixture
def client(start, connect) -> Client:
    return connect(start())


def storage_of(site: Site) -> Path:
    return Path(site.storage(FQRN))


@pytest.mark.parametrize(
    ("path", "body", "content_type", "age"),
    [
        (".cvmfspublished", b"manifest", OBJECT, A_MINUTE),
        (".cvmfs_status.json", b"{}", JSON, A_MINUTE),
        ("data/aa/bb", b"0123456789", OBJECT, THREE_DAYS),
        ("data/aa/empty", b"", OBJECT, THREE_DAYS),
        (".cvmfsalt-aabbX", b"0123456789", OBJECT, A_MINUTE),
        ("/.cvmfspublished", b"manifest", OBJECT, A_MINUTE),
        ("data/aa/b%62?x=1", b"0123456789", OBJECT, THREE_DAYS),
        (".odd%20name%2b%FF", b"odd", OBJECT, A_MINUTE),
    ],
)
def test_published_files(client, path, body, content_type, age):
    answer = client.get(f"/cvmfs/{FQRN}/{path}")

    assert (answer.status, answer.body) == (200, body)
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == (content_type, age)
    assert answer.headers["Date"]
    assert not {"etag", "last-modified", "content-encoding"} & {name.lower() for name in answer.headers}


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "/cvmfs",
        "/cvmfs/",
        "/cvmfs/secret",
        "/cvmfs/../secret",
        "/secret",
        f"/cvmfs/{FQRN}",
        f"/cvmfs/{FQRN}/",
        f"/cvmfs/{FQRN}/data",
        f"/cvmfs/{FQRN}/data/aa/",
        f"/cvmfs/{FQRN}/data/aa/bb/",
        f"/cvmfs/{FQRN}/data/aa/bb/x",
        f"/cvmfs/{FQRN}/data/aa/none",
        f"/cvmfs/{FQRN}/data/aa/{'x' * 300}",
        f"/cvmfs/{FQRN}/../secret",
        f"/cvmfs/{FQRN}/data/../../secret",
        f"/cvmfs/{FQRN}/%2e%2e/secret",
        f"/cvmfs/{FQRN}/%2E./secret",
        f"/cvmfs/{FQRN}/..%2fsecret",
        f"/cvmfs/{FQRN}%2f..%2fsecret",
        f"/cvmfs/{FQRN}/.cvmfspublished%00",
        f"/cvmfs/{FQRN}/.cvmfspublished%00.json",
        f"/cvmfs/{FQRN}/data/txn/secret",
        f"/cvmfs/{FQRN}/data/txn/ab/secret",
        f"/cvmfs/{FQRN}/data/./txn/secret",
        f"/cvmfs/{FQRN}/data//txn//secret",
        f"/cvmfs/{FQRN}/data/%74xn/secret",
        f"/cvmfs/{FQRN}/data/aa/../txn/secret",
        f"/cvmfs/{FQRN}/data%2ftxn%2fsecret",
        f"/cvmfs/./{FQRN}/.cvmfspublished",
        "/cvmfs/other.example.org/.cvmfspublished",
        "/cvmfs/%ff.example.org/.cvmfspublished",
        "/cvmfs/info/v1/other.json",
        "/cvmfs/info/v1",
        "/CVMFS/" + FQRN + "/.cvmfspublished",
    ],
)
def test_whatever_is_no_published_file_is_not_there(client, target):
    answer = client.get(target)

    assert answer.status == 404
    assert b"secret" not in answer.body
    assert client.get(f"/cvmfs/{FQRN}/.cvmfspublished").body == b"manifest", "the connection goes on"


@pytest.mark.parametrize("place", ["link", "data/aa/link", ".cvmfsalt-link"])
@pytest.mark.parametrize("goal", ["srv/secret", "srv/cvmfs/secret", f"srv/cvmfs/{FQRN}/data/txn/secret", "srv"])
def test_links_do_not_lead_out_nor_into_the_staging_area(client, site, place, goal):
    (storage_of(site) / place).symlink_to(Path(site.root) / goal)

    assert client.get(f"/cvmfs/{FQRN}/{place}").status == 404


def test_a_link_to_a_directory_outside_leads_nowhere(client, site):
    (storage_of(site) / "out").symlink_to(Path(site.root) / "srv")

    assert client.get(f"/cvmfs/{FQRN}/out/secret").status == 404


def test_a_neighbour_whose_name_begins_alike_is_outside(client, site):
    neighbour = Path(f"{storage_of(site)}-old")
    neighbour.mkdir()
    (neighbour / "secret").write_bytes(b"secret")
    (storage_of(site) / "link").symlink_to(neighbour / "secret")

    assert client.get(f"/cvmfs/{FQRN}/link").status == 404


def test_a_repository_may_be_a_link_to_where_the_administrator_keeps_it(client, site):
    elsewhere = Path(site.root) / "disk"
    storage_of(site).rename(elsewhere)
    storage_of(site).symlink_to(elsewhere)

    assert client.get(f"/cvmfs/{FQRN}/.cvmfsalt-aabbX").body == b"0123456789"
    assert client.get(f"/cvmfs/{FQRN}/data/txn/secret").status == 404


def test_special_files_are_not_opened_to_wait(client, site):
    os.mkfifo(storage_of(site) / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(storage_of(site) / "socket"))

        assert client.get(f"/cvmfs/{FQRN}/pipe").status == 404
        assert client.get(f"/cvmfs/{FQRN}/socket").status == 404


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_a_client_reads_a_repository(fixture_repository, tmp_path, fqrn):
    fixture = fixture_repository(fqrn)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/cvmfs").symlink_to(fixture.root)
    with (
        serve(Site(str(tmp_path))) as server,
        Repository.open(f"{server.url}/{fqrn}", fixture.public_key) as repository,
    ):
        files = [path for path, entry in repository.walk("/") if entry.is_regular and entry.size]
        total = sum(len(repository.read(path)) for path in files[:40])

    assert total > 0
    assert server.requests > 10
    assert server.bytes > 1000


# ---- methods, ranges, bodies of every size


@pytest.mark.parametrize("path", ["data/aa/bb", "data/aa/large", "data/aa/none"])
def test_head_is_get_without_the_body(client, path):
    get = client.get(f"/cvmfs/{FQRN}/{path}")
    head = client.get(f"/cvmfs/{FQRN}/{path}", "HEAD")

    assert head.body == b""
    assert head.status == get.status
    assert {k: v for k, v in head.headers.items() if k != "Date"} == {
        k: v for k, v in get.headers.items() if k != "Date"
    }
    assert client.get(f"/cvmfs/{FQRN}/.cvmfspublished").body == b"manifest", "nothing is left of the last answer"


@pytest.mark.parametrize("size", [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 5_000_000])
def test_bodies_come_whole_on_either_way(client, site, size):
    data = os.urandom(size)
    (storage_of(site) / "data/aa/file").write_bytes(data)

    for _ in range(2):
        assert client.get(f"/cvmfs/{FQRN}/data/aa/file").body == data


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        (f"bytes={LARGE - 5}-", LARGE - 5, LARGE - 1),
        ("bytes=-7", LARGE - 7, LARGE - 1),
        (f"bytes=1-{LARGE - 2}", 1, LARGE - 2),
    ],
)
def test_a_range(client, site, wanted, first, last):
    data = (storage_of(site) / "data/aa/large").read_bytes()
    answer = client.get(f"/cvmfs/{FQRN}/data/aa/large", "GET", f"Range: {wanted}")

    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{LARGE}"
    assert answer.body == data[first : last + 1]


def test_a_range_beyond_the_end(client):
    answer = client.get(f"/cvmfs/{FQRN}/data/aa/bb", "GET", "Range: bytes=10-")

    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */10"


def test_several_ranges_get_the_whole(client):
    answer = client.get(f"/cvmfs/{FQRN}/data/aa/bb", "GET", "Range: bytes=0-1,3-4")

    assert (answer.status, answer.body) == (200, b"0123456789")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "OPTIONS", "get"])
def test_other_methods_are_refused(client, method):
    answer = client.get(f"/cvmfs/{FQRN}/data/aa/bb", method)

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert client.is_cut()


# ---- the documents about the server


def test_the_list_of_repositories_and_replicas(client, site):
    replica = Path(site.storage("replica.example.org"))
    replica.mkdir()
    (replica / ".cvmfspublished").touch()
    (replica / ".cvmfs_last_snapshot").touch()
    Path(site.storage("unborn.example.org")).mkdir()

    answer = client.get("/cvmfs/info/v1/repositories.json")

    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == (JSON, A_MINUTE)
    assert json.loads(answer.body) == {
        "schema": 1,
        "repositories": [{"name": FQRN, "url": f"/cvmfs/{FQRN}"}],
        "replicas": [{"name": "replica.example.org", "url": "/cvmfs/replica.example.org"}],
    }


def test_meta_is_made_up_until_the_administrator_writes_it(client, site):
    made_up = json.loads(client.get("/cvmfs/info/v1/meta.json").body)
    place = Path(site.web_root) / "info/v1"
    place.mkdir(parents=True)
    (place / "meta.json").write_text('{"administrator": "me"}')
    written = client.get("/cvmfs/info/v1/meta.json")

    assert made_up == {"administrator": "", "email": "", "organisation": "", "custom": {}}
    assert written.body == b'{"administrator": "me"}'
    assert written.headers["Content-Type"] == JSON


def test_only_the_named_repositories_are_shown(connect, start, site):
    (Path(site.web_root) / "other.example.org").mkdir()
    (Path(site.web_root) / "other.example.org/.cvmfspublished").write_bytes(b"other")
    client = connect(start(repositories=["other.example.org"]))

    names = json.loads(client.get("/cvmfs/info/v1/repositories.json").body)["repositories"]
    assert [repository["name"] for repository in names] == ["other.example.org"]
    assert client.get("/cvmfs/other.example.org/.cvmfspublished").body == b"other"
    assert client.get(f"/cvmfs/{FQRN}/.cvmfspublished").status == 404


def test_a_site_without_any_repository(connect, tmp_path):
    with serve(Site(str(tmp_path))) as server:
        client = connect(server)
        assert client.get(f"/cvmfs/{FQRN}/.cvmfspublished").status == 404
        assert json.loads(client.get("/cvmfs/info/v1/repositories.json").body)["repositories"] == []


# ---- connections


def test_an_answer_leaves_in_one_write(client):
    """A second small write would wait for the acknowledgement of the first: 40 ms for each request."""
    client.ask(f"/cvmfs/{FQRN}/data/aa/bb")
    head, _, body = client.socket.recv(65536).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200")
    assert body == b"0123456789"


def test_requests_sent_ahead_are_answered_in_order(client):
    for path in ("data/aa/bb", "data/aa/none", "data/aa/large", ".cvmfspublished"):
        client.ask(f"/cvmfs/{FQRN}/{path}")
    # One reader for all: what it takes ahead from the socket belongs to the next answer.
    with client.socket.makefile("rb") as stream:
        statuses = [_read_answer(stream) for _ in range(4)]

    assert statuses == [(200, 10), (404, statuses[1][1]), (200, LARGE), (200, 8)]


def _read_answer(stream) -> tuple[int, int]:
    status = int(stream.readline().split()[1])
    length = int(http.client.parse_headers(stream)["Content-Length"])
    return status, len(stream.read(length))


def test_a_head_may_arrive_byte_by_byte(client):
    for byte in f"GET /cvmfs/{FQRN}/data/aa/bb HTTP/1.1\r\nHost: x\r\n\r\n".encode():
        client.send(bytes([byte]))

    assert client.answer().body == b"0123456789"


@pytest.mark.parametrize(
    ("version", "headers", "stays"),
    [
        ("HTTP/1.1", [], True),
        ("HTTP/1.1", ["Connection: close"], False),
        ("HTTP/1.0", [], False),
        ("HTTP/1.0", ["Connection: keep-alive"], True),
    ],
)
@pytest.mark.parametrize("path", ["data/aa/bb", "data/aa/large", "data/aa/none"])
def test_a_connection_ends_when_the_client_says_so(client, path, version, headers, stays):
    client.ask(f"/cvmfs/{FQRN}/{path}", "GET", *headers, version=version)
    answer = client.answer()

    assert answer.headers["Connection"] == ("keep-alive" if stays else "close")
    if stays:
        assert client.get(f"/cvmfs/{FQRN}/.cvmfspublished").body == b"manifest"
    else:
        assert client.is_cut()


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00 TLS?\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"x" * 20_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * 101 + b"\r\n",
    ],
    ids=["nonsense", "tls", "body", "chunked", "endless line", "long header", "many headers"],
)
def test_a_head_that_makes_no_sense_ends_the_connection(client, head):
    client.send(head)

    assert client.answer().status == 400
    assert client.is_cut()


def test_the_last_answer_is_not_lost_over_what_was_not_read(client):
    """Closing over bytes that were received resets the connection, and the client may never see the answer."""
    client.send(b"nonsense\r\n\r\n" + b"x" * 100_000)

    assert client.answer().status == 400
    assert client.socket.recv(1) == b""


def test_a_client_that_leaves_in_the_middle_harms_nobody(connect, start):
    server = start()
    for data in (b"", b"GET /cvm", f"GET /cvmfs/{FQRN}/data/aa/large HTTP/1.1\r\n\r\n".encode()):
        leaving = connect(server)
        leaving.send(data)
        leaving.socket.close()

    assert connect(server).get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200


def test_a_client_that_does_not_read_blocks_no_other(connect, start, site):
    os.truncate(storage_of(site) / "data/aa/large", 200_000_000)
    server = start()
    slow, other = connect(server), connect(server)
    slow.ask(f"/cvmfs/{FQRN}/data/aa/large")
    assert slow.socket.recv(12) == b"HTTP/1.1 200"

    for _ in range(20):
        assert other.get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200


def test_a_client_that_does_not_read_is_cut(connect, start, site):
    os.truncate(storage_of(site) / "data/aa/large", 200_000_000)
    client = connect(start(limits=Limits(stall=0.05)))
    client.ask(f"/cvmfs/{FQRN}/data/aa/large")
    poll_until_hung_up(client.socket)

    received = 0
    with contextlib.suppress(ConnectionError):
        while piece := client.socket.recv(2**20):
            received += len(piece)
    assert received < 200_000_000


def poll_until_hung_up(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    assert poll.poll(20_000)


def test_a_client_that_dribbles_is_cut_even_if_no_wait_is_long(connect, start, site, monkeypatch):
    os.truncate(storage_of(site) / "data/aa/large", 200_000_000)
    clock = itertools.count(step=5)
    monkeypatch.setattr(
        "cvfs_server.web.conversation.time", SimpleNamespace(monotonic=lambda: next(clock), time=time.time)
    )
    client = connect(start(limits=Limits(stall=30, low_speed=2**40)))
    client.ask(f"/cvmfs/{FQRN}/data/aa/large")

    received = 0
    with contextlib.suppress(ConnectionError):
        while piece := client.socket.recv(2000):
            received += len(piece)
    assert received < 200_000_000


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: y"])
def test_a_client_that_does_not_finish_its_request_is_cut(connect, start, sent):
    client = connect(start(limits=Limits(idle=0.05)))
    client.send(sent)

    assert client.is_cut()


def test_one_connection_too_many_is_told_so(connect, start, caplog):
    server = start(limits=Limits(connections=1))
    first = connect(server)
    assert first.get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200

    assert connect(server).answer().status == 503
    assert "too many connections" in caplog.text
    assert first.get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200


def test_a_file_that_cannot_be_read_is_the_servers_fault(client, site, monkeypatch, caplog):
    def out_of_descriptors(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("cvfs_server.web.files.os.open", out_of_descriptors)
        assert client.get(f"/cvmfs/{FQRN}/data/aa/bb").status == 500

    assert "Too many open files" in caplog.text
    assert client.get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200


@pytest.mark.parametrize("path", ["data/aa/bb", "data/aa/large"])
def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(client, monkeypatch, path):
    sendfile, pread = os.sendfile, os.pread

    def shrinking(out: int, source: int, offset: int, count: int) -> int:
        return sendfile(out, source, offset, min(count, 1000)) if offset < 1000 else 0

    monkeypatch.setattr("cvfs_server.web.conversation.os.sendfile", shrinking)
    monkeypatch.setattr("cvfs_server.web.conversation.os.pread", lambda fd, count, offset: pread(fd, count - 1, offset))
    client.ask(f"/cvmfs/{FQRN}/{path}")

    with pytest.raises(http.client.IncompleteRead):
        client.answer()


def test_what_was_sent_is_counted(connect, start):
    server = start()
    client = connect(server)
    client.get(f"/cvmfs/{FQRN}/data/aa/bb")
    client.get(f"/cvmfs/{FQRN}/data/aa/bb", "HEAD")
    client.get(f"/cvmfs/{FQRN}/data/aa/none")
    client.get(f"/cvmfs/{FQRN}/data/aa/large", "GET", "Range: bytes=5-104")

    assert (server.requests, server.bytes) == (4, 110)


def test_no_descriptor_is_lost(client, site):
    (storage_of(site) / "out").symlink_to(Path(site.root) / "srv/secret")
    targets = ["data/aa/bb", "data/aa/large", "data/aa/none", "data/aa", "out", "data/txn/secret"]

    def ask_all() -> int:
        for target in targets:
            client.get(f"/cvmfs/{FQRN}/{target}")
            client.get(f"/cvmfs/{FQRN}/{target}", "HEAD")
        client.get("/cvmfs/info/v1/meta.json")
        # The last answer leaves before its file is closed; the one to a request that opens none, after.
        client.get("/")
        return len(os.listdir("/proc/self/fd"))

    assert ask_all() == ask_all()


# ---- addresses, starting and ending


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1")])
def test_other_addresses(connect, start, host, shown):
    try:
        server = start(host=host)
    except UsageError:
        pytest.skip(f"this machine does not listen on {host}")

    assert server.url.startswith(f"http://{shown}:")
    assert connect(server).get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200


def test_an_address_in_use_is_an_error_of_one_line(start, site):
    port = int(start().url.split(":")[2].split("/")[0])

    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
        serve(site, port=port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no such host", 0), ("203.0.113.1", 0)])
def test_an_impossible_address_is_an_error_of_one_line(site, host, port):
    with pytest.raises(UsageError, match="cannot listen on"):
        serve(site, host=host, port=port)


def test_close_cuts_whoever_is_there_and_ends_the_threads(connect, start, site):
    os.truncate(storage_of(site) / "data/aa/large", 200_000_000)
    before = threading.active_count()
    server = start()
    idle, waiting, reading = connect(server), connect(server), connect(server)
    assert idle.get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200
    waiting.send(b"GET /cvm")
    reading.ask(f"/cvmfs/{FQRN}/data/aa/large")
    assert reading.socket.recv(12) == b"HTTP/1.1 200"

    server.close()

    assert threading.active_count() == before
    assert idle.is_cut()
    with pytest.raises(OSError):
        connect(server)
    server.close()


def test_serve_forever_lasts_until_close(connect, start):
    server = start()
    done = threading.Event()
    threading.Thread(target=lambda: (server.serve_forever(), done.set()), daemon=True).start()

    assert connect(server).get(f"/cvmfs/{FQRN}/data/aa/bb").status == 200
    assert not done.is_set()
    server.close()
    assert done.wait(10)
