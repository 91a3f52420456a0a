"""The syntax of CVMFS_HTTP_PROXY and its fallback, what scripts answer, and which proxy an object belongs to."""

import pytest

from cvfs.errors import FormatError, Unreachable, UsageError
from cvfs.store.pac import parse_answer
from cvfs.store.proxies import (
    ProxyChain,
    address_of,
    at_address,
    expand_auto,
    format_groups,
    parse_chain,
    parse_groups,
    shard_order,
    shown,
)

A, B, C = "http://a:3128", "http://b:3128", "http://c:8080"


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("", ()),
        (" ; | ;", ()),
        ("DIRECT", (("DIRECT",),)),
        ("direct", (("DIRECT",),)),
        (A, ((A,),)),
        ("a:3128", ((A,),)),
        ("http://a", (("http://a:1080",),)),
        ("https://a", (("https://a:443",),)),
        (f"{A}|{B}", ((A, B),)),
        (f"{A}|{A}", ((A,),)),
        (f" {A} | {B} ; {C} ;; DIRECT ", ((A, B), (C,), ("DIRECT",))),
        (f"{A}/", ((A,),)),
        ("http://[2001:db8::1]:3128", (("http://[2001:db8::1]:3128",),)),
        ("[2001:db8::1]:3128", (("http://[2001:db8::1]:3128",),)),
        ("http://me:secret@a:3128", (("http://me:secret@a:3128",),)),
        ("http://a_b.example.org:3128", (("http://a_b.example.org:3128",),)),
        ("HTTP://A:3128", (("http://A:3128",),)),
        (f"auto;{A}", (("auto",), (A,))),
    ],
)
def test_groups(text, groups):
    got = parse_groups(text)
    assert tuple(tuple(p.lower() if p.startswith("http") else p for p in g) for g in got) == tuple(
        tuple(p.lower() if p.startswith("http") else p for p in g) for g in groups
    )
    assert parse_groups(format_groups(got)) == got


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a:1",
        "socks5://a:1080",
        "http://a:x",
        "http://a:70000",
        "http://",
        "http://a/path",
        "http://a?x=1",
        "http://a b:1",
        "http://a\n:1",
        "[::1:3128",
        "|".join(f"p{number}:1" for number in range(1001)),
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(UsageError):
        parse_groups(text)


@pytest.mark.parametrize(
    ("proxies", "fallback", "chain"),
    [
        ("", "", ProxyChain((("DIRECT",),), 1)),
        ("DIRECT", "", ProxyChain((("DIRECT",),), 1)),
        (f"{A};DIRECT", "", ProxyChain(((A,), ("DIRECT",)), 2)),
        # Fallback proxies take the place of DIRECT.
        (f"{A}|DIRECT;DIRECT", B, ProxyChain(((A,), (B,)), 1)),
        ("DIRECT", f"{B};{C}", ProxyChain(((B,), (C,)), 0)),
        ("", B, ProxyChain(((B,),), 0)),
        (A, "DIRECT", ProxyChain(((A,),), 1)),
        (A, f"{B}|DIRECT", ProxyChain(((A,), (B,)), 1)),
    ],
)
def test_the_fallback(proxies, fallback, chain):
    assert parse_chain(proxies, fallback) == chain


def test_addresses():
    assert address_of("http://u:p@host:3128") == ("http", "host", 3128)
    assert at_address("http://u:p@host:3128", "192.0.2.1") == "http://u:p@192.0.2.1:3128"
    assert at_address("https://host", "2001:db8::1") == "https://[2001:db8::1]:443"
    assert shown("http://u:p@host:3128") == A.replace("a", "host")
    assert (shown("DIRECT"), shown("u:p@host")) == ("DIRECT", "host")


def test_an_object_belongs_to_the_same_proxy_everywhere_and_moves_only_when_that_is_gone():
    proxies, paths = [A, B, C], [f"data/{number:02x}/x" for number in range(256)]
    before = {path: shard_order(proxies, path)[0] for path in paths}
    assert before == {path: shard_order(reversed(proxies), path)[0] for path in paths}
    assert all(50 < list(before.values()).count(proxy) < 120 for proxy in proxies)
    for path in paths:
        assert shard_order([A, B], path)[0] == (before[path] if before[path] != C else shard_order(proxies, path)[1])


@pytest.mark.parametrize(
    ("answer", "proxies"),
    [
        ("DIRECT", "DIRECT"),
        ("PROXY a:3128; PROXY b:3128; DIRECT", "http://a:3128;http://b:3128;DIRECT"),
        ("HTTPS a:443;SOCKS b:1080", "https://a:443"),
        ("proxy a:3128 ;", "http://a:3128"),
    ],
)
def test_answers_of_scripts(answer, proxies):
    assert parse_answer(answer) == proxies


@pytest.mark.parametrize("answer", ["", "SOCKS a:1", "undefined", "PROXY", "PROXY a b:1", "PROXY a:99999"])
def test_answers_that_are_none(answer):
    with pytest.raises(FormatError, match="the script answers"):
        parse_answer(answer)


@pytest.mark.parametrize(
    ("proxies", "expanded"),
    [("auto", f"{A};{B}"), (f"auto;{C}", f"{A};{B};{C}"), (f"{C}; AUTO ", f"{C};{A};{B}"), (C, C), ("", "")],
)
def test_auto_is_expanded(proxies, expanded):
    assert expand_auto(proxies, lambda: f"{A};{B}") == expanded


def test_what_discovery_does_not_find_the_other_groups_replace():
    def fail():
        raise Unreachable("no script")

    assert expand_auto(f"auto;{C}", fail) == C
    with pytest.raises(Unreachable):
        expand_auto("auto", fail)
    with pytest.raises(UsageError):
        expand_auto(f"auto|{C}", fail)
