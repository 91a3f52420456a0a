"""The stores of a client put together, in this one place: coalesced → cached → verified → failover → counted → http."""

from dataclasses import dataclass

from cvfs.client.cache.base import Cache
from cvfs.client.cache.choice import keeping, open_cache
from cvfs.client.settings import Settings
from cvfs.client.upstream import Upstream, external_upstream, own_upstream
from cvfs.errors import UsageError
from cvfs.store.base import Contents, Store
from cvfs.store.coalesced import Coalesced
from cvfs.store.counted import Traffic
from cvfs.store.routes import Routes
from cvfs.store.verified import Verified

# What df(1) shows for a cache without a limit, or no cache.
_UNLIMITED = 2**50


@dataclass(frozen=True, slots=True)
class DataPlane:
    """Where a repository's bytes come from: documents by place, contents by hash, external contents, the cache."""

    store: Store
    contents: Contents
    external: Contents
    upstream: Upstream
    external_upstream: Upstream | None = None
    cache: Cache | None = None

    @property
    def routes(self) -> Routes:
        """Which server and proxy are in use."""
        return self.upstream.routes

    @property
    def external_routes(self) -> Routes | None:
        """The same for external contents, if they lie on other servers."""
        return self.external_upstream.routes if self.external_upstream else None

    def mirrors(self) -> tuple[Store, ...]:
        """Each server that is in use now as a store of its own; as text it is the server's URL."""
        return self.upstream.mirrors([server.url for server in self.routes.servers()])

    def traffic(self) -> Traffic:
        """What was fetched since the start."""
        counts = [upstream.ways.traffic() for upstream in self._upstreams()]
        return Traffic(sum(c.requests for c in counts), sum(c.bytes for c in counts), sum(c.seconds for c in counts))

    def cache_usage(self) -> tuple[int, int]:
        """Bytes used and allowed."""
        used, quota = self.cache.usage() if self.cache else (0, None)
        return used, _UNLIMITED if quota is None else quota

    def close(self) -> None:
        """Close connections and cache."""
        for upstream in self._upstreams():
            upstream.close()
        if self.cache:
            self.cache.close()

    def _upstreams(self) -> list[Upstream]:
        return [upstream for upstream in (self.upstream, self.external_upstream) if upstream]


def connect(settings: Settings) -> DataPlane:
    """The data plane that the settings describe; prepares the cache.

    Contacts nobody, unless the proxies are to be found by a configuration script: that is waited for.
    """
    network = settings.network
    if not network.servers:
        raise UsageError(
            f"{settings.fqrn}: no server known, set CVMFS_SERVER_URL (-w URL) and CVMFS_PUBLIC_KEY (-k FILE), or have a "
            "configuration that does: /etc/cvmfs, ~/.config/cvfs, or one named by CVFS_ETC or --etc"
        )
    own, external = own_upstream(network), external_upstream(network)
    cache = open_cache(settings.cache)
    contents = _contents(settings, own.store, cache)
    outside = _contents(settings, external.store, cache) if external else contents
    return DataPlane(own.store, contents, outside, own, external, cache)


def _contents(settings: Settings, store: Store, cache: Cache | None) -> Contents:
    # Large objects on their way lie beside the cache, not in memory.
    verified = Verified(store, cache.staging if cache else None)
    return Coalesced(keeping(settings.cache, cache, verified))
