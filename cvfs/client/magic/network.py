"""Magic attributes of the network: servers, proxies, patience, as they are at this moment. Source: FORMAT section 9.7.

Anybody may read them, so a proxy's password is not among them.
"""

from collections.abc import Callable

from cvfs.client.magic.attributes import Magic, Subject, in_pages
from cvfs.errors import NoSuchAttribute
from cvfs.format.dirent import DirectoryEntry
from cvfs.store.proxies import shown
from cvfs.store.routes import Routes

_NO_HOST = b"internal error: no hosts defined"


def _routes(subject: Subject) -> Routes:
    return subject.repository.plane.routes


def _external(subject: Subject) -> Routes:
    return subject.repository.plane.external_routes or subject.repository.plane.routes


def _host(routes: Routes) -> bytes:
    return routes.server.encode() or _NO_HOST


def _host_list(subject: Subject) -> list[bytes]:
    """The server in use first, the others in their order behind it."""
    states = _routes(subject).servers()
    active = next((number for number, state in enumerate(states) if state.active), 0)
    return [b";".join(state.url.encode() for state in states[active:] + states[:active]) or _NO_HOST]


def _proxy_list(routes_of: Callable[[Subject], Routes]) -> Magic:
    def value(subject: Subject) -> list[bytes]:
        groups = routes_of(subject).proxy_groups()
        return in_pages([shown(state.url).encode() + b"\n" for group in groups for state in group]) or [b""]

    return Magic(value)


def _is_external(entry: DirectoryEntry) -> bool:
    return entry.is_regular and entry.is_external


def _external_url(subject: Subject) -> list[bytes]:
    if not _is_external(subject.entry):
        raise NoSuchAttribute("not an external file")
    return [_external(subject).server.encode() + subject.node.path]


def _seconds(seconds: float) -> list[bytes]:
    return [b"%d" % seconds]


NETWORK_ATTRIBUTES = {
    b"user.external_host": Magic(lambda s: [_host(_external(s))]),
    b"user.external_timeout": Magic(lambda s: _seconds(_external(s).timeouts.direct)),
    b"user.external_url": Magic(_external_url, _is_external),
    b"user.host": Magic(lambda s: [_host(_routes(s))]),
    b"user.host_list": Magic(_host_list),
    b"user.proxy": Magic(lambda s: [shown(_routes(s).proxy).encode()]),
    b"user.proxy_list": _proxy_list(_routes),
    b"user.proxy_list_external": _proxy_list(_external),
    b"user.timeout": Magic(lambda s: _seconds(_routes(s).timeouts.proxied)),
    b"user.timeout_direct": Magic(lambda s: _seconds(_routes(s).timeouts.direct)),
}
