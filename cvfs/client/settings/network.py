"""Parameters of the network: servers, proxies, patience."""

import re
from dataclasses import dataclass

from cvfs.client.settings.parameters import Parameters


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Where objects come from and how long it may take. Times in seconds, `low_speed_limit` in bytes per second."""

    servers: tuple[str, ...] = ()
    external_servers: tuple[str, ...] = ()
    proxy: str | None = None
    timeout: float = 5
    timeout_direct: float = 10
    low_speed_limit: int = 1024

    @classmethod
    def of(cls, get: Parameters) -> "NetworkSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            servers=get.servers("CVMFS_SERVER_URL"),
            external_servers=get.servers("CVMFS_EXTERNAL_URL"),
            proxy=_first_proxy(get.text("CVMFS_HTTP_PROXY", "DIRECT")),
            timeout=get.number("CVMFS_TIMEOUT", 5, least=1),
            timeout_direct=get.number("CVMFS_TIMEOUT_DIRECT", 10, least=1),
            low_speed_limit=get.number("CVMFS_LOW_SPEED_LIMIT", 1024),
        )


def _first_proxy(text: str) -> str | None:
    """The proxy to use, None for a direct connection."""
    first = re.split(r"[;|]", text)[0].strip()
    return None if first in ("", "DIRECT") else first
