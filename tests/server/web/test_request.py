"""Heads of requests, targets and ranges, by tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfs.errors import FormatError
from cvfs_server.web.request import MAX_HEADERS, parse_request, path_segments


@pytest.mark.parametrize(
    ("head", "method", "segments", "keep_alive"),
    [
        (b"GET /cvmfs/a.b/x HTTP/1.1", "GET", (b"cvmfs", b"a.b", b"x"), True),
        (b"HEAD /x HTTP/1.1\r\nHost: h", "HEAD", (b"x",), True),
        (b"GET /x HTTP/1.1\r\nConnection: close", "GET", (b"x",), False),
        (b"GET /x HTTP/1.1\r\nconnection: foo, Close", "GET", (b"x",), False),
        (b"GET /x HTTP/1.1\r\nConnection: foo\r\nConnection: close", "GET", (b"x",), False),
        (b"GET /x HTTP/1.0", "GET", (b"x",), False),
        (b"GET /x HTTP/1.0\r\nConnection:Keep-Alive", "GET", (b"x",), True),
        (b"GET http://proxy.example:80/x HTTP/1.1", "GET", (b"x",), True),
        (b"GET /x HTTP/1.1\r\nContent-Length: 0", "GET", (b"x",), True),
        (b"POST /x HTTP/1.1", "POST", (b"x",), True),
        (b"GET /x HTTP/1.1\r\nPragma:", "GET", (b"x",), True),
        (b"OPTIONS * HTTP/1.1", "OPTIONS", (), True),
    ],
)
def test_a_head_is_read(head, method, segments, keep_alive):
    request = parse_request(head)

    assert (request.method, request.segments, request.keep_alive) == (method, segments, keep_alive)


def test_headers_are_found_by_lower_case_name_and_joined():
    assert parse_request(b"GET / HTTP/1.1\r\nA-b:  1 \r\na-B:2").headers == {b"a-b": b"1,2"}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET",
        b"GET /x",
        b"GET /x HTTP/2.0",
        b"GET /x HTTP/1.1 ",
        b"GET  /x HTTP/1.1",
        b"GET /x y HTTP/1.1",
        b"G\0T /x HTTP/1.1",
        b"\r\nGET /x HTTP/1.1",
        b"GET /x HTTP/1.1\r\nno colon",
        b"GET /x HTTP/1.1\r\nA: 1\r\n folded",
        b"GET /x HTTP/1.1\r\nA : 1",
        b"GET /x HTTP/1.1\r\n: 1",
        b"GET /x HTTP/1.1\r\nA: 1\nB: 2",
        b"GET /x HTTP/1.1\r\nA: \0",
        b"GET /x HTTP/1.1\r\nContent-Length: 5",
        b"GET /x HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5",
        b"GET /x HTTP/1.1\r\nContent-Length: +0",
        b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"GET /x HTTP/1.1" + b"\r\nA: 1" * (MAX_HEADERS + 1),
    ],
)
def test_a_head_that_may_mean_two_things_is_refused(head):
    with pytest.raises(FormatError, match="request"):
        parse_request(head)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_format_error(head):
    try:
        request = parse_request(head)
    except FormatError:
        return
    assert not {b"", b".", b".."} & set(request.segments)


@given(st.binary(max_size=60))
def test_segments_are_safe_to_join(target):
    for segment in path_segments(b"/" + target):
        assert segment not in {b"", b".", b".."}
        assert not {b"/", b"\0"} & {segment[i : i + 1] for i in range(len(segment))}


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        (b"/a/b", (b"a", b"b")),
        (b"//a///b", (b"a", b"b")),
        (b"/a%20b", (b"a b",)),
        (b"/%61", (b"a",)),
        (b"/a%2Fb", (b"a", b"b")),
        (b"/%252e%252e/a", (b"%2e%2e", b"a")),
        (b"/a%zz", (b"a%zz",)),
        (b"/...", (b"...",)),
        (b"/a?b/../c", (b"a",)),
        (b"/a?", (b"a",)),
        (b"/\xff", (b"\xff",)),
        (b"HTTP://h/a", (b"a",)),
        (b"", ()),
        (b"/", ()),
        (b"a", ()),
        (b"*", ()),
        (b"/a/", ()),
        (b"/a/%2f", ()),
        (b"/a/..", ()),
        (b"/../a", ()),
        (b"/a/%2e%2E/b", ()),
        (b"/a/./b", ()),
        (b"/a%2f..%2fb", ()),
        (b"/a\0b", ()),
        (b"/a%00", ()),
        (b"/a#b", ()),
        (b"ftp://h/a", ()),
        (b"http://h", ()),
    ],
)
def test_targets(target, segments):
    assert path_segments(target) == segments


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        (b"bytes=0-0", 10, (0, 1)),
        (b"bytes=2-5", 10, (2, 4)),
        (b"bytes=2-", 10, (2, 8)),
        (b"bytes=2-99", 10, (2, 8)),
        (b"bytes=-3", 10, (7, 3)),
        (b"bytes=-30", 10, (0, 10)),
        (b"bytes=10-", 10, (10, 0)),
        (b"bytes=11-12", 10, (11, 0)),
        (b"bytes=-0", 10, (10, 0)),
        (b"bytes=0-", 0, (0, 0)),
        (b"bytes=5-2", 10, None),
        (b"bytes=-", 10, None),
        (b"bytes=1-2,4-5", 10, None),
        (b"bytes=a-b", 10, None),
        (b"lines=1-2", 10, None),
        (b"bytes=" + b"9" * 5000 + b"-", 10, None),
    ],
)
def test_ranges(header, size, span):
    assert parse_request(b"GET /x HTTP/1.1\r\nRange: " + header).span(size) == span


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.1",
        b"HEAD /x HTTP/1.1\r\nRange: bytes=0-1",
        b'GET /x HTTP/1.1\r\nRange: bytes=0-1\r\nIf-Range: "v1"',
        b"GET /x HTTP/1.1\r\nRange: bytes=0-1\r\nRange: bytes=3-4",
    ],
)
def test_no_single_range_means_the_whole(head):
    assert parse_request(head).span(10) is None
