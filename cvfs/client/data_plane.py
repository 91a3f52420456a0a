"""The stores of a client put together, in this one place: coalesced → cached → verified → failover → counted → http."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cvfs.client.cache.base import Cache
from cvfs.client.cache.choice import keeping, open_cache
from cvfs.client.settings import Settings
from cvfs.errors import UsageError
from cvfs.store.base import Contents, Store
from cvfs.store.coalesced import Coalesced
from cvfs.store.counted import Counted, Traffic
from cvfs.store.failover import Failover
from cvfs.store.http import HttpStore, Timeouts
from cvfs.store.local import LocalStore
from cvfs.store.verified import Verified

# What df(1) shows for a cache without a limit, or no cache.
_UNLIMITED = 2**50
_FILE_URL = "file://"


@dataclass(frozen=True, slots=True)
class DataPlane:
    """Where a repository's bytes come from: documents by place, contents by hash, external contents, the cache."""

    store: Store
    contents: Contents
    external: Contents
    traffic: Callable[[], Traffic]
    cache: Cache | None = None
    mirrors: tuple[Counted, ...] = ()
    outside: tuple[Counted, ...] = ()

    def cache_usage(self) -> tuple[int, int]:
        """Bytes used and allowed."""
        used, quota = self.cache.usage() if self.cache else (0, None)
        return used, _UNLIMITED if quota is None else quota

    def close(self) -> None:
        """Close connections and cache."""
        for server in (*self.mirrors, *self.outside):
            server.close()
        if self.cache:
            self.cache.close()


def connect(settings: Settings) -> DataPlane:
    """The data plane that the settings describe; prepares the cache, contacts nobody."""
    if not settings.network.servers:
        raise UsageError(f"{settings.fqrn}: no server known, set CVMFS_SERVER_URL")
    servers = [Counted(_server(settings, url)) for url in settings.network.servers]
    external = [Counted(_server(settings, url)) for url in settings.network.external_servers]
    cache = open_cache(settings.cache)
    store = _in_order(servers)
    contents = _contents(settings, store, cache)
    outside = _contents(settings, _in_order(external), cache) if external else contents
    return DataPlane(
        store, contents, outside, partial(_total, (*servers, *external)), cache, tuple(servers), tuple(external)
    )


def _total(stores: Sequence[Counted]) -> Traffic:
    traffic = [store.traffic for store in stores]
    return Traffic(sum(t.requests for t in traffic), sum(t.bytes for t in traffic))


def _in_order(stores: Sequence[Store]) -> Store:
    return stores[0] if len(stores) == 1 else Failover(stores)


def _contents(settings: Settings, store: Store, cache: Cache | None) -> Contents:
    # Large objects on their way lie beside the cache, not in memory.
    verified = Verified(store, cache.staging if cache else None)
    return Coalesced(keeping(settings.cache, cache, verified))


def _server(settings: Settings, url: str) -> Store:
    if url.startswith(_FILE_URL):
        return LocalStore(url.removeprefix(_FILE_URL))
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url}: not a server URL, it starts with http://, https:// or file://")
    timeouts = Timeouts(settings.network.timeout, settings.network.timeout_direct, settings.network.low_speed_limit)
    return HttpStore(url, settings.network.proxy, timeouts)
