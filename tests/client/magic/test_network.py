"""Servers and proxies as the magic attributes tell them."""

from types import SimpleNamespace

import pytest

from cvfs.client.magic.network import NETWORK_ATTRIBUTES
from cvfs.errors import NoSuchAttribute
from cvfs.format.dirent import Flag
from cvfs.store.patience import Timeouts
from cvfs.store.proxy_groups import ProxyState
from cvfs.store.server_list import ServerState


def routes(servers, proxies=(("DIRECT",),), active=0, timeouts=None):
    """As much of the routes as is asked for."""
    states = tuple(ServerState(url, number == active, None) for number, url in enumerate(servers))
    groups = tuple(tuple(ProxyState(url, False, False) for url in group) for group in proxies)
    return SimpleNamespace(
        server=servers[active] if servers else "",
        servers=lambda: states,
        proxy=groups[0][0].url,
        proxy_groups=lambda: groups,
        timeouts=timeouts or Timeouts(5, 10),
    )


OWN = routes(("http://a", "http://b", "http://c"), (("http://p", "http://q"), ("DIRECT",)), active=1)
SECRET = routes(("http://a",), (("http://user:word@p:1",),))
OUTSIDE = routes(("http://x/data",), timeouts=Timeouts(7, 8))
NOWHERE = routes(())


def ask(name, entry, own=OWN, outside=OUTSIDE) -> bytes:
    plane = SimpleNamespace(routes=own, external_routes=outside)
    subject = SimpleNamespace(
        repository=SimpleNamespace(plane=plane), entry=entry, node=SimpleNamespace(path=b"/dir/file"), wait=False
    )
    [page] = NETWORK_ATTRIBUTES[f"user.{name}".encode()].value(subject)
    return page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("host", b"http://b"),
        ("host_list", b"http://b;http://c;http://a"),
        ("proxy", b"http://p"),
        ("proxy_list", b"http://p\nhttp://q\nDIRECT\n"),
        ("timeout", b"5"),
        ("timeout_direct", b"10"),
        ("external_host", b"http://x/data"),
        ("external_timeout", b"8"),
        ("proxy_list_external", b"DIRECT\n"),
    ],
)
def test_what_is_in_use(row, name, expected):
    assert ask(name, row(b"file")) == expected


def test_without_servers(row):
    missing = b"internal error: no hosts defined"
    assert [ask(name, row(b"f"), NOWHERE, NOWHERE) for name in ("host", "host_list", "external_host")] == [missing] * 3


def test_external_files_have_urls(row):
    external = row(b"file", flags=int(Flag.FILE | Flag.EXTERNAL))
    assert ask("external_url", external) == b"http://x/data/dir/file"
    assert ask("external_url", external, outside=None) == b"http://b/dir/file"
    with pytest.raises(NoSuchAttribute):
        ask("external_url", row(b"file"))


@pytest.mark.parametrize(("name", "expected"), [("proxy", b"http://p:1"), ("proxy_list", b"http://p:1\n")])
def test_passwords_are_not_for_everybody(row, name, expected):
    assert ask(name, row(b"file"), own=SECRET) == expected
