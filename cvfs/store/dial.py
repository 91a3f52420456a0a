"""TCP connections to a host by name, within a deadline that holds for all of its addresses together."""

import socket
import time
from collections.abc import Iterable

from cvfs.errors import Trouble, Unreachable
from cvfs.store.names import Names

_LEAST = 0.05


def dial(
    names: Names, host: str, port: int, within: float, options: Iterable[tuple[int, int, int | bytes]] = ()
) -> socket.socket:
    """A connected socket, whose time-out is what is left of `within` seconds.

    The addresses are tried in order, the next one when the one before has failed or has had its share of the time.
    Raises Unreachable.
    """
    deadline = time.monotonic() + within
    addresses = names.addresses(host, within)
    failure = f"{host}: no address"
    for number, address in enumerate(addresses):
        left = max(_LEAST, deadline - time.monotonic())
        try:
            connected = _connect(address, port, left / (len(addresses) - number), options)
        except OSError as error:
            failure = f"{address} port {port}: {error.strerror or error}"
            continue
        connected.settimeout(max(_LEAST, deadline - time.monotonic()))
        return connected
    raise Unreachable(failure, Trouble.NOT_CONNECTED)


def _connect(address: str, port: int, within: float, options: Iterable[tuple[int, int, int | bytes]]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            connecting.setsockopt(*option)
        connecting.settimeout(within)
        connecting.connect((address, port))
    except BaseException:
        connecting.close()
        raise
    return connecting
