"""Parameters of trust: keys, blacklist, and where the newest revision seen is remembered."""

import os
from dataclasses import dataclass, replace

from cvfs.client.settings.cache import cache_base
from cvfs.client.settings.parameters import Parameters

DEFAULT_KEYS_DIR = "/etc/cvmfs/keys"
DEFAULT_BLACKLIST = "/etc/cvmfs/blacklist"


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """What a client believes without proof, and where it remembers what it saw (`state` None: nowhere)."""

    public_keys: tuple[str, ...] = ()
    blacklist: str | None = None
    state: str | None = None

    @classmethod
    def of(cls, get: Parameters) -> "TrustSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            public_keys=get.words("CVMFS_PUBLIC_KEY", ":"),
            blacklist=get.text("CVMFS_BLACKLIST", DEFAULT_BLACKLIST),
            state=get.optional("CVFS_TRUST_STATE_DIR") or beside(get.text("CVMFS_CACHE_DIR"), cache_base(get)),
        )

    def with_absolute_places(self) -> "TrustSettings":
        """The same for a process that works elsewhere."""
        return replace(
            self,
            public_keys=tuple(os.path.abspath(key) for key in self.public_keys),
            blacklist=os.path.abspath(self.blacklist) if self.blacklist else self.blacklist,
            state=os.path.abspath(self.state) if self.state else None,
        )


def beside(private_cache: str, base: str) -> str:
    """Outside of the cache, which may be wiped, but beside it: a private cache has a private memory."""
    private = private_cache.rstrip("/")
    return f"{private}.trust" if private else f"{base}/trust"
