"""The internal counters of a mount under the original's names, as `internal affairs` prints them; it counts nothing itself."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from cvfs.client.control import Answer
from cvfs.client.observe.mounted import Mounted
from cvfs.client.observe.state import state


class Counter(NamedTuple):
    """A number with the name that scripts look for."""

    name: str
    value: int
    description: str


# The kernel's operations by the original's names of counters.
_OPERATIONS = {
    "LOOKUP": ("cvmfs.n_fs_lookup", "Number of lookups"),
    "FORGET": ("cvmfs.n_fs_forget", "Number of inode forgets"),
    "BATCH_FORGET": ("cvmfs.n_fs_forget_multi", "Number of forgets of several inodes"),
    "GETATTR": ("cvmfs.n_fs_stat", "Number of stat calls that left the kernel"),
    "READLINK": ("cvmfs.n_fs_readlink", "Number of links read"),
    "OPEN": ("cvmfs.n_fs_open", "Number of file open calls that left the kernel"),
    "READ": ("cvmfs.n_fs_read", "Number of file reads that left the kernel"),
    "OPENDIR": ("cvmfs.n_fs_dir_open", "Number of directory open calls that left the kernel"),
    "READDIR": ("cvmfs.n_fs_readdir", "Number of directory pages read"),
    "READDIRPLUS": ("cvmfs.n_fs_readdirplus", "Number of directory pages read with attributes"),
    "GETXATTR": ("cvmfs.n_fs_getxattr", "Number of extended attributes asked for"),
    "LISTXATTR": ("cvmfs.n_fs_listxattr", "Number of lists of extended attributes"),
    "STATFS": ("cvmfs.n_fs_statfs", "Number of statfs calls"),
    "INTERRUPT": ("cvmfs.n_fs_interrupt", "Number of requests taken back by signals"),
}
_NUMBERS = (
    ("io_errors", "cvmfs.n_io_error", "Number of requests that failed with an I/O error"),
    ("in_flight", "cvmfs.no_waiting", "Requests that wait for the network or the disk"),
    ("open_objects", "cvmfs.no_open_files", "Number of currently open objects"),
    ("descriptors", "cvmfs.no_descriptors", "Number of descriptors of the process"),
    ("inodes", "inode_tracker.no_reference", "Inodes that the kernel may know"),
    ("catalogs_open", "catalog_mgr.n_loaded", "Loaded catalogs"),
    ("objects_opened", "fetch.n_invocations", "Number of objects opened"),
    ("objects_missed", "fetch.n_downloads", "Number of objects opened that were not in the cache"),
    ("fetched", "download.n_requests", "Number of HTTP requests"),
    ("received", "download.sz_transferred_bytes", "Number of transferred bytes"),
    ("cache_used", "cache.sz_used", "Bytes in the cache"),
    ("memory", "process.sz_resident", "Bytes of resident memory"),
)


def counters(found: dict[str, Any]) -> Iterator[Counter]:
    """The counters out of what `state` found, sorted by name; operations that never came count zero."""
    requests = found["requests"]
    listed = [Counter(name, requests.get(operation, 0), text) for operation, (name, text) in _OPERATIONS.items()]
    listed += [Counter(name, int(found[key]), text) for key, name, text in _NUMBERS]
    yield from sorted(listed)


def internal_affairs(mounted: Mounted) -> Answer:
    """Sections of text, and at the end the counters as `name|value|description`."""
    found = state(mounted)
    table = list(counters(found))
    text = "".join((_sections(found), _latencies(mounted), _table(table)))
    return Answer(text, data={counter.name: counter.value for counter in table})


def _sections(found: dict[str, Any]) -> str:
    revision = found["revision"]
    return (
        f"Inode Generation:\n  current-catalog-revision: {revision}  inodes: {found['inodes']}\n"
        "\nCache Mode: read-write\n"
        "Drainout Mode: No\n"
        "Maintenance Mode: No\n"
    )


def _latencies(mounted: Mounted) -> str:
    if mounted.latencies is None:
        return ""
    return f"\nLatency distribution of system calls:\n{mounted.latencies.text()}"


def _table(table: list[Counter]) -> str:
    lines = [f"{name}|{value}|{description}" for name, value, description in table]
    return "\n".join(["", "Raw Counters:", "Name|Value|Description", *lines, ""])
