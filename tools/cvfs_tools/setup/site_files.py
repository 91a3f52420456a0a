"""What a site says of itself below /etc/cvmfs: proxy, repositories, quota, servers, keys; steps, none of them done."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from cvfs.client.settings.places import STANDARD_ETC
from cvfs.errors import UsageError
from cvfs_tools.setup.plan import SITE, File, Lines, Section, Step


@dataclass(frozen=True, slots=True)
class Site:
    """What is to be said; nothing is said of what is empty. `keys` are texts of public master keys by file name.

    `url` is where the `repositories` are served, `quota` in megabytes. Without a proxy a machine by itself is `single`. A list
    of repositories that the administrator wrote may be kept.
    """

    repositories: tuple[str, ...] = ()
    proxy: str | None = None
    url: str | None = None
    quota: int | None = None
    keys: Mapping[str, bytes] = field(default_factory=dict)
    single: bool = False
    etc: str = STANDARD_ETC
    keeps_list: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return not (self.repositories or self.proxy or self.url or self.quota or self.keys or self.single)


def site_files(site: Site) -> Section:
    """The files that say so. `default.local` is shared with the administrator; lines of ours come last, and win."""
    assigned = {
        "CVMFS_HTTP_PROXY": site.proxy,
        "CVMFS_CLIENT_PROFILE": "single" if site.single else "",
        "CVMFS_QUOTA_LIMIT": str(site.quota) if site.quota else "",
    }
    names = ",".join(site.repositories)
    listed = [_line(site.etc, "CVMFS_REPOSITORIES", names, gives_way=site.keeps_list)] if names else []
    steps = [_line(site.etc, name, value) for name, value in assigned.items() if value]
    return Section(SITE, (*listed, *steps, *_servers(site), *_keys(site)))


def _line(etc: str, name: str, value: str, *, gives_way: bool = False) -> Step:
    against = rb"\s*(?:export\s+)?%s=" % name.encode()
    return Lines(f"{etc}/default.local", (assignment(name, value),), against, gives_way)


def _servers(site: Site) -> list[Step]:
    if not site.url:
        return []
    line = assignment("CVMFS_SERVER_URL", site.url) + b"\n"
    return [File(f"{site.etc}/config.d/{fqrn}.conf", line) for fqrn in site.repositories]


def _keys(site: Site) -> list[Step]:
    return [File(f"{site.etc}/keys/{os.path.basename(name)}", text) for name, text in site.keys.items()]


def assignment(name: str, value: str) -> bytes:
    """A line of the configuration, as a shell reads it. Raises UsageError for what is no line."""
    if not value.isprintable():
        raise UsageError(f"{name}={value!r}: one line without control characters is needed")
    return f"{name}={shlex.quote(value)}".encode()
