"""Messages of HTTP are counted however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.network.framing import Exchange, Unframed

REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\nX: y\r\n\r\nGET /d HTTP/1.1\r\n\r\n"
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345"
    b"HTTP/1.1 200 OK\r\ncontent-length: 700\r\n\r\n"
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length:  4 \r\n\r\n\r\n\r\n"
)


def feed(messages, data, cuts):
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        messages.feed(data[start:end])


cuts = st.lists(st.integers(0, len(ANSWERS)), max_size=40).map(sorted)


@given(cuts, cuts)
def test_pieces_of_any_length_are_counted_alike(first, second):
    asked = []
    exchange = Exchange(asked.append)
    feed(exchange.requests, REQUESTS, [min(cut, len(REQUESTS)) for cut in first])
    feed(exchange.answers, ANSWERS, second)
    assert asked == [b"/a", b"/b", b"/c", b"/d"]
    assert exchange.requests.heads == 4
    assert exchange.requests.body_bytes == 0
    assert exchange.answers.body_bytes == 5 + 4


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_what_cannot_be_counted_is_refused(answer):
    exchange = Exchange(lambda _target: None)
    exchange.requests.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(Unframed):
        exchange.answers.feed(answer)
