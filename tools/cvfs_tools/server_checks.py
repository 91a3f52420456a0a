"""Whether every server is reachable through every proxy, asked all at once and within a deadline; it decides nothing."""

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cvfs.client.settings.network import NetworkSettings
from cvfs.errors import CvfsError
from cvfs.store.http import HttpOptions, HttpStore
from cvfs.store.patience import Timeouts
from cvfs.store.proxies import AUTO, DIRECT, parse_chain

_FILE_URL = "file://"
_MANIFEST = ".cvmfspublished"
_MOST_WAYS = 200
_AT_A_TIME = 16


class Way(NamedTuple):
    """A server by way of a proxy, or DIRECT."""

    server: str
    proxy: str


def ways(network: NetworkSettings) -> list[Way]:
    """Each server through each proxy; those that a script would find are left out."""
    groups = parse_chain(network.http_proxy, network.fallback_proxy).groups
    proxies = [proxy for group in groups for proxy in group if proxy.lower() != AUTO]
    return [Way(server, proxy) for server, proxy in itertools.product(network.servers, proxies)][:_MOST_WAYS]


def unreachable_ways(network: NetworkSettings) -> list[Way]:
    """Those that do not lead to a manifest, in order. Takes no longer than some time-outs, whatever hangs."""
    wanted = ways(network)
    rounds = -(-len(wanted) // _AT_A_TIME)
    deadline = time.monotonic() + 2 * rounds * max(network.timeout, network.timeout_direct) + 1
    reached = _those_that(lambda way: _leads_there(way, network), wanted, deadline)
    return [way for way in wanted if way not in reached]


def _those_that(test: Callable[[Way], bool], candidates: Iterable[Way], deadline: float) -> set[Way]:
    """The candidates that pass before the deadline; a thread that hangs is left behind."""
    waiting: queue.SimpleQueue[Way] = queue.SimpleQueue()
    for candidate in candidates:
        waiting.put(candidate)
    passed: set[Way] = set()

    def work() -> None:
        while True:
            try:
                way = waiting.get_nowait()
            except queue.Empty:
                return
            if test(way):
                passed.add(way)

    threads = [threading.Thread(target=work, name="way", daemon=True) for _ in range(_AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(passed)


def _leads_there(way: Way, network: NetworkSettings) -> bool:
    if way.server.startswith(_FILE_URL):
        return os.path.isfile(os.path.join(way.server.removeprefix(_FILE_URL), _MANIFEST))
    timeouts = Timeouts(network.timeout, network.timeout_direct, network.low_speed_limit)
    options = HttpOptions(network.follow_redirects, network.certificates)
    store = HttpStore(way.server, None if way.proxy == DIRECT else way.proxy, timeouts, options=options)
    try:
        return bool(next(store.fetch(_MANIFEST), b""))
    except CvfsError:
        return False
    finally:
        store.close()
