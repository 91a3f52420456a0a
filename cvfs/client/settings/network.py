"""Parameters of the network: servers, proxies, patience, names."""

from dataclasses import dataclass

from cvfs.client.settings.parameters import Parameters
from cvfs.errors import UsageError
from cvfs.store.proxies import DIRECT, expand_auto, parse_chain

DEFAULT_PAC_URL = "http://wpad/wpad.dat"


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Where objects come from and how long it may take. Times in seconds, `low_speed_limit` in bytes per second.

    Proxies are kept as they are written in CVMFS_HTTP_PROXY, once it is known that they make sense.
    """

    servers: tuple[str, ...] = ()
    external_servers: tuple[str, ...] = ()
    http_proxy: str = DIRECT
    fallback_proxy: str = ""
    external_http_proxy: str = DIRECT
    external_fallback_proxy: str = ""
    pac_urls: tuple[str, ...] = (DEFAULT_PAC_URL,)
    proxy_shard: bool = False
    timeout: float = 5
    timeout_direct: float = 10
    external_timeout: float = 10
    external_timeout_direct: float = 10
    low_speed_limit: int = 1024
    max_retries: int = 1
    backoff_init: float = 2
    backoff_max: float = 10
    proxy_reset_after: float = 300
    host_reset_after: float = 1800
    max_servers: int | None = None
    external_max_servers: int | None = None
    use_geoapi: bool = False
    sort_servers: bool = False
    follow_redirects: bool = False
    dns_timeout: float = 3
    dns_retries: int = 1
    dns_min_ttl: float = 60
    dns_max_ttl: float = 86400
    dns_roaming: bool = False
    max_addresses: int | None = None
    prefer_ipv6: bool = False
    certificates: str | None = None
    tracing: bool = False
    tracing_headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, get: Parameters) -> "NetworkSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            servers=get.servers("CVMFS_SERVER_URL"),
            external_servers=get.servers("CVMFS_EXTERNAL_URL"),
            http_proxy=_proxies(get, "CVMFS_HTTP_PROXY", DIRECT),
            fallback_proxy=_proxies(get, "CVMFS_FALLBACK_PROXY", ""),
            external_http_proxy=_proxies(get, "CVMFS_EXTERNAL_HTTP_PROXY", DIRECT),
            external_fallback_proxy=_proxies(get, "CVMFS_EXTERNAL_FALLBACK_PROXY", ""),
            pac_urls=get.words("CVMFS_PAC_URLS", ";") or (DEFAULT_PAC_URL,),
            proxy_shard=get.flag("CVMFS_PROXY_SHARD", default=False),
            timeout=get.number("CVMFS_TIMEOUT", 5, least=1),
            timeout_direct=get.number("CVMFS_TIMEOUT_DIRECT", 10, least=1),
            external_timeout=get.number("CVMFS_EXTERNAL_TIMEOUT", 10, least=1),
            external_timeout_direct=get.number("CVMFS_EXTERNAL_TIMEOUT_DIRECT", 10, least=1),
            low_speed_limit=get.number("CVMFS_LOW_SPEED_LIMIT", 1024),
            max_retries=get.number("CVMFS_MAX_RETRIES", 1),
            backoff_init=get.number("CVMFS_BACKOFF_INIT", 2),
            backoff_max=get.number("CVMFS_BACKOFF_MAX", 10),
            proxy_reset_after=get.number("CVMFS_PROXY_RESET_AFTER", 300),
            host_reset_after=get.number("CVMFS_HOST_RESET_AFTER", 1800),
            max_servers=get.number("CVMFS_MAX_SERVERS", 0) or None,
            external_max_servers=get.number("CVMFS_EXTERNAL_MAX_SERVERS", 0) or None,
            use_geoapi=get.flag("CVMFS_USE_GEOAPI", default=False),
            sort_servers=get.flag("CVFS_SORT_SERVERS", default=False),
            follow_redirects=get.flag("CVMFS_FOLLOW_REDIRECTS", default=False),
            dns_timeout=get.number("CVMFS_DNS_TIMEOUT", 3, least=1),
            dns_retries=get.number("CVMFS_DNS_RETRIES", 1),
            dns_min_ttl=get.number("CVMFS_DNS_MIN_TTL", 60),
            dns_max_ttl=get.number("CVMFS_DNS_MAX_TTL", 86400),
            dns_roaming=get.flag("CVMFS_DNS_ROAMING", default=False),
            max_addresses=get.number("CVMFS_MAX_IPADDR_PER_PROXY", 0) or None,
            prefer_ipv6=_family(get, "CVMFS_IPFAMILY_PREFER") == "6",
            certificates=_certificates(get),
            tracing=get.flag("CVMFS_HTTP_TRACING", default=False),
            tracing_headers=_headers(get, "CVMFS_HTTP_TRACING_HEADERS"),
        )


def _proxies(get: Parameters, name: str, default: str) -> str:
    """Proxies that make sense, as they were written."""
    text = get.text(name, default).strip() or default
    try:
        parse_chain(expand_auto(text, lambda: ""))
    except UsageError as error:
        raise UsageError(f"{name}={text}: {error}") from error
    return text


def _family(get: Parameters, name: str) -> str:
    value = get.text(name).strip() or "4"
    if value not in {"4", "6"}:
        raise UsageError(f"{name}={value}: 4 or 6 is needed")
    return value


def _certificates(get: Parameters) -> str | None:
    """A file or a directory of certificates to trust for https, None for those of this system."""
    if get.flag("CVMFS_USE_SSL_SYSTEM_CA", default=False):
        return None
    return get.optional("X509_CERT_BUNDLE") or get.optional("X509_CERT_DIR")


def _headers(get: Parameters, name: str) -> tuple[tuple[str, str], ...]:
    """`NAME:VALUE|NAME:VALUE` for requests."""
    pairs = []
    for part in get.words(name, "|"):
        key, separator, value = part.partition(":")
        if not separator or not key.strip().replace("-", "").isalnum() or not value.isprintable():
            raise UsageError(f"{name}={part}: NAME:VALUE is needed")
        pairs.append((key.strip(), value.strip()))
    return tuple(pairs)
