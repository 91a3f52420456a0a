"""Which servers are near: measured, or told by a server that knows where machines are; bounded in time, changes nothing."""

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from cvfs.errors import FormatError, StoreError
from cvfs.store.base import Store, fetch_document

_DOCUMENT = ".cvmfspublished"
_LONGEST_ANSWER = 4096
_MOST_SERVERS = 100


def probe_round_trips(mirrors: Mapping[str, Store], within: float) -> dict[str, float]:
    """Seconds that a manifest takes from each server, all asked at once. Those that have not answered are left out."""
    found: dict[str, float] = {}

    def measure(url: str, mirror: Store) -> None:
        began = time.monotonic()
        try:
            fetch_document(mirror, _DOCUMENT)
        except StoreError:
            return
        found[url] = time.monotonic() - began

    threads = [
        threading.Thread(target=measure, args=probe, name="probe", daemon=True)
        for probe in list(mirrors.items())[:_MOST_SERVERS]
    ]
    deadline = time.monotonic() + within
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def probe_geo(store: Store, servers: Sequence[str], caller: str = "") -> list[str]:
    """The servers, nearest to `caller` (a proxy's name; without one the machine that asks) first, as a server sees it.

    Raises StoreError, or FormatError for an answer that is not an order of these servers.
    """
    hosts = ",".join(urlsplit(url).hostname or url for url in servers)
    place = f"api/v1.0/geo/{caller or uuid.uuid4()}/{hosts}"
    return [servers[number] for number in parse_order(fetch_document(store, place, _LONGEST_ANSWER), len(servers))]


def parse_order(answer: bytes, count: int) -> list[int]:
    """`2,1,3` as positions from 0. Raises FormatError if it is anything but each number from 1 to `count` once."""
    try:
        numbers = [int(part) for part in answer.decode("ascii").strip().split(",")]
    except ValueError as error:
        raise FormatError(f"the geo API answers {answer[:60]!r}, not an order of {count} servers") from error
    if sorted(numbers) != list(range(1, count + 1)):
        raise FormatError(f"the geo API answers {answer[:60]!r}, not an order of {count} servers")
    return [number - 1 for number in numbers]
