"""Numbers of a mount as metrics of Prometheus, under the names that the original's exporter made known; it counts nothing.

The text goes out over the control socket, and to a file for the node exporter's textfile collector if one is named.
"""

import contextlib
import logging
import os
import re
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from cvfs import __version__
from cvfs.client.observe.affairs import counters
from cvfs.client.observe.mounted import Mounted
from cvfs.client.observe.state import hit_rate, state
from cvfs.store.proxies import shown
from cvfs.store.routes import Routes

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two writings of the file."""
_DAY = 86400.0


class Metric(NamedTuple):
    """One line with its head; `labels` besides the repository's."""

    name: str
    kind: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def prometheus(mounted: Mounted) -> str:
    """All metrics in the text format."""
    found = state(mounted)
    return "".join(_lines(found["fqrn"], metrics(found, mounted)))


def metrics(found: dict[str, Any], mounted: Mounted) -> Iterator[Metric]:
    """The metrics of what `state` found."""
    yield from _cache(found, mounted)
    yield from _network(found, mounted.plane.routes)
    yield from _repository(found)
    yield from _system(found)
    for name, value, description in counters(found):
        yield Metric(f"cvmfs_internal_{re.sub('[^a-z0-9_]', '_', name)}", "gauge", description, value)


def _cache(found: dict[str, Any], mounted: Mounted) -> Iterator[Metric]:
    yield Metric("cvmfs_cache_cached_bytes", "gauge", "Bytes in the cache.", found["cache_used"])
    yield Metric("cvmfs_cache_total_size_bytes", "gauge", "Limit of the cache.", found["cache_limit"])
    rate = hit_rate(found["objects_opened"], found["objects_missed"])
    if rate is not None:
        yield Metric("cvmfs_cache_hitrate", "gauge", "Objects opened that were in the cache (%).", rate)
    if mounted.plane.cache:
        cleanups = mounted.plane.cache.cleanups_within(_DAY)
        yield Metric("cvmfs_cache_ncleanup24", "gauge", "Cleanups of the cache in 24 hours.", cleanups)
    directory = mounted.settings.cache.directory
    with contextlib.suppress(OSError):
        if directory:
            disk = os.statvfs(directory)
            size, room = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
            yield Metric("cvmfs_cache_physical_size_bytes", "gauge", "Size of the cache's file system.", size)
            yield Metric("cvmfs_cache_physical_avail_bytes", "gauge", "Room on the cache's file system.", room)


def _network(found: dict[str, Any], routes: Routes) -> Iterator[Metric]:
    yield Metric("cvmfs_net_rx_total", "counter", "Bytes downloaded since the mount.", found["received"])
    yield Metric("cvmfs_net_ndownload_total", "counter", "Requests since the mount.", found["fetched"])
    active = (("proxy", found["proxy"]),)
    yield Metric("cvmfs_net_active_proxy", "gauge", "The proxy in use.", 1, active)
    for number, group in enumerate(routes.proxy_groups()):
        for proxy in group:
            labels = (("group", str(number)), ("url", shown(proxy.url)))
            yield Metric("cvmfs_net_proxy", "gauge", "Whether a proxy is thought to work.", not proxy.down, labels)
    yield Metric("cvmfs_net_timeout", "gauge", "Time-out with a proxy in seconds.", routes.timeouts.proxied)
    yield Metric("cvmfs_net_timeout_direct", "gauge", "Time-out without one in seconds.", routes.timeouts.direct)
    yield Metric("cvmfs_net_offline", "gauge", "Whether no way to the servers works.", bool(found["offline_since"]))
    if found["speed"] is not None:
        yield Metric("cvmfs_net_speed", "gauge", "Average speed of downloads in KiB/s.", found["speed"])


def _repository(found: dict[str, Any]) -> Iterator[Metric]:
    names = ("mountpoint", "version", "revision")
    labels = tuple((name, str(found[name])) for name in names)
    yield Metric("cvmfs_repo", "gauge", "Version and revision of the mount.", 1, labels)
    yield Metric("cvmfs_repo_version", "gauge", "The version as a number.", numeric_version(__version__))
    yield Metric("cvmfs_repo_revision", "gauge", "The revision shown.", found["revision"])
    yield Metric("cvmfs_repo_nclg", "gauge", "Loaded catalogs.", found["catalogs_open"])
    yield Metric("cvmfs_repo_uptime_seconds", "counter", "Time since the mount.", found["uptime"])
    started = int(time.time()) - found["uptime"]
    yield Metric("cvmfs_repo_mount_epoch_timestamp", "counter", "When it was mounted.", started)
    expires = -1 if found["expires"] is None else found["expires"]
    yield Metric("cvmfs_repo_expires_seconds", "gauge", "Time until the next check; -1: never.", expires)
    if found["whitelist_days"] is not None:
        yield Metric("cvmfs_repo_whitelist_days", "gauge", "Days until the whitelist expires.", found["whitelist_days"])
    yield Metric("cvmfs_repo_trouble", "gauge", "Whether the last check failed.", bool(found["trouble"]))


def _system(found: dict[str, Any]) -> Iterator[Metric]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield Metric("cvmfs_sys_cpu_user_total", "counter", "CPU seconds in user space.", round(usage.ru_utime, 2))
    yield Metric("cvmfs_sys_cpu_system_total", "counter", "CPU seconds in the kernel.", round(usage.ru_stime, 2))
    yield Metric("cvmfs_sys_memory_usage_bytes", "gauge", "Resident memory.", found["memory"])
    yield Metric("cvmfs_sys_maxfd", "gauge", "Limit of descriptors.", found["descriptor_limit"])
    yield Metric("cvmfs_sys_usedfd", "gauge", "Descriptors in use.", found["descriptors"])
    yield Metric("cvmfs_sys_pid", "gauge", "The process of the mount.", found["pid"])
    yield Metric("cvmfs_sys_nioerr_total", "counter", "I/O errors since the mount.", found["io_errors"])
    last = int(found["last_io_error"])
    yield Metric("cvmfs_sys_timestamp_last_ioerr", "counter", "Time of the last I/O error.", last)
    yield Metric("cvmfs_sys_drainout_mode", "gauge", "Always 0: nothing is drained.", 0)
    yield Metric("cvmfs_sys_maintenance_mode", "gauge", "Always 0: there is none.", 0)


def numeric_version(version: str) -> int:
    """`1.2.3` as 10203, the way the exporter does."""
    major, minor, patch = [*(int(part) for part in re.findall(r"\d+", version)), 0, 0, 0][:3]
    return major * 10000 + minor * 100 + patch


def _lines(fqrn: str, listed: Iterator[Metric]) -> Iterator[str]:
    """A name that comes several times, with other labels, has one head."""
    last = ""
    for metric in listed:
        if metric.name != last:
            yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
        last = metric.name
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in (("repo", fqrn), *metric.labels))
        value = int(metric.value) if metric.value == int(metric.value) else metric.value
        yield f"{metric.name}{{{labels}}} {value}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsFile:
    """Writes the metrics to a file once a minute, by way of a temporary one: who reads it never sees half of it."""

    def __init__(self, path: str, mounted: Mounted) -> None:
        self._path = path
        self._mounted = mounted
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end; the file goes, so that a mount that is over looks like none."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def write(self) -> None:
        """Once, now. Raises OSError."""
        temporary = f"{self._path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(prometheus(self._mounted))
        os.replace(temporary, self._path)

    def _run(self) -> None:
        while True:
            try:
                self.write()
            except Exception:
                log.exception("%s: the metrics could not be written", self._path)
            if self._stopped.wait(EVERY):
                return
