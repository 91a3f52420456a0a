"""Magic attributes of the mount itself: revision, trust, counters, process; it holds whom to ask, and asks nobody before.

Source: FORMAT section 9.7.
"""

import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cvfs import __version__
from cvfs.client.local_file import read_local
from cvfs.client.magic.attributes import CONTROL_ATTRIBUTE, Magic, MagicAttributes, Subject, in_pages, nothing
from cvfs.client.magic.entries import ENTRY_ATTRIBUTES
from cvfs.client.magic.network import NETWORK_ATTRIBUTES
from cvfs.client.settings import Settings
from cvfs.client.trust_anchors import key_files
from cvfs.errors import NoSuchAttribute, UsageError
from cvfs.hashes import ObjectKind
from cvfs.store.base import Wanted

_DAY = 86400.0
_LONGEST_METAINFO = 65536
_LONGEST_KEY = 65536


@dataclass(frozen=True, slots=True)
class Observation:
    """What a mount knows of itself, asked for when somebody reads an attribute. Times in Unix seconds.

    `control` is the place of the control socket, `due` the time of the next check for a new revision, `requests` counts the
    kernel's requests by name, `io_errors` tells how many there were and when the last one, `log` gives the last messages,
    newest first, `highest_inode` the largest number in use.
    """

    control: Callable[[], str]
    due: Callable[[], float]
    started: float
    requests: Callable[[], Mapping[str, int]] = dict
    io_errors: Callable[[], tuple[int, float]] = lambda: (0, 0.0)
    log: Callable[[], str] = str
    highest_inode: Callable[[], int] = lambda: 1


def magic_attributes(settings: Settings, observed: Observation) -> MagicAttributes:
    """All magic attributes of a mount."""
    return MagicAttributes(
        {
            **ENTRY_ATTRIBUTES,
            **NETWORK_ATTRIBUTES,
            **_of_repository(settings),
            **_of_process(settings, observed),
            **_of_traffic(observed),
        },
        visibility=settings.view.magic.visibility,
        protected=frozenset(name.encode() for name in settings.view.magic.protected),
        privileged=settings.view.magic.privileged_groups,
    )


def _of_repository(settings: Settings) -> dict[bytes, Magic]:
    return {
        b"user.authz": Magic(_membership, nothing),
        b"user.fqrn": _text(lambda _: settings.fqrn),
        b"user.pubkeys": Magic(lambda s: _public_keys(settings, s)),
        b"user.repo_metainfo": Magic(_metainfo),
        b"user.revision": _text(lambda s: s.repository.number),
        b"user.root_hash": _text(lambda s: s.repository.revision.root_hash),
        b"user.tag": _text(lambda s: s.repository.revision.tag),
    }


def _of_process(settings: Settings, observed: Observation) -> dict[bytes, Magic]:
    return {
        CONTROL_ATTRIBUTE: Magic(lambda _: [os.fsencode(observed.control())], nothing),
        b"user.expires": _text(lambda _: _expires(settings, observed)),
        b"user.inode_max": _text(lambda _: observed.highest_inode()),
        b"user.logbuffer": _text(lambda _: observed.log()),
        b"user.maxfd": _text(lambda _: resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        b"user.nclg": _text(lambda s: len(s.repository.tree.open_catalogs())),
        b"user.nioerr": _text(lambda _: observed.io_errors()[0]),
        b"user.pid": _text(lambda _: os.getpid()),
        b"user.timestamp_last_ioerr": _text(lambda _: int(observed.io_errors()[1])),
        b"user.uptime": _text(lambda _: int(time.time() - observed.started) // 60),
        b"user.usedfd": _text(lambda _: len(os.listdir("/proc/self/fd"))),
        b"user.useddirp": _text(lambda _: _open_directories(observed.requests())),
        b"user.version": _text(lambda _: __version__),
    }


def _of_traffic(observed: Observation) -> dict[bytes, Magic]:
    return {
        b"user.hitrate": _text(_hit_rate),
        b"user.ncleanup24": _text(_cleanups),
        b"user.ndiropen": _text(lambda _: _opened(observed.requests(), "OPENDIR", "READDIRPLUS")),
        b"user.ndownload": _text(lambda s: s.repository.plane.traffic().requests),
        b"user.nopen": _text(lambda s: max(s.reader.opens, observed.requests().get("OPEN", 0))),
        b"user.rx": _text(lambda s: s.repository.plane.traffic().bytes // 1024),
        b"user.speed": _text(_speed),
    }


def _text(value: Callable[[Subject], object]) -> Magic:
    """One page with a text, whatever it is a text of."""
    return Magic(lambda subject: [str(value(subject)).encode("utf-8", "surrogateescape")])


def _expires(settings: Settings, observed: Observation) -> str:
    """Minutes until the next check."""
    return "never (fixed root catalog)" if settings.pinned else str(max(0, int(observed.due() - time.time()) // 60))


def _opened(requests: Mapping[str, int], message: str, instead: str) -> int:
    """A mount without open messages sees one of them at most, so what follows them is counted."""
    return max(requests.get(message, 0), requests.get(instead, 0))


def _open_directories(requests: Mapping[str, int]) -> int:
    return max(0, requests.get("OPENDIR", 0) - requests.get("RELEASEDIR", 0)) if requests.get("RELEASEDIR") else 0


def _hit_rate(subject: Subject) -> str:
    opened, missed = subject.reader.opens, subject.reader.misses
    return "n/a" if opened == 0 else f"{100.0 * max(0, opened - missed) / opened:.3f}"


def _cleanups(subject: Subject) -> int:
    cache = subject.repository.plane.cache
    return cache.cleanups_within(_DAY) if cache else -1


def _speed(subject: Subject) -> str:
    """KiB per second, while something was received."""
    traffic = subject.repository.plane.traffic()
    return str(int(traffic.bytes / 1024 / traffic.seconds)) if traffic.seconds > 0 else "n/a"


def _membership(subject: Subject) -> list[bytes]:
    required = subject.repository.tree.root(wait=subject.wait).properties.get("voms_authz")
    if required is None:
        raise NoSuchAttribute("the repository is open to everybody")
    return [required.encode("utf-8", "surrogateescape")]


def _metainfo(subject: Subject) -> list[bytes]:
    """What the repository says of itself, JSON as it was published (FORMAT section 8.1)."""
    verified = subject.repository.revision.verified
    if verified is None:
        return [b"manifest not available"]
    content = verified.manifest.metainfo
    if content is None:
        return [b"metainfo not available"]
    wanted, contents = Wanted(content.as_kind(ObjectKind.METAINFO)), subject.repository.plane.contents
    descriptor = contents.open(wanted) if subject.wait else contents.open_present(wanted)
    if descriptor is None:
        raise BlockingIOError
    with open(descriptor, "rb") as file:
        file.seek(0)
        data = file.read(_LONGEST_METAINFO + 1)
    return [b"Failed to open: metadata file is too big" if len(data) > _LONGEST_METAINFO else data]


def _public_keys(settings: Settings, subject: Subject) -> list[bytes]:
    """The master keys as they are on disk now."""
    if not subject.wait:
        raise BlockingIOError
    return in_pages([_read_key(name) for name in key_files(settings)])


def _read_key(name: str) -> bytes:
    try:
        return read_local(name, _LONGEST_KEY)
    except UsageError:
        return b""
