"""All parameters of one repository as one frozen value, a part for each who obeys them; reads no environment.

Parameter names, units and defaults are those of CernVM-FS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cvfs.client.settings.cache import CacheSettings
from cvfs.client.settings.mount import MountSettings
from cvfs.client.settings.network import NetworkSettings
from cvfs.client.settings.parameters import Parameters, parse_root_hash
from cvfs.client.settings.tree import DEFAULT_MOUNT_DIR
from cvfs.client.settings.trust import TrustSettings, beside
from cvfs.client.settings.view import ViewSettings
from cvfs.errors import UsageError
from cvfs.format.fqrn import check_fqrn
from cvfs.hashes import ContentHash


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides how one repository is read. `max_ttl` in seconds; by itself it is mounted below `mount_dir`."""

    fqrn: str
    network: NetworkSettings = field(default_factory=NetworkSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    mount: MountSettings = field(default_factory=MountSettings)
    tag: str | None = None
    date: str | None = None
    root_hash: ContentHash | None = None
    auto_update: bool = True
    max_ttl: float | None = None
    mount_dir: str = DEFAULT_MOUNT_DIR
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """One revision only: the mount never follows."""
        return bool(self.tag or self.date or self.root_hash) or not self.auto_update

    def with_absolute_places(self) -> "Settings":
        """The same for a process that works elsewhere."""
        return replace(
            self,
            trust=self.trust.with_absolute_places(),
            cache=self.cache.with_absolute_places(),
            view=self.view.with_absolute_places(),
            mount=self.mount.with_absolute_places(),
        )


def settings_from(fqrn: str, parameters: Mapping[str, str]) -> Settings:
    """The settings of a repository from `CVMFS_*` parameters. Raises UsageError naming the parameter at fault."""
    check_fqrn(fqrn)
    get = Parameters(fqrn, parameters)
    cache = CacheSettings.of(get)
    return Settings(
        fqrn=fqrn,
        network=NetworkSettings.of(get),
        trust=TrustSettings.of(get),
        cache=cache,
        view=ViewSettings.of(get),
        mount=MountSettings.of(get, cache.directory),
        tag=get.optional("CVMFS_REPOSITORY_TAG"),
        date=get.optional("CVMFS_REPOSITORY_DATE"),
        root_hash=get.root_hash("CVMFS_ROOT_HASH"),
        auto_update=get.flag("CVMFS_AUTO_UPDATE", default=True),
        max_ttl=get.number("CVMFS_MAX_TTL_SECS", 0) or get.number("CVMFS_MAX_TTL", 0) * 60 or None,
        mount_dir=get.optional("CVMFS_MOUNT_DIR") or DEFAULT_MOUNT_DIR,
        variables=get.all(),
    )


def settings_for_url(
    url: str,
    public_key: str | None,
    *,
    fqrn: str | None = None,
    cache_dir: str | None = None,
    tag: str | None = None,
    root_hash: str | None = None,
    proxy: str | None = None,
) -> Settings:
    """The settings of a repository that is read without a configuration: its URL says nearly everything."""
    servers = tuple(part.strip().rstrip("/") for part in url.split(";") if part.strip())
    name = fqrn or (servers[0].rsplit("/", 1)[-1] if servers else "")
    check_fqrn(name)
    if not public_key and not root_hash:
        raise UsageError(f"{name}: a public key, or a root hash to pin, is needed to trust the repository")
    return Settings(
        fqrn=name,
        network=NetworkSettings(servers=servers, http_proxy=proxy or "DIRECT"),
        trust=TrustSettings(
            public_keys=(public_key,) if public_key else (), state=beside(cache_dir, "") if cache_dir else None
        ),
        cache=CacheSettings(directory=cache_dir),
        tag=tag,
        root_hash=parse_root_hash("root_hash", root_hash) if root_hash else None,
    )
