"""Parameters of the local cache."""

import os
import re
from dataclasses import dataclass, replace
from typing import TypeAlias

from cvfs.client.settings.parameters import Parameters
from cvfs.errors import UsageError

DEFAULT_CACHE_BASE = "/var/lib/cvmfs"
_INSTANCE = re.compile(r"[A-Za-z0-9_]{1,24}")
_DEFAULT_INSTANCE = "default"
_MEGABYTE = 2**20
# Of the machine's memory, where a cache in memory is given no size.
_SHARE_OF_MEMORY = 32
_LEAST_MEMORY = 200 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class PosixCache:
    """Contents as files of a directory: with books and a quota in bytes (None: no limit), or `alien`, without both."""

    name: str
    directory: str
    quota: int | None = None
    alien: bool = False


@dataclass(frozen=True, slots=True)
class RamCache:
    """Contents in the memory of the process, `size` bytes at most."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class TieredCache:
    """A small fast cache above a large slow one."""

    name: str
    upper: "CacheInstance"
    lower: "CacheInstance"
    lower_read_only: bool = False


CacheInstance: TypeAlias = PosixCache | RamCache | TieredCache


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where contents are kept (`directory` None: nowhere) and how many bytes of them (`quota` None: no limit).

    `alien` is a plain directory that is used instead, `primary` another kind of cache instead of both. `streaming`:
    file data is not kept, catalogs are. `verify_on_open`: nothing is given before this process proved it once.
    """

    directory: str | None = None
    quota: int | None = 4000 * _MEGABYTE
    alien: str | None = None
    primary: CacheInstance | None = None
    streaming: bool = False
    verify_on_open: bool = False

    @classmethod
    def of(cls, get: Parameters) -> "CacheSettings":
        """Raises UsageError naming the parameter at fault."""
        alien = get.optional("CVMFS_ALIEN_CACHE")
        shared = get.flag("CVMFS_SHARED_CACHE", default=not alien)
        quota = get.number("CVMFS_QUOTA_LIMIT", -1 if alien else 4000, least=-1)
        if alien:
            _check_alien("CVMFS_ALIEN_CACHE", shared=shared, quota=quota)
        private = f"{cache_base(get)}/{'shared' if shared else get.fqrn}"
        return cls(
            directory=get.optional("CVMFS_CACHE_DIR") or private,
            quota=_in_bytes(quota),
            alien=alien,
            primary=_primary(get),
            streaming=get.flag("CVMFS_STREAMING_CACHE", default=False),
            verify_on_open=get.flag("CVFS_VERIFY_ON_OPEN", default=False),
        )

    @property
    def instance(self) -> CacheInstance | None:
        """The cache that is meant by all of this."""
        if self.primary:
            return self.primary
        if self.alien:
            return PosixCache(_DEFAULT_INSTANCE, self.alien, alien=True)
        return PosixCache(_DEFAULT_INSTANCE, self.directory, self.quota) if self.directory else None

    def with_absolute_places(self) -> "CacheSettings":
        """The same for a process that works elsewhere."""
        return replace(
            self,
            directory=os.path.abspath(self.directory) if self.directory else None,
            alien=os.path.abspath(self.alien) if self.alien else None,
            primary=_absolute(self.primary) if self.primary else None,
        )


def cache_base(get: Parameters) -> str:
    """The directory that holds all that a client keeps."""
    return get.text("CVMFS_CACHE_BASE") or DEFAULT_CACHE_BASE


def directories(instance: CacheInstance | None) -> tuple[PosixCache, ...]:
    """The caches on disk that an instance consists of."""
    if isinstance(instance, TieredCache):
        return directories(instance.upper) + directories(instance.lower)
    return (instance,) if isinstance(instance, PosixCache) else ()


def _primary(get: Parameters) -> CacheInstance | None:
    name = get.optional("CVMFS_CACHE_PRIMARY")
    return _instance(get, "CVMFS_CACHE_PRIMARY", name, ()) if name and name != _DEFAULT_INSTANCE else None


def _instance(get: Parameters, parameter: str, name: str, above: tuple[str, ...]) -> CacheInstance:
    """The cache of that name, which `parameter` asks for."""
    if not _INSTANCE.fullmatch(name):
        raise UsageError(f"{parameter}={name}: invalid instance name, only characters a-z, A-Z, 0-9, _ are allowed")
    if name in above:
        raise UsageError(f"{parameter}={name}: circular cache definition")
    kind = get.text(f"CVMFS_CACHE_{name}_TYPE").strip()
    if kind == "posix":
        return _posix(get, name)
    if kind == "ram":
        return RamCache(name, _memory(get, f"CVMFS_CACHE_{name}_SIZE"))
    if kind == "tiered":
        return _tiered(get, name, (*above, name))
    if kind == "external":
        raise UsageError(f"CVMFS_CACHE_{name}_TYPE=external: cache plugins are not supported, use posix, ram or tiered")
    raise UsageError(f"CVMFS_CACHE_{name}_TYPE={kind}: invalid cache manager type, use posix, ram or tiered")


def _posix(get: Parameters, name: str) -> PosixCache:
    alien = get.optional(f"CVMFS_CACHE_{name}_ALIEN")
    shared = get.flag(f"CVMFS_CACHE_{name}_SHARED", default=False)
    quota = get.number(f"CVMFS_CACHE_{name}_QUOTA_LIMIT", -1 if alien else 4000, least=-1)
    if alien:
        _check_alien(f"CVMFS_CACHE_{name}_ALIEN", shared=shared, quota=quota)
        return PosixCache(name, alien, alien=True)
    base = get.optional(f"CVMFS_CACHE_{name}_BASE") or DEFAULT_CACHE_BASE
    private = f"{base}/{'shared' if shared else get.fqrn}"
    return PosixCache(name, get.optional(f"CVMFS_CACHE_{name}_DIR") or private, _in_bytes(quota))


def _tiered(get: Parameters, name: str, above: tuple[str, ...]) -> TieredCache:
    upper, lower = (_layer(get, f"CVMFS_CACHE_{name}_{layer}", above) for layer in ("UPPER", "LOWER"))
    read_only = get.flag(f"CVMFS_CACHE_{name}_LOWER_READONLY", default=False)
    return TieredCache(name, upper, lower, lower_read_only=read_only)


def _layer(get: Parameters, parameter: str, above: tuple[str, ...]) -> CacheInstance:
    named = get.optional(parameter)
    if not named:
        raise UsageError(f"{parameter} missing: name the cache instance of this layer")
    return _instance(get, parameter, named, above)


def _check_alien(parameter: str, *, shared: bool, quota: int) -> None:
    if shared:
        raise UsageError(
            f"{parameter}: shared local disk cache and alien cache mutually exclusive, "
            "turn off the shared local disk cache (CVMFS_SHARED_CACHE=no)"
        )
    if quota > 0:
        raise UsageError(
            f"{parameter}: quota management and alien cache mutually exclusive, "
            "turn off the quota limit (CVMFS_QUOTA_LIMIT=-1)"
        )


def _memory(get: Parameters, parameter: str) -> int:
    """Megabytes, or a part of the machine's memory with `%`."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = get.text(parameter).strip()
    if not text:
        return max(_LEAST_MEMORY, machine // _SHARE_OF_MEMORY)
    if not re.fullmatch(r"[0-9]{1,9}%?", text) or not int(text.rstrip("%")):
        raise UsageError(f"{parameter}={text}: megabytes are needed, or a part of the memory such as 5%")
    return machine * int(text[:-1]) // 100 if text.endswith("%") else int(text) * _MEGABYTE


def _in_bytes(quota: int) -> int | None:
    return quota * _MEGABYTE if quota >= 0 else None


def _absolute(instance: CacheInstance) -> CacheInstance:
    if isinstance(instance, PosixCache):
        return replace(instance, directory=os.path.abspath(instance.directory))
    if isinstance(instance, TieredCache):
        return replace(instance, upper=_absolute(instance.upper), lower=_absolute(instance.lower))
    return instance
