"""Client parameters: `CVMFS_*` names and values in, one frozen value out; reads no environment.

Parameter names, units and defaults are those of CernVM-FS.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cvfs.errors import FormatError, UsageError
from cvfs.format.fqrn import check_fqrn
from cvfs.hashes import ContentHash, ObjectKind

DEFAULT_CACHE_BASE = "/var/lib/cvmfs"
DEFAULT_KEYS_DIR = "/etc/cvmfs/keys"
DEFAULT_BLACKLIST = "/etc/cvmfs/blacklist"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_TRUE = frozenset({"yes", "on", "1", "true"})
_LARGEST = 2**31 - 1
_FALSE = frozenset({"no", "off", "0", "false"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides how one repository is read. Times in seconds, sizes in bytes."""

    fqrn: str
    servers: tuple[str, ...]
    public_keys: tuple[str, ...]
    proxy: str | None = None
    cache_dir: str | None = None
    quota: int | None = 4000 * 2**20
    timeout: float = 5
    timeout_direct: float = 10
    low_speed_limit: int = 1024
    max_ttl: float | None = None
    auto_update: bool = True
    tag: str | None = None
    date: str | None = None
    root_hash: ContentHash | None = None
    blacklist: str | None = None
    claim_ownership: bool = False
    check_permissions: bool = True
    suid: bool = False
    external_servers: tuple[str, ...] = ()
    workers: int = 32
    open_messages: bool = False
    posix_acl: bool = False
    workspace: str | None = None
    trust_state: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """One revision only: the mount never follows."""
        return bool(self.tag or self.date or self.root_hash) or not self.auto_update

    def with_absolute_places(self) -> "Settings":
        """The same for a process that works elsewhere."""
        return replace(
            self,
            public_keys=tuple(os.path.abspath(key) for key in self.public_keys),
            cache_dir=_absolute(self.cache_dir),
            blacklist=_absolute(self.blacklist),
            workspace=_absolute(self.workspace),
            trust_state=_absolute(self.trust_state),
        )


def _absolute(place: str | None) -> str | None:
    return os.path.abspath(place) if place else place


def settings_from(fqrn: str, parameters: Mapping[str, str]) -> Settings:
    """The settings of a repository from `CVMFS_*` parameters. Raises UsageError naming the parameter at fault."""
    check_fqrn(fqrn)
    get = _Parameters(fqrn, parameters)
    base = get.text("CVMFS_CACHE_BASE", DEFAULT_CACHE_BASE)
    cache_dir = get.text("CVMFS_CACHE_DIR", "") or f"{base}/shared"
    max_ttl = get.number("CVMFS_MAX_TTL", 0) * 60
    quota = get.number("CVMFS_QUOTA_LIMIT", 4000, least=-1)
    return Settings(
        fqrn=fqrn,
        servers=get.servers("CVMFS_SERVER_URL"),
        public_keys=tuple(key for key in get.text("CVMFS_PUBLIC_KEY", "").split(":") if key),
        proxy=_first_proxy(get.text("CVMFS_HTTP_PROXY", "DIRECT")),
        cache_dir=cache_dir,
        quota=quota * 2**20 if quota >= 0 else None,
        timeout=get.number("CVMFS_TIMEOUT", 5, least=1),
        timeout_direct=get.number("CVMFS_TIMEOUT_DIRECT", 10, least=1),
        low_speed_limit=get.number("CVMFS_LOW_SPEED_LIMIT", 1024),
        max_ttl=max_ttl or None,
        auto_update=get.flag("CVMFS_AUTO_UPDATE", default=True),
        tag=get.text("CVMFS_REPOSITORY_TAG", "") or None,
        date=get.text("CVMFS_REPOSITORY_DATE", "") or None,
        root_hash=get.root_hash("CVMFS_ROOT_HASH"),
        blacklist=get.text("CVMFS_BLACKLIST", DEFAULT_BLACKLIST),
        claim_ownership=get.flag("CVMFS_CLAIM_OWNERSHIP", default=False),
        check_permissions=get.flag("CVMFS_CHECK_PERMISSIONS", default=True),
        suid=get.flag("CVMFS_SUID", default=False),
        external_servers=get.servers("CVMFS_EXTERNAL_URL"),
        workers=get.number("CVMFS_FUSE3_MAX_THREADS", 32, least=1),
        open_messages=get.flag("CVFS_OPEN_MESSAGES", default=False),
        posix_acl=get.flag("CVMFS_ENFORCE_ACLS", default=False),
        workspace=get.text("CVMFS_WORKSPACE", "") or cache_dir,
        trust_state=get.text("CVFS_TRUST_STATE_DIR", "") or _trust_beside(get.text("CVMFS_CACHE_DIR", ""), base),
        variables=dict(parameters),
    )


def _trust_beside(private_cache: str, base: str) -> str:
    """Outside of the cache, which may be wiped, but beside it: a private cache has a private memory."""
    private = private_cache.rstrip("/")
    return f"{private}.trust" if private else f"{base}/trust"


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
        servers=servers,
        public_keys=(public_key,) if public_key else (),
        proxy=None if proxy in (None, "DIRECT") else proxy,
        cache_dir=cache_dir,
        trust_state=_trust_beside(cache_dir, "") if cache_dir else None,
        tag=tag,
        root_hash=_root_hash("root_hash", root_hash) if root_hash else None,
    )


def parse_configuration(text: str, where: str) -> dict[str, str]:
    """Shell-style `KEY=VALUE` lines, without a shell. Raises UsageError with the place of a line that is neither."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if not match:
            raise UsageError(f"{where}:{number}: expected KEY=VALUE, found {line.strip()[:60]!r}")
        found[match[1]] = _unquote(match[2].strip())
    return found


def _unquote(value: str) -> str:
    for quote in "'\"":
        if value.startswith(quote) and value.count(quote) >= 2:
            return value[1 : value.index(quote, 1)]
    return value.split(" #", 1)[0].rstrip()


def _root_hash(name: str, text: str) -> ContentHash:
    try:
        return ContentHash.parse(text, ObjectKind.CATALOG)
    except FormatError as error:
        raise UsageError(f"{name}={text}: {error}") from error


def _first_proxy(text: str) -> str | None:
    """The proxy to use, None for a direct connection."""
    first = re.split(r"[;|]", text)[0].strip()
    return None if first in ("", "DIRECT") else first


class _Parameters:
    """Typed access to parameters, with the substitutions of CernVM-FS and errors that name the parameter."""

    def __init__(self, fqrn: str, parameters: Mapping[str, str]) -> None:
        self._fqrn = fqrn
        self._parameters = parameters

    def text(self, name: str, default: str) -> str:
        value = self._parameters.get(name, default)
        return value.replace("@fqrn@", self._fqrn).replace("@org@", self._fqrn.split(".")[0])

    def number(self, name: str, default: int, least: int = 0) -> int:
        text = self.text(name, "").strip() or str(default)
        try:
            value = int(text)
        except ValueError as error:
            raise UsageError(f"{name}={text}: a number is needed") from error
        if not least <= value <= _LARGEST:
            raise UsageError(f"{name}={text}: a number from {least} to {_LARGEST} is needed")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name, "").strip().lower() or ("yes" if default else "no")
        if value not in _TRUE | _FALSE:
            raise UsageError(f"{name}={value}: yes or no is needed")
        return value in _TRUE

    def servers(self, name: str) -> tuple[str, ...]:
        return tuple(url.strip().rstrip("/") for url in self.text(name, "").split(";") if url.strip())

    def root_hash(self, name: str) -> ContentHash | None:
        value = self.text(name, "")
        return _root_hash(name, value) if value else None
