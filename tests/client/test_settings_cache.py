"""Parameters of the cache: which kind, where, how large, and which combinations are refused."""

import os

import pytest

from cvfs.client.settings import settings_from
from cvfs.client.settings.cache import CacheSettings, PosixCache, RamCache, TieredCache, directories
from cvfs.errors import UsageError

FQRN = "sw.example.org"
MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
POSIX = {"CVMFS_CACHE_PRIMARY": "p", "CVMFS_CACHE_p_TYPE": "posix"}
RAM = {"CVMFS_CACHE_PRIMARY": "m", "CVMFS_CACHE_m_TYPE": "ram"}
TIERED = {
    "CVMFS_CACHE_PRIMARY": "hpc",
    "CVMFS_CACHE_hpc_TYPE": "tiered",
    "CVMFS_CACHE_hpc_UPPER": "m",
    "CVMFS_CACHE_hpc_LOWER": "preloaded",
    "CVMFS_CACHE_m_TYPE": "ram",
    "CVMFS_CACHE_m_SIZE": "300",
    "CVMFS_CACHE_preloaded_TYPE": "posix",
    "CVMFS_CACHE_preloaded_ALIEN": "/gpfs/@org@",
    "CVMFS_CACHE_preloaded_SHARED": "no",
    "CVMFS_CACHE_preloaded_QUOTA_LIMIT": "-1",
}


def _settings(parameters):
    return settings_from(FQRN, parameters).cache


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, PosixCache("default", "/var/lib/cvmfs/shared", 4000 * 2**20)),
        ({"CVMFS_SHARED_CACHE": "yes"}, PosixCache("default", "/var/lib/cvmfs/shared", 4000 * 2**20)),
        ({"CVMFS_SHARED_CACHE": "no"}, PosixCache("default", f"/var/lib/cvmfs/{FQRN}", 4000 * 2**20)),
        (
            {"CVMFS_SHARED_CACHE": "no", "CVMFS_CACHE_BASE": "/big", "CVMFS_QUOTA_LIMIT": "7"},
            PosixCache("default", f"/big/{FQRN}", 7 * 2**20),
        ),
        ({"CVMFS_CACHE_DIR": "/c", "CVMFS_SHARED_CACHE": "yes"}, PosixCache("default", "/c", 4000 * 2**20)),
        ({"CVMFS_ALIEN_CACHE": "/nfs/@fqrn@"}, PosixCache("default", f"/nfs/{FQRN}", alien=True)),
        (
            {"CVMFS_ALIEN_CACHE": "/nfs", "CVMFS_SHARED_CACHE": "no", "CVMFS_QUOTA_LIMIT": "-1"},
            PosixCache("default", "/nfs", alien=True),
        ),
        ({"CVMFS_CACHE_PRIMARY": "default"}, PosixCache("default", "/var/lib/cvmfs/shared", 4000 * 2**20)),
        ({"CVMFS_CACHE_PRIMARY": ""}, PosixCache("default", "/var/lib/cvmfs/shared", 4000 * 2**20)),
        (POSIX, PosixCache("p", f"/var/lib/cvmfs/{FQRN}", 4000 * 2**20)),
        (
            POSIX | {"CVMFS_CACHE_p_SHARED": "yes", "CVMFS_CACHE_p_BASE": "/b", "CVMFS_CACHE_p_QUOTA_LIMIT": "9"},
            PosixCache("p", "/b/shared", 9 * 2**20),
        ),
        (RAM, RamCache("m", max(200 * 2**20, MACHINE // 32))),
        (RAM | {"CVMFS_CACHE_m_SIZE": "50"}, RamCache("m", 50 * 2**20)),
        (RAM | {"CVMFS_CACHE_m_SIZE": "10%"}, RamCache("m", MACHINE // 10)),
        (
            TIERED,
            TieredCache("hpc", RamCache("m", 300 * 2**20), PosixCache("preloaded", "/gpfs/sw", alien=True)),
        ),
        (
            TIERED | {"CVMFS_CACHE_hpc_LOWER_READONLY": "yes"},
            TieredCache("hpc", RamCache("m", 300 * 2**20), PosixCache("preloaded", "/gpfs/sw", alien=True), True),
        ),
    ],
)
def test_which_cache_is_meant(parameters, expected):
    assert _settings(parameters).instance == expected


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"CVMFS_ALIEN_CACHE": "/a", "CVMFS_SHARED_CACHE": "yes"}, "CVMFS_ALIEN_CACHE: shared.*mutually exclusive"),
        ({"CVMFS_ALIEN_CACHE": "/a", "CVMFS_QUOTA_LIMIT": "4000"}, "CVMFS_ALIEN_CACHE: quota.*mutually exclusive"),
        (POSIX | {"CVMFS_CACHE_p_ALIEN": "/a", "CVMFS_CACHE_p_SHARED": "yes"}, "CVMFS_CACHE_p_ALIEN"),
        (POSIX | {"CVMFS_CACHE_p_ALIEN": "/a", "CVMFS_CACHE_p_QUOTA_LIMIT": "1"}, "CVMFS_CACHE_p_ALIEN"),
        (POSIX | {"CVMFS_CACHE_p_TYPE": "external"}, "CVMFS_CACHE_p_TYPE=external: cache plugins are not supported"),
        (POSIX | {"CVMFS_CACHE_p_TYPE": "disk"}, "CVMFS_CACHE_p_TYPE=disk: invalid"),
        ({"CVMFS_CACHE_PRIMARY": "p"}, "CVMFS_CACHE_p_TYPE=: invalid"),
        ({"CVMFS_CACHE_PRIMARY": "a-b"}, "CVMFS_CACHE_PRIMARY=a-b: invalid instance name"),
        ({"CVMFS_CACHE_PRIMARY": "x" * 25}, "invalid instance name"),
        (RAM | {"CVMFS_CACHE_m_SIZE": "much"}, "CVMFS_CACHE_m_SIZE=much"),
        (RAM | {"CVMFS_CACHE_m_SIZE": "0"}, "CVMFS_CACHE_m_SIZE=0"),
        (RAM | {"CVMFS_CACHE_m_SIZE": "-3"}, "CVMFS_CACHE_m_SIZE=-3"),
        (TIERED | {"CVMFS_CACHE_hpc_UPPER": ""}, "CVMFS_CACHE_hpc_UPPER missing"),
        ({k: v for k, v in TIERED.items() if not k.endswith("LOWER")}, "CVMFS_CACHE_hpc_LOWER missing"),
        (TIERED | {"CVMFS_CACHE_hpc_LOWER": "hpc"}, "CVMFS_CACHE_hpc_LOWER=hpc: circular"),
        (TIERED | {"CVMFS_CACHE_m_TYPE": "external"}, "CVMFS_CACHE_m_TYPE=external"),
        ({"CVMFS_STREAMING_CACHE": "perhaps"}, "CVMFS_STREAMING_CACHE"),
        ({"CVFS_VERIFY_ON_OPEN": "2"}, "CVFS_VERIFY_ON_OPEN"),
    ],
)
def test_what_is_refused(parameters, reason):
    with pytest.raises(UsageError, match=reason):
        _settings(parameters)


def test_the_control_files_stay_where_they_were_with_an_alien_cache():
    got = settings_from(FQRN, {"CVMFS_ALIEN_CACHE": "/nfs", "CVMFS_CACHE_BASE": "/b"})
    assert got.mount.workspace == got.cache.directory == f"/b/{FQRN}"


@pytest.mark.parametrize(
    ("parameter", "field"), [("CVMFS_STREAMING_CACHE", "streaming"), ("CVFS_VERIFY_ON_OPEN", "verify_on_open")]
)
def test_switches_are_off_until_they_are_set(parameter, field):
    assert not getattr(_settings({}), field)
    assert getattr(_settings({parameter: "yes"}), field)


def test_every_place_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    upper, lower = PosixCache("u", "up", 5), PosixCache("l", "low", alien=True)
    got = CacheSettings("c", alien="a", primary=TieredCache("t", upper, lower)).with_absolute_places()
    assert (got.directory, got.alien) == (f"{tmp_path}/c", f"{tmp_path}/a")
    assert [one.directory for one in directories(got.instance)] == [f"{tmp_path}/up", f"{tmp_path}/low"]


def test_without_a_directory_nothing_is_kept():
    assert CacheSettings().instance is None
    assert directories(None) == ()
    assert directories(RamCache("m", 1)) == ()
