"""HTTP from servers and proxies that fail, lie or stall: everything ends, as MissingObject or Unreachable."""

import base64
import contextlib
import datetime as dt
import http.server
import ipaddress
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cvfs.errors import MissingObject, Trouble, Unreachable
from cvfs.store import connections
from cvfs.store.base import fetch_document
from cvfs.store.http import MAX_REDIRECTS, USER_AGENT, HttpOptions, HttpStore, Timeouts, encode_place

QUICK = Timeouts(proxied=0.3, direct=0.3)
BODY = b"0123456789"


def _fetch(store, path="data/x", **how):
    return b"".join(store.fetch(path, **how))


def _refused(request):
    request.answer("500 Internal Server Error", b"sorry")


def _statuses():
    return [
        "300 Multiple Choices",
        "301 Moved",
        "400 Bad Request",
        "403 Forbidden",
        "416 Range",
        "429 Slow down",
        "502 Bad Gateway",
    ]


@pytest.mark.parametrize("status", [*_statuses(), "500 Internal Server Error", "999 Whatever"])
def test_every_status_but_404_is_unreachable(serve, status):
    server = serve(lambda request: request.answer(status, b"x" * 100))
    store = HttpStore(server.url)
    with pytest.raises(Unreachable, match=f"{server.url}/data/x: .*{status[:3]}"):
        _fetch(store)
    with pytest.raises(Unreachable, match=status[:3]):
        store.has("data/x")


def test_404_is_missing_and_the_connection_is_kept(serve):
    server = serve(lambda request: request.answer("404 Not Found", b"x" * 100))
    store = HttpStore(server.url)
    for _ in range(5):
        with pytest.raises(MissingObject, match=f"{server.url}/data/x"):
            _fetch(store)
    assert len(server.connections) == 1


def test_one_connection_serves_a_thread(serve):
    server = serve(lambda request: request.answer("200 OK", BODY))
    store = HttpStore(server.url)
    assert [_fetch(store) for _ in range(20)] == [BODY] * 20
    assert store.has("x")
    assert len(server.connections) == 1


def test_close_gives_connections_back_and_the_store_goes_on(serve):
    server = serve(lambda request: request.answer("200 OK", BODY))
    store = HttpStore(server.url)
    _fetch(store)
    store.close()
    assert _fetch(store) == BODY
    assert len(server.connections) == 2


def test_a_forked_process_connects_by_itself(serve):
    server = serve(lambda request: request.answer("200 OK", BODY))
    store = HttpStore(server.url)
    _fetch(store)
    child = os.fork()
    if child == 0:
        os._exit(0 if _fetch(store) == BODY else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert _fetch(store) == BODY
    assert len(server.connections) == 2


def test_tells_who_it_is_and_wants_no_encoding(serve, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = serve(lambda request: request.answer("200 OK", BODY))
    _fetch(HttpStore(server.url))
    _fetch(HttpStore(server.url), fresh=True)
    usual, fresh = (request.headers for request in server.requests)
    assert usual == {
        "host": server.url.removeprefix("http://"),
        "user-agent": USER_AGENT,
        "accept-encoding": "identity",
        "connection": "Keep-Alive",
        "pragma": "",
    }
    assert USER_AGENT.startswith("cvmfs Fuse ")
    assert fresh == usual | {"pragma": "no-cache", "cache-control": "no-cache"}


def test_asks_the_proxy_with_the_whole_url(serve):
    proxy = serve(lambda request: request.answer("200 OK", BODY))
    assert _fetch(HttpStore("http://far.example.org/cvmfs/x", proxy.url)) == BODY
    assert proxy.requests[0].path == "http://far.example.org/cvmfs/x/data/x"


def test_errors_name_the_proxy(unused_url):
    with pytest.raises(Unreachable, match=f"http://far.example.org/data/x via {unused_url}: .*refused"):
        _fetch(HttpStore("http://far.example.org", unused_url))


def test_direct_means_no_proxy(serve):
    server = serve(lambda request: request.answer("200 OK", BODY))
    assert _fetch(HttpStore(server.url, "DIRECT")) == BODY
    assert server.requests[0].path == "/data/x"


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid", "nonsense", "http://", "ftp://x", "http://a" + "a" * 70]
)
def test_an_impossible_url_is_unreachable(url):
    with pytest.raises(Unreachable):
        _fetch(HttpStore(url, timeouts=QUICK))


def test_nobody_listens(unused_url):
    with pytest.raises(Unreachable, match="refused"):
        _fetch(HttpStore(unused_url))
    with pytest.raises(Unreachable, match="refused"):
        HttpStore(unused_url).has("x")


# What a server does once it has a request; none of it may hold the client, or pass for a whole answer.
def _black_hole(request):
    request.closing.wait()


def _hang_up(request):
    return False


def _truncate(request):
    request.answer("200 OK", BODY, length=100)
    return False


def _stall_in_the_body(request):
    request.answer("200 OK", BODY, length=100)
    request.closing.wait()


def _drip(request, data, piece=1):
    for start in range(0, len(data), piece):
        request.send(data[start : start + piece])
        if request.closing.wait(0.01):
            return


def _dribble_headers(request):
    _drip(request, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)


def _dribble_body(request):
    request.answer("200 OK", b"", length=10_000)
    _drip(request, b"x" * 10_000)


def _dribble_chunks(request):
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    _drip(request, b"1\r\nx\r\n" * 1000, piece=3)


def _endless_headers(request):
    request.send(b"HTTP/1.1 200 OK\r\n")
    while not request.closing.is_set():
        request.send(b"X: y\r\n" * 100)


def _endless_continues(request):
    while not request.closing.is_set():
        request.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def _nonsense(request):
    request.send(b"\x00\xff" * 40 + b"\r\n\r\n")
    return False


def _bad_length(request):
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 10\r\n\r\n" + BODY)
    return False


def _cut_chunks(request):
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n")
    return False


def _bad_chunks(request):
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n01234\r\n0\r\n\r\n")
    return False


def _gzipped(request):
    request.answer("200 OK", BODY, "Content-Encoding: gzip")


HOSTILE = [
    _black_hole,
    _hang_up,
    _truncate,
    _stall_in_the_body,
    _dribble_headers,
    _dribble_body,
    _dribble_chunks,
    _endless_headers,
    _endless_continues,
    _nonsense,
    _bad_length,
    _cut_chunks,
    _bad_chunks,
    _gzipped,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("behave", HOSTILE, ids=lambda behave: behave.__name__)
@pytest.mark.parametrize("way", ["direct", "proxied"])
def test_a_hostile_answer_is_unreachable(serve, behave, way):
    server = serve(behave)
    base, proxy = (server.url, None) if way == "direct" else ("http://far.example.org", server.url)
    with pytest.raises(Unreachable, match="/data/x"):
        _fetch(HttpStore(base, proxy, QUICK))


def test_an_endless_body_is_bounded_by_whoever_asks(serve):
    def endless(request):
        request.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not request.closing.is_set():
            request.send(bytes(65536))

    with pytest.raises(Unreachable, match="longer than"):
        fetch_document(HttpStore(serve(endless).url), "data/x")


def test_bytes_behind_the_announced_length_do_not_reach_the_next_answer(serve):
    store = HttpStore(serve(lambda request: request.answer("200 OK", BODY, length=4)).url)
    assert [_fetch(store) for _ in range(3)] == [BODY[:4]] * 3


def test_a_slow_start_is_forgiven(serve):
    def answer(request):
        request.closing.wait(0.1)
        request.answer("200 OK", BODY)

    assert _fetch(HttpStore(serve(answer).url, timeouts=Timeouts(5, 5))) == BODY


def test_a_steady_stream_may_last_longer_than_the_time_out(serve):
    def answer(request):
        request.answer("200 OK", b"", length=100_000)
        _drip(request, bytes(100_000), piece=1000)

    assert _fetch(HttpStore(serve(answer).url, timeouts=QUICK)) == bytes(100_000)


def test_a_kept_connection_that_the_server_has_closed_is_no_failure(serve):
    def answer(request):
        if len(server.requests) == 2:
            return False
        return request.answer("200 OK", BODY)

    server = serve(answer)
    store = HttpStore(server.url)
    assert [_fetch(store) for _ in range(3)] == [BODY] * 3
    assert len(server.requests) == 4


def test_a_server_that_always_hangs_up_is_asked_twice(serve):
    server = serve(_hang_up)
    with pytest.raises(Unreachable):
        _fetch(HttpStore(server.url))
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Temporary"])
def test_redirects_are_followed_only_on_demand(serve, status):
    def answer(request):
        if request.path == "/data/x":
            return request.answer(status, b"", "Location: /there")
        return request.answer("200 OK", BODY)

    url = serve(answer).url
    with pytest.raises(Unreachable, match=status[:3]):
        _fetch(HttpStore(url))
    assert _fetch(HttpStore(url, options=HttpOptions(follow_redirects=True))) == BODY


def test_redirects_in_a_circle_end(serve):
    server = serve(lambda request: request.answer("302 Found", b"", "Location: /data/x"))
    with pytest.raises(Unreachable, match="redirects more than"):
        _fetch(HttpStore(server.url, options=HttpOptions(follow_redirects=True)))
    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "//", "gopher://x"])
def test_redirects_lead_to_the_web_only(serve, target):
    server = serve(lambda request: request.answer("302 Found", b"", f"Location: {target}"))
    with pytest.raises(Unreachable):
        _fetch(HttpStore(server.url, options=HttpOptions(follow_redirects=True)))


def test_a_redirect_with_an_endless_body_is_not_read(serve):
    def answer(request):
        if request.path != "/data/x":
            return request.answer("200 OK", BODY)
        request.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n")
        while not request.closing.is_set():
            request.send(bytes(65536))
        return False

    assert _fetch(HttpStore(serve(answer).url, options=HttpOptions(follow_redirects=True))) == BODY


# Answers to a request for bytes 2 to 4.
def _whole(request):
    request.answer("200 OK", BODY)


def _other_range(request):
    request.answer("206 Partial Content", BODY[3:6], "Content-Range: bytes 3-5/10")


def _no_range(request):
    request.answer("206 Partial Content", BODY[2:5])


def _longer(request):
    request.answer("206 Partial Content", BODY[2:6], "Content-Range: bytes 2-4/10")


def _shorter(request):
    request.answer("206 Partial Content", BODY[2:4], "Content-Range: bytes 2-4/10")


@pytest.mark.parametrize(
    "behave", [_whole, _other_range, _no_range, _longer, _shorter, _refused], ids=lambda b: b.__name__
)
def test_a_part_must_be_that_very_part(serve, behave):
    server = serve(behave)
    with pytest.raises(Unreachable):
        _fetch(HttpStore(server.url), span=(2, 3))
    assert server.requests[0].headers["range"] == "bytes=2-4"


def test_threads_have_connections_of_their_own(serve):
    meet = threading.Barrier(4)

    def answer(request):
        meet.wait(10)
        request.answer("200 OK", BODY)

    server = serve(answer)
    store = HttpStore(server.url)
    threads = [threading.Thread(target=_fetch, args=[store]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(server.connections) == 4


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (b"/a/b-c_d.e~f", "a/b-c_d.e~f"),
        (b"/09AZaz:@+[],", "09AZaz:@+[],"),
        (b"/a b%c?d#e&f=g", "a%20b%25c%3Fd%23e%26f%3Dg"),
        ("/ä".encode(), "%C3%A4"),
        (b"/\xff\n!*'();$\"", "%FF%0A%21%2A%27%28%29%3B%24%22"),
    ],
)
def test_places_are_percent_encoded(path, place):
    assert encode_place(path) == place


@pytest.mark.parametrize("path", [b"/a b/c%d?e#f", "/ä[1],x".encode(), b"/\xff!*'();$\""])
def test_an_encoded_place_reaches_the_server_as_the_same_path(serve, path):
    from urllib.parse import unquote_to_bytes

    server = serve(lambda request: request.answer("200 OK", BODY))
    _fetch(HttpStore(server.url), encode_place(path))
    assert unquote_to_bytes(server.requests[0].path) == path


@pytest.mark.parametrize(
    ("answer", "direct", "proxied"),
    [
        ("400 Bad Request", Trouble.STATUS, Trouble.STATUS),
        ("403 Forbidden", Trouble.ANSWER, Trouble.ANSWER),
        ("429 Too Many", Trouble.STATUS, Trouble.STATUS),
        ("500 Error", Trouble.STATUS, Trouble.STATUS),
        ("502 Bad Gateway", Trouble.STATUS, Trouble.GATEWAY),
        ("503 Unavailable", Trouble.STATUS, Trouble.GATEWAY),
        ("504 Timeout", Trouble.STATUS, Trouble.GATEWAY),
    ],
)
def test_who_is_to_blame_for_a_status(serve, answer, direct, proxied):
    url = serve(lambda request: request.answer(answer, b"x")).url
    for store, trouble in ((HttpStore(url), direct), (HttpStore("http://far.example.org", url), proxied)):
        with pytest.raises(Unreachable) as raised:
            _fetch(store)
        assert raised.value.trouble is trouble


def test_a_proxy_that_gives_its_own_error_says_so(serve):
    url = serve(lambda request: request.answer("403 Forbidden", b"", "X-Squid-Error: ERR_DNS_FAIL 0")).url
    with pytest.raises(Unreachable) as raised:
        _fetch(HttpStore("http://far.example.org", url))
    assert raised.value.trouble is Trouble.GATEWAY


@pytest.mark.parametrize(
    ("behave", "trouble"),
    [
        (_black_hole, Trouble.SILENT),
        (_stall_in_the_body, Trouble.SILENT),
        (_dribble_headers, Trouble.SILENT),
        (_dribble_body, Trouble.SILENT),
        (_hang_up, Trouble.ANSWER),
        (_truncate, Trouble.ANSWER),
        (_nonsense, Trouble.ANSWER),
        (_gzipped, Trouble.ANSWER),
    ],
    ids=lambda value: getattr(value, "__name__", None) or value.name,
)
def test_what_became_of_a_request(serve, behave, trouble):
    with pytest.raises(Unreachable) as raised:
        _fetch(HttpStore(serve(behave).url, timeouts=QUICK))
    assert raised.value.trouble is trouble


def test_nobody_listens_is_no_connection(unused_url):
    for store in (HttpStore(unused_url), HttpStore("http://far.example.org", unused_url)):
        with pytest.raises(Unreachable) as raised:
            _fetch(store)
        assert raised.value.trouble is Trouble.NOT_CONNECTED


def test_who_asks_may_have_less_patience_than_the_time_out(serve):
    store = HttpStore(serve(_black_hole).url, timeouts=Timeouts(600, 600))
    with pytest.raises(Unreachable):
        b"".join(store.fetch("data/x", patience=0.05))
    with pytest.raises(Unreachable):
        store.has("data/x", patience=0.05)


def test_headers_of_the_site_are_sent(serve):
    server = serve(lambda request: request.answer("200 OK", BODY))
    _fetch(HttpStore(server.url, options=HttpOptions(headers=(("X-Site", "here"),))))
    assert server.requests[0].headers["x-site"] == "here"


def test_a_password_for_the_proxy_is_sent_and_never_shown(serve):
    proxy = serve(lambda request: request.answer("403 Forbidden"))
    url = proxy.url.replace("http://", "http://me:secret@")
    with pytest.raises(Unreachable) as raised:
        _fetch(HttpStore("http://far.example.org", url))
    assert "secret" not in str(raised.value)
    assert "secret" not in str(HttpStore("http://far.example.org", url))
    assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"


@pytest.mark.parametrize(
    ("user", "told"), [("m%40e:s%3Ac%2Fr%C3%A9t", "m@e:s:c/rét"), ("me", "me:"), ("me:", "me:"), ("", None)]
)
def test_names_and_passwords_of_proxies_are_encoded(user, told):
    expected = (
        {} if told is None else {"proxy-authorization": f"Basic {base64.b64encode(told.encode('latin-1')).decode()}"}
    )
    assert connections._password(f"http://{user}@proxy.example.org:3128") == expected


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1, signed by itself, with its key: file names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(names, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (tmp_path / "ca.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(tmp_path / "ca.pem"), str(tmp_path / "key.pem")


@pytest.fixture
def secure(certificate):
    """A server that speaks https; gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.handle_error = lambda *_: None
        listener.daemon_threads = True
        listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"https://127.0.0.1:{listener.server_port}"
        listener.shutdown()


def test_https_with_a_certificate_that_is_trusted(secure, certificate):
    assert _fetch(HttpStore(secure, options=HttpOptions(certificates=certificate[0]))) == BODY


def test_https_with_a_directory_of_certificates(secure, certificate, tmp_path):
    words = ["openssl", "x509", "-hash", "-noout", "-in", certificate[0]]
    digest = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    (tmp_path / "trusted").mkdir()
    shutil.copy(certificate[0], tmp_path / "trusted" / f"{digest}.0")
    assert _fetch(HttpStore(secure, options=HttpOptions(certificates=str(tmp_path / "trusted")))) == BODY


@pytest.fixture
def tunnelling():
    """A proxy that only builds tunnels; gives its port and what it was asked."""
    asked: list[bytes] = []

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self):
            head = iter(self.rfile.readline, b"\r\n")
            asked.append(b"".join(head))
            host, _, port = asked[-1].split()[1].decode().partition(":")
            with socket.create_connection((host, int(port)), 10) as server:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=_pump, args=(server, self.connection), daemon=True).start()
                _pump(self.connection, server)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield proxy.server_address[1], asked
        proxy.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def test_https_goes_through_a_tunnel_of_the_proxy(secure, certificate, tunnelling):
    """The proxy hears the password and the server's name, and nothing of what is said inside."""
    port, asked = tunnelling
    options = HttpOptions(certificates=certificate[0])
    store = HttpStore(secure, f"http://me:secret@127.0.0.1:{port}", options=options)
    assert _fetch(store) == BODY
    assert len(asked) == 1
    assert asked[0].startswith(f"CONNECT {secure.removeprefix('https://')} HTTP/1.".encode())
    assert f"proxy-authorization: basic {base64.b64encode(b'me:secret').decode()}".lower() in asked[0].decode().lower()
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        _fetch(HttpStore(secure, f"http://127.0.0.1:{port}"))


def test_a_proxy_that_speaks_https_is_asked_without_a_tunnel(secure, certificate):
    store = HttpStore("http://far.example.org", secure, options=HttpOptions(certificates=certificate[0]))
    assert _fetch(store) == BODY


def test_https_with_a_certificate_that_nobody_knows_is_refused(secure):
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        _fetch(HttpStore(secure))


def test_certificates_that_are_not_there(secure):
    with pytest.raises(Unreachable, match="/nowhere"):
        _fetch(HttpStore(secure, options=HttpOptions(certificates="/nowhere/ca.pem")))


def test_where_a_system_keeps_no_certificates_those_of_certifi_are_trusted(secure, certificate, monkeypatch, tmp_path):
    nowhere = ssl.get_default_verify_paths()._replace(cafile=None, capath=str(tmp_path / "nowhere"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(certifi, "where", lambda: certificate[0])
    assert _fetch(HttpStore(secure)) == BODY


@pytest.mark.timeout(20)
def test_a_server_that_never_shakes_hands():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(Unreachable) as raised:
            _fetch(HttpStore(url, timeouts=QUICK))
        assert raised.value.trouble is Trouble.SILENT
