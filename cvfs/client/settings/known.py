"""Every parameter of the original's client, and what becomes of it here; decides nothing.

`chksetup` tells from it what is set in vain, and a test holds it against the parts that obey. Server parameters are not here.
"""

import re
from enum import Enum
from typing import NamedTuple


class Effect(Enum):
    """What becomes of a parameter."""

    OBEYED = "obeyed"
    WITHOUT_EFFECT = "without effect"
    UNSUPPORTED = "not supported"


class Parameter(NamedTuple):
    """`note` is the part that obeys, or the reason why nobody does."""

    name: str
    effect: Effect
    note: str


_OBEYED = {
    "network": """
        CVMFS_SERVER_URL CVMFS_EXTERNAL_URL CVMFS_HTTP_PROXY CVMFS_FALLBACK_PROXY CVMFS_EXTERNAL_HTTP_PROXY
        CVMFS_EXTERNAL_FALLBACK_PROXY CVMFS_PAC_URLS CVMFS_PROXY_SHARD CVMFS_TIMEOUT CVMFS_TIMEOUT_DIRECT
        CVMFS_EXTERNAL_TIMEOUT CVMFS_EXTERNAL_TIMEOUT_DIRECT CVMFS_LOW_SPEED_LIMIT CVMFS_MAX_RETRIES CVMFS_BACKOFF_INIT
        CVMFS_BACKOFF_MAX CVMFS_PROXY_RESET_AFTER CVMFS_HOST_RESET_AFTER CVMFS_MAX_SERVERS CVMFS_EXTERNAL_MAX_SERVERS
        CVMFS_USE_GEOAPI CVFS_SORT_SERVERS CVMFS_FOLLOW_REDIRECTS CVMFS_DNS_TIMEOUT CVMFS_DNS_RETRIES CVMFS_DNS_MIN_TTL
        CVMFS_DNS_MAX_TTL CVMFS_DNS_ROAMING CVMFS_MAX_IPADDR_PER_PROXY CVMFS_IPFAMILY_PREFER CVMFS_USE_SSL_SYSTEM_CA
        X509_CERT_BUNDLE X509_CERT_DIR CVMFS_HTTP_TRACING CVMFS_HTTP_TRACING_HEADERS
    """,
    "trust": """
        CVMFS_PUBLIC_KEY CVMFS_KEYS_DIR CVMFS_BLACKLIST CVFS_TRUST_STATE_DIR CVFS_MINIMUM_REVISION CVFS_MAX_MANIFEST_AGE
        CVFS_WHITELIST_WARN_DAYS
    """,
    "cache": """
        CVMFS_CACHE_BASE CVMFS_CACHE_DIR CVMFS_QUOTA_LIMIT CVMFS_SHARED_CACHE CVMFS_ALIEN_CACHE CVMFS_CACHE_PRIMARY
        CVMFS_STREAMING_CACHE CVFS_VERIFY_ON_OPEN
    """,
    "view": """
        CVMFS_CLAIM_OWNERSHIP CVMFS_UID_MAP CVMFS_GID_MAP CVMFS_WORLD_READABLE CVMFS_CHECK_PERMISSIONS CVMFS_SUID
        CVMFS_ENFORCE_ACLS CVMFS_MOUNT_RW CVMFS_CACHE_SYMLINKS CVMFS_CACHE_SERVER_MODE CVMFS_SERVER_CACHE_MODE
        CVMFS_KCACHE_TIMEOUT CVMFS_STATFS_CACHE_TIMEOUT CVMFS_CATALOG_WATERMARK CVMFS_FUSE3_MAX_THREADS
        CVMFS_HIDE_MAGIC_XATTRS CVMFS_MAGIC_XATTRS_VISIBILITY CVMFS_XATTR_PROTECTED_XATTRS CVMFS_XATTR_PRIVILEGED_GIDS
        CVMFS_NFS_SOURCE CVMFS_NFS_SHARED CVMFS_NFS_INTERLEAVED_INODES CVFS_NOEXEC CVFS_OPEN_MESSAGES
        CVFS_SNAPSHOTS
    """,
    "mount": """
        CVMFS_WORKSPACE CVMFS_TALK_SOCKET CVMFS_TALK_OWNER CVMFS_NFILES CVMFS_OOM_SCORE_ADJ CVMFS_CPU_AFFINITY
        CVMFS_SYSTEMD_NOKILL CVMFS_SYSLOG_LEVEL CVMFS_SYSLOG_FACILITY CVMFS_SYSLOG_PREFIX CVMFS_USYSLOG CVMFS_DEBUGLOG
        CVMFS_TRACEFILE CVMFS_TRACEBUFFER CVMFS_TRACEBUFFER_THRESHOLD CVMFS_INSTRUMENT_FUSE CVFS_LOG CVFS_UID CVFS_GID
        CVFS_WATCHDOG CVFS_METRICS_FILE CVFS_FUSE_BINDING
    """,
    "client": """
        CVMFS_REPOSITORY_TAG CVMFS_REPOSITORY_DATE CVMFS_ROOT_HASH CVMFS_AUTO_UPDATE CVMFS_MAX_TTL CVMFS_MAX_TTL_SECS
        CVMFS_MOUNT_DIR
    """,
    "tree": """
        CVMFS_CONFIG_REPOSITORY CVMFS_CONFIG_REPO_REQUIRED CVMFS_DEFAULT_DOMAIN CVMFS_REPOSITORIES
    """,
    "configuration_sources": """
        CVMFS_CLIENT_PROFILE CVMFS_STRICT_MOUNT CVFS_AUTOMOUNT_TIMEOUT CVFS_CONFIG_REPO_TIMEOUT
    """,
}

_WITHOUT_EFFECT = {
    "the configuration's own files ask for it": """
        CVMFS_USE_CDN CVMFS_BASE_ENV CVMFS_CONFIG_REPO_DEFAULT_ENV CERNVM_GRID_UI_VERSION
    """,
    "it is set by the client, for variant symlinks": """
        CVMFS_FQRN CVMFS_ARCH CVMFS_VERSION CVMFS_VERSION_NUMERIC CVMFS_REPOSITORY_NAME
    """,
    "a mount runs as who starts it, or as -o uid=,gid= says": "CVMFS_USER",
    "a running mount is reloaded through its control socket": "CVMFS_RELOAD_SOCKETS",
    "the kernel's caches are used, and limits of this client's own": "CVMFS_MEMCACHE_SIZE",
    "one descriptor serves all readers of an object": "CVMFS_CACHE_REFCOUNT CVMFS_CACHE_CLEANUP_NONOPENLRU",
    "threads are started on demand and end by themselves": "CVMFS_FUSE3_IDLE_THREADS",
    "the kernel is always told what changed": "CVMFS_FUSE_NOTIFY_INVALIDATION",
    "numbers of inodes do not come again": "CVMFS_INITIAL_GENERATION",
    "no library is loaded": "CVMFS_LIBRARY_PATH CVMFS_PREMOUNT_FUSE CVMFS_USE_MACFUSE_KEXT",
    "it is for the original's library": "CVMFS_CWD_CACHE CVMFS_PARMS",
    "what streams is not kept in between": "CVMFS_STREAMING_CACHE_BUFFER_SIZE",
    "bytes go from the cache to the kernel by this client": "CVMFS_FUSE_PASSTHROUGH",
    "it was given up by the original": "CVMFS_QUOTA_THRESHOLD CVMFS_DISKLESS",
}

_UNSUPPORTED = {
    "signatures are always verified": "CVMFS_IGNORE_SIGNATURE",
    "certificates are trusted by the whitelist alone": "CVMFS_TRUSTED_CERTS",
    "the alternative place of a root catalog is not asked": "CVMFS_ALT_ROOT_PATH",
    "restricted repositories are not supported": "CVMFS_AUTHZ_HELPER CVMFS_AUTHZ_SEARCH_PATH",
    "names are resolved by the system": "CVMFS_DNS_SERVER CVMFS_IPV4_ONLY",
    "servers come from CVMFS_SERVER_URL": "CVMFS_METALINK_URL CVMFS_METALINK_RESET_AFTER CVMFS_EXTERNAL_METALINK",
    "use CVMFS_EXTERNAL_URL": "CVMFS_EXTERNAL_SERVER_URL",
    "use CVMFS_EXTERNAL_MAX_SERVERS": "CVMFS_MAX_EXTERNAL_SERVERS",
    "use CVMFS_ALIEN_CACHE": "CVMFS_CACHE_ALIEN",
    "use CVMFS_SHARED_CACHE": "CVMFS_CACHE_SHARED",
    "use CVMFS_QUOTA_LIMIT": "CVMFS_CACHE_QUOTA_LIMIT",
    "use CVMFS_WORKSPACE": "CVMFS_CACHE_WORKSPACE",
    "use CVMFS_CACHE_<instance>_LOWER_READONLY": "CVMFS_CACHE_LOWER_READONLY",
    "cache plugins are not supported": "CVMFS_CACHE_PLUGIN_DEBUGLOG CVMFS_CACHE_PLUGIN_LOCATOR CVMFS_CACHE_PLUGIN_SIZE",
    "the geo API is asked in this client's own words": "CVMFS_PROXY_TEMPLATE",
    "proxies are chosen by CVMFS_PROXY_SHARD": "CVMFS_PROXY_SHARDING_POLICY",
    "every request ends in time": "CVMFS_FAILOVER_INDEFINITELY",
    "a request does not tell which file it is for": "CVMFS_SEND_INFO_HEADER CVMFS_INFO_HEADER",
    "metrics are read, by `cvfs talk metrics prometheus` or CVFS_METRICS_FILE": """
        CVMFS_TELEMETRY_SEND CVMFS_TELEMETRY_RATE CVMFS_INFLUX_HOST CVMFS_INFLUX_PORT CVMFS_INFLUX_METRIC_NAME
        CVMFS_INFLUX_EXTRA_TAGS CVMFS_INFLUX_EXTRA_FIELDS CVMFS_INFLUX_SEND_DELTA
    """,
    "bundles of files are not fetched ahead": "CVMFS_PREFETCH_FILEBUNDLES CVMFS_BUNDLE_POOL_SIZE",
    "replicas are whole": "CVMFS_PARTIAL_REPLICA_MODE CVMFS_FULL_STRATUM1_URL",
    "revisions are asked for, nobody is notified": "CVMFS_NOTIFICATION_SERVER",
    "use CVMFS_STRICT_MOUNT": "CVMFS_REPOSITORIES_NOMOUNT",
}

_OF_AN_INSTANCE = re.compile(r"CVMFS_CACHE_[A-Za-z0-9_]{1,24}_([A-Z]+(?:_[A-Z]+)?)")
_INSTANCE_OBEYED = frozenset(
    ("TYPE", "BASE", "DIR", "ALIEN", "SHARED", "QUOTA_LIMIT", "SIZE", "UPPER", "LOWER", "LOWER_READONLY")
)
_INSTANCE_UNSUPPORTED = frozenset(("CMDLINE", "LOCATOR", "WORKSPACE", "SERVER_MODE"))
_INSTANCE_WITHOUT_EFFECT = frozenset(("MALLOC", "REFCOUNT", "CLEANUP_NONOPENLRU", "SYMLINKS"))


def _rows(groups: dict[str, str], effect: Effect) -> dict[str, Parameter]:
    return {name: Parameter(name, effect, note) for note, names in groups.items() for name in names.split()}


KNOWN = {
    **_rows(_OBEYED, Effect.OBEYED),
    **_rows(_WITHOUT_EFFECT, Effect.WITHOUT_EFFECT),
    **_rows(_UNSUPPORTED, Effect.UNSUPPORTED),
}


def known_parameter(name: str) -> Parameter | None:
    """What becomes of a parameter; None if it is not one of the client's."""
    return KNOWN.get(name) or _of_an_instance(name)


def _of_an_instance(name: str) -> Parameter | None:
    """Parameters of a cache by name: `CVMFS_CACHE_<instance>_TYPE` and so on."""
    for ending, effect, note in (
        (_INSTANCE_OBEYED, Effect.OBEYED, "cache"),
        (_INSTANCE_UNSUPPORTED, Effect.UNSUPPORTED, "caches are posix, ram or tiered"),
        (_INSTANCE_WITHOUT_EFFECT, Effect.WITHOUT_EFFECT, "this client's caches need no such choice"),
    ):
        found = _OF_AN_INSTANCE.fullmatch(name)
        if found and any(name.endswith(f"_{word}") for word in ending):
            return Parameter(name, effect, note)
    return None
