"""What a mount says of itself in numbers: the one source of `stat`, of metrics and of internal affairs; it changes nothing."""

import os
import resource
import time
from typing import Any

from cvfs import __version__
from cvfs.client.observe.mounted import Mounted
from cvfs.store.proxies import shown


def state(mounted: Mounted) -> dict[str, Any]:
    """Everything by name. Sizes in bytes, spans in seconds, moments in Unix seconds."""
    return {**_identity(mounted), **_revision(mounted), **_volume(mounted), **_network(mounted)}


def _identity(mounted: Mounted) -> dict[str, Any]:
    return {
        "fqrn": mounted.settings.fqrn,
        "mountpoint": mounted.mountpoint,
        "version": __version__,
        "pid": mounted.pid,
        "uptime": int(time.time() - mounted.started),
        "memory": resident_memory(),
        "descriptors": open_descriptors(),
        "descriptor_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _revision(mounted: Mounted) -> dict[str, Any]:
    repository = mounted.repository
    freshness = mounted.refresher.freshness
    return {
        "revision": repository.number,
        "root_hash": str(repository.revision.root_hash),
        "expires": None if _is_fixed(mounted) else max(0, int(mounted.refresher.due - time.time())),
        "trouble": freshness.trouble,
        "checked": freshness.checked,
        "succeeded": freshness.succeeded,
        "whitelist_days": repository.revision.whitelist_days(time.time()),
        "catalogs_open": len(repository.tree.open_catalogs()),
    }


def _is_fixed(mounted: Mounted) -> bool:
    """Nothing newer is looked for: by the settings, or since another root catalog was asked for."""
    return mounted.settings.pinned or mounted.refresher.held


def _volume(mounted: Mounted) -> dict[str, Any]:
    used, limit = mounted.plane.cache_usage()
    io_errors, last_io_error = mounted.server.io_errors()
    return {
        "inodes": mounted.volume.known_inodes(),
        "open_objects": len(mounted.reader.files),
        "cache_used": used,
        "cache_limit": limit,
        "objects_opened": mounted.reader.opens,
        "objects_missed": mounted.reader.misses,
        "io_errors": io_errors,
        "last_io_error": last_io_error,
        "in_flight": mounted.server.in_flight(),
        "requests": mounted.server.counters(),
    }


def _network(mounted: Mounted) -> dict[str, Any]:
    routes, traffic = mounted.plane.routes, mounted.plane.traffic()
    return {
        "fetched": traffic.requests,
        "received": traffic.bytes,
        "speed": round(traffic.bytes / 1024 / traffic.seconds) if traffic.seconds else None,
        "servers": [server.url for server in routes.servers()],
        "server": routes.server,
        "proxy": shown(routes.proxy),
        "offline_since": routes.offline_since,
        "failovers": routes.failovers._asdict(),
    }


def resident_memory() -> int:
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def hit_rate(opened: int, missed: int) -> float | None:
    """Per cent of the objects opened that were in the cache; None before the first."""
    return None if opened == 0 else 100.0 * max(0, opened - missed) / opened
