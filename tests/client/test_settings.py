"""Parameters to settings: units, defaults, substitutions, and what is refused."""

import operator

import pytest

from cvfs.client.settings import Settings, settings_for_url, settings_from
from cvfs.client.settings.cache import CacheSettings
from cvfs.client.settings.mount import MountSettings
from cvfs.client.settings.trust import TrustSettings
from cvfs.errors import FormatError, UsageError
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.trust import Limits

FQRN = "sw.example.org"
HEX = "0123456789abcdef0123456789abcdef01234567"


def test_defaults_are_those_of_the_original():
    got = settings_from(FQRN, {})
    assert got == Settings(
        fqrn=FQRN,
        cache=CacheSettings("/var/lib/cvmfs/shared", 4000 * 2**20),
        mount=MountSettings("/var/lib/cvmfs/shared"),
        trust=TrustSettings(blacklists=("/etc/cvmfs/blacklist",), state="/var/lib/cvmfs/trust"),
    )
    assert not got.pinned


@pytest.mark.parametrize(
    ("parameter", "value", "field", "expected"),
    [
        (
            "CVMFS_SERVER_URL",
            "http://a/cvmfs/@fqrn@/ ; http://b/@org@",
            "network.servers",
            (f"http://a/cvmfs/{FQRN}", "http://b/sw"),
        ),
        ("CVMFS_SERVER_URL", " ;; ", "network.servers", ()),
        ("CVMFS_EXTERNAL_URL", "http://x/", "network.external_servers", ("http://x",)),
        ("CVMFS_PUBLIC_KEY", "/k/a.pub:/k/b.pub", "trust.public_keys", ("/k/a.pub", "/k/b.pub")),
        ("CVMFS_KEYS_DIR", "/k", "trust.keys_dir", "/k"),
        ("CVMFS_KEYS_DIR", "", "trust.keys_dir", "/etc/cvmfs/keys"),
        ("CVMFS_BLACKLIST", "/b:/c/blacklist", "trust.blacklists", ("/b", "/c/blacklist")),
        ("CVMFS_BLACKLIST", "", "trust.blacklists", ()),
        ("CVFS_MINIMUM_REVISION", "17", "trust.limits", Limits(revision=17)),
        ("CVFS_MAX_MANIFEST_AGE", "36", "trust.limits", Limits(age=36 * 3600)),
        ("CVFS_WHITELIST_WARN_DAYS", "3", "trust.whitelist_warn_days", 3),
        ("CVMFS_HTTP_PROXY", "DIRECT", "network.http_proxy", "DIRECT"),
        ("CVMFS_HTTP_PROXY", "", "network.http_proxy", "DIRECT"),
        ("CVMFS_HTTP_PROXY", "http://p:3128;DIRECT", "network.http_proxy", "http://p:3128;DIRECT"),
        ("CVMFS_HTTP_PROXY", " http://p:3128|http://q:3128 ", "network.http_proxy", "http://p:3128|http://q:3128"),
        ("CVMFS_HTTP_PROXY", "auto;DIRECT", "network.http_proxy", "auto;DIRECT"),
        ("CVMFS_FALLBACK_PROXY", "f:3128", "network.fallback_proxy", "f:3128"),
        ("CVMFS_EXTERNAL_HTTP_PROXY", "e:3128", "network.external_http_proxy", "e:3128"),
        ("CVMFS_EXTERNAL_FALLBACK_PROXY", "e:3128", "network.external_fallback_proxy", "e:3128"),
        ("CVMFS_PAC_URLS", "", "network.pac_urls", ("http://wpad/wpad.dat",)),
        ("CVMFS_PAC_URLS", "http://a/x;http://b/y", "network.pac_urls", ("http://a/x", "http://b/y")),
        ("CVMFS_PROXY_SHARD", "yes", "network.proxy_shard", True),
        ("CVMFS_EXTERNAL_TIMEOUT", "3", "network.external_timeout", 3),
        ("CVMFS_EXTERNAL_TIMEOUT_DIRECT", "4", "network.external_timeout_direct", 4),
        ("CVMFS_MAX_RETRIES", "0", "network.max_retries", 0),
        ("CVMFS_BACKOFF_INIT", "1", "network.backoff_init", 1),
        ("CVMFS_BACKOFF_MAX", "5", "network.backoff_max", 5),
        ("CVMFS_PROXY_RESET_AFTER", "", "network.proxy_reset_after", 300),
        ("CVMFS_HOST_RESET_AFTER", "60", "network.host_reset_after", 60),
        ("CVMFS_MAX_SERVERS", "2", "network.max_servers", 2),
        ("CVMFS_MAX_SERVERS", "0", "network.max_servers", None),
        ("CVMFS_EXTERNAL_MAX_SERVERS", "1", "network.external_max_servers", 1),
        ("CVMFS_USE_GEOAPI", "yes", "network.use_geoapi", True),
        ("CVFS_SORT_SERVERS", "yes", "network.sort_servers", True),
        ("CVMFS_FOLLOW_REDIRECTS", "yes", "network.follow_redirects", True),
        ("CVMFS_DNS_TIMEOUT", "9", "network.dns_timeout", 9),
        ("CVMFS_DNS_RETRIES", "2", "network.dns_retries", 2),
        ("CVMFS_DNS_MIN_TTL", "7", "network.dns_min_ttl", 7),
        ("CVMFS_DNS_MAX_TTL", "70", "network.dns_max_ttl", 70),
        ("CVMFS_DNS_ROAMING", "yes", "network.dns_roaming", True),
        ("CVMFS_MAX_IPADDR_PER_PROXY", "2", "network.max_addresses", 2),
        ("CVMFS_IPFAMILY_PREFER", "6", "network.prefer_ipv6", True),
        ("CVMFS_IPFAMILY_PREFER", "4", "network.prefer_ipv6", False),
        ("X509_CERT_BUNDLE", "/etc/ca.pem", "network.certificates", "/etc/ca.pem"),
        ("X509_CERT_DIR", "/etc/certs", "network.certificates", "/etc/certs"),
        ("CVMFS_HTTP_TRACING", "yes", "network.tracing", True),
        ("CVMFS_HTTP_TRACING_HEADERS", "X-A: b|C:d e", "network.tracing_headers", (("X-A", "b"), ("C", "d e"))),
        ("CVMFS_CACHE_BASE", "/big", "cache.directory", "/big/shared"),
        ("CVMFS_CACHE_BASE", "/big", "trust.state", "/big/trust"),
        ("CVMFS_CACHE_DIR", "/c/x", "trust.state", "/c/x.trust"),
        ("CVMFS_CACHE_DIR", "/c/@fqrn@", "cache.directory", f"/c/{FQRN}"),
        ("CVMFS_CACHE_DIR", "/c", "mount.workspace", "/c"),
        ("CVMFS_WORKSPACE", "/run/x", "mount.workspace", "/run/x"),
        ("CVMFS_QUOTA_LIMIT", "10", "cache.quota", 10 * 2**20),
        ("CVMFS_QUOTA_LIMIT", "0", "cache.quota", 0),
        ("CVMFS_QUOTA_LIMIT", "-1", "cache.quota", None),
        ("CVMFS_QUOTA_LIMIT", "", "cache.quota", 4000 * 2**20),
        ("CVMFS_TIMEOUT", " 7 ", "network.timeout", 7),
        ("CVMFS_TIMEOUT_DIRECT", "8", "network.timeout_direct", 8),
        ("CVMFS_LOW_SPEED_LIMIT", "0", "network.low_speed_limit", 0),
        ("CVMFS_MAX_TTL", "3", "max_ttl", 180),
        ("CVMFS_MAX_TTL", "0", "max_ttl", None),
        ("CVMFS_MAX_TTL_SECS", "90", "max_ttl", 90),
        ("CVMFS_MOUNT_DIR", "/sw", "mount_dir", "/sw"),
        ("CVMFS_MOUNT_DIR", "", "mount_dir", "/cvmfs"),
        ("CVMFS_AUTO_UPDATE", "No", "auto_update", False),
        ("CVMFS_CLAIM_OWNERSHIP", "yes", "view.owner.claim_ownership", True),
        ("CVMFS_CLAIM_OWNERSHIP", "", "view.owner.claim_ownership", False),
        ("CVMFS_UID_MAP", "/etc/cvmfs/@fqrn@.uids", "view.owner.uid_map", f"/etc/cvmfs/{FQRN}.uids"),
        ("CVMFS_GID_MAP", "/g", "view.owner.gid_map", "/g"),
        ("CVMFS_WORLD_READABLE", "on", "view.owner.world_readable", True),
        ("CVMFS_HIDE_MAGIC_XATTRS", "yes", "view.magic.visibility", "never"),
        ("CVMFS_HIDE_MAGIC_XATTRS", "no", "view.magic.visibility", "always"),
        ("CVMFS_HIDE_MAGIC_XATTRS", "", "view.magic.visibility", "rootonly"),
        ("CVMFS_MAGIC_XATTRS_VISIBILITY", "Always", "view.magic.visibility", "always"),
        ("CVMFS_XATTR_PROTECTED_XATTRS", "user.a, user.b", "view.magic.protected", {"user.a", "user.b"}),
        ("CVMFS_XATTR_PRIVILEGED_GIDS", "0, 1001", "view.magic.privileged_groups", {0, 1001}),
        ("CVMFS_NFS_SOURCE", "yes", "view.export.nfs_source", True),
        ("CVMFS_NFS_SHARED", "/n", "view.export.shared", "/n"),
        ("CVMFS_NFS_INTERLEAVED_INODES", "1%4", "view.export.residue", 1),
        ("CVMFS_NFS_INTERLEAVED_INODES", "1%4", "view.export.modulus", 4),
        ("CVMFS_SUID", "yes", "view.suid", True),
        ("CVFS_NOEXEC", "yes", "view.executable", False),
        ("CVMFS_MOUNT_RW", "yes", "view.read_write", True),
        ("CVMFS_MOUNT_RW", "yes", "view.open_messages", True),
        ("CVMFS_CACHE_SYMLINKS", "no", "view.cache_symlinks", False),
        ("CVMFS_CACHE_SERVER_MODE", "yes", "view.raw_links", True),
        ("CVMFS_SERVER_CACHE_MODE", "yes", "view.raw_links", True),
        ("CVFS_SNAPSHOTS", "yes", "view.snapshots", True),
        ("CVMFS_KCACHE_TIMEOUT", "60", "view.kernel_timeout", 60),
        ("CVMFS_KCACHE_TIMEOUT", "-5", "view.kernel_timeout", 0),
        ("CVMFS_KCACHE_TIMEOUT", "", "view.kernel_timeout", None),
        ("CVMFS_STATFS_CACHE_TIMEOUT", "7", "view.statfs_timeout", 7),
        ("CVMFS_NFILES", "65536", "view.open_objects", 512),
        ("CVMFS_NFILES", "1024", "view.open_objects", 256),
        ("CVMFS_CATALOG_WATERMARK", "9", "view.open_catalogs", 9),
        ("CVMFS_CHECK_PERMISSIONS", "off", "view.check_permissions", False),
        ("CVMFS_ENFORCE_ACLS", "true", "view.posix_acl", True),
        ("CVFS_OPEN_MESSAGES", "1", "view.open_messages", True),
        ("CVMFS_FUSE3_MAX_THREADS", "4", "view.workers", 4),
        ("CVMFS_REPOSITORY_TAG", "v1", "tag", "v1"),
        ("CVMFS_REPOSITORY_DATE", "2026-01-01T00:00:00Z", "date", "2026-01-01T00:00:00Z"),
        ("CVMFS_ROOT_HASH", HEX, "root_hash", ContentHash.parse(HEX, ObjectKind.CATALOG)),
        (
            "CVMFS_ROOT_HASH",
            f"{HEX}-shake128",
            "root_hash",
            ContentHash(Algorithm.SHAKE128, bytes.fromhex(HEX), ObjectKind.CATALOG),
        ),
        ("CVFS_TRUST_STATE_DIR", "/t", "trust.state", "/t"),
        ("LAB_VAR", "x", "variables", {"LAB_VAR": "x"}),
    ],
)
def test_each_parameter(parameter, value, field, expected):
    assert operator.attrgetter(field)(settings_from(FQRN, {parameter: value})) == expected


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("CVMFS_QUOTA_LIMIT", "many"),
        ("CVMFS_QUOTA_LIMIT", "-2"),
        ("CVMFS_TIMEOUT", "0"),
        ("CVMFS_HTTP_PROXY", "ftp://p:3128"),
        ("CVMFS_HTTP_PROXY", "http://p:99999"),
        ("CVMFS_HTTP_PROXY", "auto|http://p:3128"),
        ("CVMFS_FALLBACK_PROXY", "http://p/x"),
        ("CVMFS_IPFAMILY_PREFER", "5"),
        ("CVMFS_HTTP_TRACING_HEADERS", "nonsense"),
        ("CVMFS_TIMEOUT", "1.5"),
        ("CVMFS_TIMEOUT_DIRECT", "-1"),
        ("CVMFS_MAX_TTL", "99999999999999999999"),
        ("CVMFS_LOW_SPEED_LIMIT", "-1"),
        ("CVMFS_FUSE3_MAX_THREADS", "0"),
        ("CVMFS_AUTO_UPDATE", "maybe"),
        ("CVMFS_MAGIC_XATTRS_VISIBILITY", "some"),
        ("CVMFS_XATTR_PRIVILEGED_GIDS", "0,root"),
        ("CVMFS_XATTR_PRIVILEGED_GIDS", "4294967296"),
        ("CVMFS_NFS_INTERLEAVED_INODES", "4%4"),
        ("CVMFS_NFS_INTERLEAVED_INODES", "0%0"),
        ("CVMFS_NFS_INTERLEAVED_INODES", "1/4"),
        ("CVMFS_NFILES", "63"),
        ("CVMFS_CATALOG_WATERMARK", "0"),
        ("CVMFS_KCACHE_TIMEOUT", "soon"),
        ("CVMFS_ROOT_HASH", "0123"),
        ("CVMFS_ROOT_HASH", f"{HEX}C"),
    ],
)
def test_nonsense_is_refused_with_the_parameter_named(parameter, value):
    with pytest.raises(UsageError, match=f"^{parameter}={value}"):
        settings_from(FQRN, {parameter: value})


@pytest.mark.parametrize("fqrn", ["", "a b", "../x", "x/y", "x\ny"])
def test_impossible_names_are_refused(fqrn):
    with pytest.raises((UsageError, FormatError)):
        settings_from(fqrn, {})


@pytest.mark.parametrize(
    ("parameters", "pinned"),
    [
        ({"CVMFS_REPOSITORY_TAG": "t"}, True),
        ({"CVMFS_REPOSITORY_DATE": "2026-01-01T00:00:00Z"}, True),
        ({"CVMFS_ROOT_HASH": HEX}, True),
        ({"CVMFS_AUTO_UPDATE": "no"}, True),
        ({"CVMFS_AUTO_UPDATE": "yes"}, False),
    ],
)
def test_what_pins_a_mount(parameters, pinned):
    assert settings_from(FQRN, parameters).pinned is pinned


def test_a_url_says_nearly_everything():
    got = settings_for_url("http://a/cvmfs/sw.example.org/;http://b/sw.example.org", "/k.pub", proxy="DIRECT")
    assert (got.fqrn, got.network.http_proxy, got.trust.public_keys) == (FQRN, "DIRECT", ("/k.pub",))
    assert got.network.servers == ("http://a/cvmfs/sw.example.org", "http://b/sw.example.org")
    assert settings_for_url("http://a/x", "/k", fqrn=FQRN).fqrn == FQRN


def test_without_an_anchor_there_is_no_trust():
    with pytest.raises(UsageError, match="public key"):
        settings_for_url("http://a/sw.example.org", None)
    pinned = settings_for_url("http://a/sw.example.org", None, root_hash=HEX)
    assert pinned.root_hash == ContentHash.parse(HEX, ObjectKind.CATALOG)
    with pytest.raises(UsageError, match="root_hash=xyz"):
        settings_for_url("http://a/sw.example.org", None, root_hash="xyz")


def test_relative_places_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = {"CVMFS_CACHE_BASE": "c", "CVMFS_PUBLIC_KEY": "k.pub:/abs.pub", "CVMFS_BLACKLIST": ""}
    got = settings_from(FQRN, parameters).with_absolute_places()
    assert got.cache.directory == got.mount.workspace == f"{tmp_path}/c/shared"
    assert got.trust.state == f"{tmp_path}/c/trust"
    assert got.trust.public_keys == (f"{tmp_path}/k.pub", "/abs.pub")
    assert got.trust.blacklists == ()
    places = {"CVMFS_BLACKLIST": "b:/abs", "CVMFS_KEYS_DIR": "keys"}
    trust = settings_from(FQRN, places).with_absolute_places().trust
    assert (trust.blacklists, trust.keys_dir) == ((f"{tmp_path}/b", "/abs"), f"{tmp_path}/keys")


def test_relative_places_of_the_view_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = {"CVMFS_UID_MAP": "u", "CVMFS_NFS_SHARED": "n"}
    got = settings_from(FQRN, parameters).with_absolute_places().view
    assert (got.owner.uid_map, got.owner.gid_map, got.export.shared) == (f"{tmp_path}/u", None, f"{tmp_path}/n")
