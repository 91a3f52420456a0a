"""New settings for a running mount, without unmounting: what can be obeyed at once is, and the rest is named.

Nothing is drained: readers go on all the while. What a mount is made of stays as it is: cache, view, process.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from cvfs.client.observe.logs import Logs
from cvfs.client.observe.mounted import Mounted
from cvfs.client.settings import Settings
from cvfs.client.settings.network import NetworkSettings
from cvfs.store.routes import Routes

log = logging.getLogger(__name__)

AT_ONCE = frozenset(
    {
        "CVMFS_SERVER_URL",
        "CVMFS_HTTP_PROXY",
        "CVMFS_FALLBACK_PROXY",
        "CVMFS_TIMEOUT",
        "CVMFS_TIMEOUT_DIRECT",
        "CVMFS_EXTERNAL_URL",
        "CVMFS_EXTERNAL_HTTP_PROXY",
        "CVMFS_EXTERNAL_FALLBACK_PROXY",
        "CVMFS_EXTERNAL_TIMEOUT",
        "CVMFS_EXTERNAL_TIMEOUT_DIRECT",
        "CVMFS_QUOTA_LIMIT",
        "CVMFS_MAX_TTL",
        "CVMFS_PUBLIC_KEY",
        "CVMFS_KEYS_DIR",
        "CVMFS_BLACKLIST",
        "CVFS_MAX_MANIFEST_AGE",
        "CVFS_MINIMUM_REVISION",
        "CVFS_WHITELIST_WARN_DAYS",
        "CVMFS_SYSLOG_LEVEL",
        "CVMFS_SYSLOG_FACILITY",
        "CVMFS_SYSLOG_PREFIX",
        "CVMFS_USYSLOG",
        "CVMFS_DEBUGLOG",
        "CVFS_LOG",
    }
)
"""Parameters that a running mount obeys as soon as it has read them."""


def apply(mounted: Mounted, logs: Logs, new: Settings) -> str:
    """Obey the new settings as far as that is possible at once; a line for each parameter that changed.

    Raises CvfsError for what makes no sense, Locked while a check for a new revision is under way.
    """
    old = mounted.settings
    changed = sorted(_changed(old, new))
    # First what may be refused as a whole.
    logs.apply(new.mount.logs)
    _redirect(mounted.plane.routes, _own(old.network), _own(new.network))
    if mounted.plane.external_routes:
        _redirect(mounted.plane.external_routes, _external(old.network), _external(new.network))
    if mounted.plane.cache and new.cache.quota != old.cache.quota:
        mounted.plane.cache.resize(new.cache.quota)
    mounted.refresher.reload(_obeyed(old, new))
    log.info("%s: configuration read again, changed: %s", new.fqrn, ", ".join(changed) or "nothing")
    return "".join(f"{line}\n" for line in _lines(changed)) or "nothing has changed\n"


def _changed(old: Settings, new: Settings) -> Iterator[str]:
    for name in old.variables.keys() | new.variables.keys():
        if old.variables.get(name, "") != new.variables.get(name, ""):
            yield name


def _lines(changed: list[str]) -> Iterator[str]:
    for name in changed:
        yield f"{name}: {'applied' if name in AT_ONCE else 'needs a new mount'}"


def _obeyed(old: Settings, new: Settings) -> Settings:
    """The settings that count from now on: what was not applied stays, so that it is named again next time."""
    kept = {name: text for name, text in old.variables.items() if name not in AT_ONCE}
    taken = {name: text for name, text in new.variables.items() if name in AT_ONCE}
    return replace(
        old,
        network=new.network,
        trust=replace(new.trust, state=old.trust.state),
        cache=replace(old.cache, quota=new.cache.quota),
        mount=replace(old.mount, logs=new.mount.logs),
        max_ttl=new.max_ttl,
        variables=kept | taken,
    )


class _Ways(NamedTuple):
    """What the settings say of the ways to servers; time-outs with and without a proxy."""

    servers: tuple[str, ...]
    proxies: str
    fallback: str
    timeouts: tuple[float, float]


def _own(network: NetworkSettings) -> _Ways:
    timeouts = (network.timeout, network.timeout_direct)
    return _Ways(network.servers, network.http_proxy, network.fallback_proxy, timeouts)


def _external(network: NetworkSettings) -> _Ways:
    timeouts = (network.external_timeout, network.external_timeout_direct)
    return _Ways(network.external_servers, network.external_http_proxy, network.external_fallback_proxy, timeouts)


def _redirect(routes: Routes, old: _Ways, new: _Ways) -> None:
    """Only what differs is set, so that what was learned about the ways is not forgotten for nothing."""
    if new.proxies != old.proxies:
        routes.set_proxies(new.proxies)
    if new.fallback != old.fallback:
        routes.set_fallback(new.fallback)
    if new.servers != old.servers:
        routes.set_servers(new.servers)
    if new.timeouts != old.timeouts:
        routes.set_timeouts(*new.timeouts)
