"""Parameters of trust: keys, blacklists, limits, and where the newest revision seen is remembered."""

import os
from dataclasses import dataclass, field, replace

from cvfs.client.settings.cache import cache_base
from cvfs.client.settings.parameters import Parameters
from cvfs.trust import Limits

DEFAULT_KEYS_DIR = "/etc/cvmfs/keys"
DEFAULT_BLACKLIST = "/etc/cvmfs/blacklist"
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """What a client believes without proof, and where it remembers what it saw (`state` None: nowhere).

    Without `public_keys` those in `keys_dir` count. Of the `blacklists` all lines count; a file that is not there has none.
    """

    public_keys: tuple[str, ...] = ()
    keys_dir: str = DEFAULT_KEYS_DIR
    blacklists: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    whitelist_warn_days: int = 7
    state: str | None = None

    @classmethod
    def of(cls, get: Parameters) -> "TrustSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            public_keys=get.words("CVMFS_PUBLIC_KEY", ":"),
            keys_dir=get.optional("CVMFS_KEYS_DIR") or DEFAULT_KEYS_DIR,
            blacklists=_paths(get.text("CVMFS_BLACKLIST", DEFAULT_BLACKLIST)),
            limits=Limits(
                revision=get.number("CVFS_MINIMUM_REVISION", 0), age=get.number("CVFS_MAX_MANIFEST_AGE", 0) * _HOUR
            ),
            whitelist_warn_days=get.number("CVFS_WHITELIST_WARN_DAYS", 7),
            state=get.optional("CVFS_TRUST_STATE_DIR") or beside(get.text("CVMFS_CACHE_DIR"), cache_base(get)),
        )

    def with_absolute_places(self) -> "TrustSettings":
        """The same for a process that works elsewhere."""
        return replace(
            self,
            public_keys=tuple(os.path.abspath(key) for key in self.public_keys),
            keys_dir=os.path.abspath(self.keys_dir),
            blacklists=tuple(os.path.abspath(name) for name in self.blacklists),
            state=os.path.abspath(self.state) if self.state else None,
        )


def _paths(text: str) -> tuple[str, ...]:
    return tuple(path for path in text.split(":") if path)


def beside(private_cache: str, base: str) -> str:
    """Outside of the cache, which may be wiped, but beside it: a private cache has a private memory."""
    private = private_cache.rstrip("/")
    return f"{private}.trust" if private else f"{base}/trust"
