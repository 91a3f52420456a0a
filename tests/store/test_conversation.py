"""HTTP/1.1 over a socket: what an answer says, where its body ends, and whether the connection can be used again."""

import contextlib
import itertools
import socket
import threading

import pytest

from cvfs.store.conversation import ask, header_lines, request

PATIENCE = 5.0


@contextlib.contextmanager
def _answered(data, *, pieces=None, method="GET", patience=PATIENCE, low_speed=1):
    """The answer to a request that `data` answers, all at once or in `pieces`, before the peer closes."""
    ours, theirs = socket.socketpair()

    def answer():
        with theirs, contextlib.suppress(OSError):
            theirs.recv(4096)
            for piece in pieces or [data]:
                theirs.sendall(piece)

    with ours:
        ours.settimeout(patience)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield ask(ours, request(method, "/x", "host", b""), low_speed)
        finally:
            ours.close()
            thread.join(PATIENCE)


def _body(answer, step=3):
    pieces = []
    while piece := answer.read(step):
        pieces.append(piece)
    assert all(len(piece) == step for piece in pieces[:-1])
    return b"".join(pieces)


def _head(*lines, first="HTTP/1.1 200 OK"):
    return "\r\n".join([first, *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "body", "reusable"),
    [
        (_head("Content-Length: 5") + b"01234", b"01234", True),
        (_head("content-length:5") + b"01234", b"01234", True),
        (_head("Content-Length: 5", "Content-Length: 5") + b"01234", b"01234", True),
        (_head("Content-Length: 0"), b"", True),
        (_head("Content-Length: 5") + b"01234567", b"01234", False),
        (_head("Content-Length: 5", "Connection: close") + b"01234", b"01234", False),
        (_head("Content-Length: 5", first="HTTP/1.0 200 OK") + b"01234", b"01234", False),
        (_head("Content-Length: 5", "Connection: keep-alive", first="HTTP/1.0 200 OK") + b"01234", b"01234", True),
        (_head() + b"to the end", b"to the end", False),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n01", b"01", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n01", b"01", True),
        (_head("X: a", "\tb", "Content-Length: 2") + b"01", b"01", True),
        (_head(first="HTTP/1.1 100 Continue") + _head("Content-Length: 2") + b"01", b"01", True),
        (_head(first="HTTP/1.1 204 No"), b"", True),
        (_head("Content-Length: 9", first="HTTP/1.1 304 Not Modified"), b"", True),
        (
            _head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n",
            b"abc0123456789",
            True,
        ),
        (_head("Transfer-Encoding: chunked", "Content-Length: 1") + b"1\nx\n0\nT: 1\n\n", b"x", True),
        (_head("Transfer-Encoding: chunked") + b"0\r\n\r\nmore", b"", False),
    ],
)
def test_a_body_ends_where_it_is_said_to(data, body, reusable):
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with _answered(data, pieces=pieces) as answer:
            assert _body(answer) == body
            # What is behind the end may come later: whoever uses the connection again looks for that.
            assert answer.reusable == reusable or pieces != [data]


def test_a_connection_is_not_reusable_before_the_end():
    with _answered(_head("Content-Length: 5") + b"01234") as answer:
        assert not answer.reusable
        answer.read(4)
        assert not answer.reusable
        answer.read(4)
        assert answer.reusable


def test_an_answer_to_head_has_no_body():
    with _answered(_head("Content-Length: 5"), method="HEAD") as answer:
        assert _body(answer) == b""
        assert answer.reusable


def test_status_reason_and_headers_are_told():
    with _answered(_head("A-b:  c d ", "a-B: e", "Empty:", first="HTTP/1.1 404 Not  Found ")) as answer:
        assert (answer.status, answer.reason) == (404, "Not  Found")
        assert answer.headers == {"a-b": "c d, e", "empty": ""}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        _head("Content-Length: -1"),
        _head("Content-Length: +1"),
        _head("Content-Length: 1_0"),
        _head("Content-Length: "),
        _head("Content-Length: 1, 2"),
        _head("Content-Length: " + "9" * 30),
        _head("Transfer-Encoding: gzip, chunked"),
        _head("X: " + "y" * 200_000),
        _head(first="HTTP/1.1 100 Continue") * 5000,
    ],
)
def test_a_head_that_is_none_is_refused(data):
    with pytest.raises((ValueError, ConnectionError)), _answered(data):
        pass


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        b"5",
        b"5\r\n0123",
        b"5\r\n01234",
        b"5\r\n01234567\r\n0\r\n\r\n",
        b"zz\r\n",
        b"-5\r\n01234\r\n0\r\n\r\n",
        b"\r\n",
        b"F" * 16 + b"\r\n",
        b"1;" + b"x" * 70_000,
        b"0\r\n",
        b"0\r\n" + b"T: 1\r\n" * 200,
    ],
)
def test_chunks_that_are_none_are_refused(chunks):
    with _answered(_head("Transfer-Encoding: chunked") + chunks) as answer, pytest.raises(ValueError, match=r"\w"):
        _body(answer)


def test_a_body_that_ends_early_is_refused():
    with _answered(_head("Content-Length: 5") + b"0123") as answer, pytest.raises(ValueError, match="1 bytes early"):
        _body(answer)


def test_a_slow_peer_is_given_up(monkeypatch):
    ours, theirs = socket.socketpair()
    seconds = itertools.count()
    monkeypatch.setattr("cvfs.store.conversation.time.monotonic", lambda: float(next(seconds)))
    with ours, theirs:
        ours.settimeout(PATIENCE)
        theirs.sendall(_head("Content-Length: 1000") + b"x")
        answer = ask(ours, request("GET", "/x", "host", b""), low_speed=100)
        assert answer.read(1) == b"x"
        theirs.sendall(b"x" * 9)
        with pytest.raises(TimeoutError, match="slower than 100"):
            # There is always something to read: no read ever waits.
            _body(answer, 1)


@pytest.mark.parametrize(
    ("target", "host"), [("/a b", "h"), ("/a\r\nX: y", "h"), ("", "h"), ("/", ""), ("/ä", "h"), ("/", "h\n")]
)
def test_a_request_is_one_line(target, host):
    with pytest.raises(ValueError, match="cannot be asked for"):
        request("GET", target, host, b"")


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nY: b"}, {"X": "a\nb"}, {"X y": "a"}, {"": "a"}, {"X:": "a"}, {"X": "\0"}]
)
def test_a_header_is_one_line(headers):
    with pytest.raises(ValueError, match="is no header"):
        header_lines(headers)


def test_a_request_as_it_is_sent():
    lines = header_lines({"A": "b c", "Pragma": ""})
    assert request("GET", "/x?y", "h:1", lines) == b"GET /x?y HTTP/1.1\r\nHost: h:1\r\nA: b c\r\nPragma: \r\n\r\n"
