"""A repository's server.conf: what is written is read, the original's files keep their meaning, nonsense is named."""

import dataclasses
from pathlib import Path

import pytest

from cvfs.chunking import ChunkSizes
from cvfs.errors import NotFound, UsageError
from cvfs.hashes import Algorithm
from cvfs_server.settings import configuration_text, configured_repositories, default_settings, load_settings
from cvfs_server.site import Site

FQRN = "sw.example.org"


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path))


def _write(site, text, fqrn=FQRN):
    path = Path(site.configuration(fqrn))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, errors="surrogateescape")
    return load_settings(site, fqrn)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": Algorithm.SHAKE128, "compression": "none", "bulk_chunks": True},
        {"algorithm": Algorithm.RMD160, "compression": "zstd", "xattrs": False, "mtime_ns": False},
        {"use_chunking": False, "chunk_sizes": ChunkSizes(32, 64, 128)},
        {"user": "somebody", "url": "http://host:8000/cvmfs/x", "auto_tag": False, "auto_tag_timespan": "4 weeks ago"},
        {"garbage_collection": False, "ttl": 61, "ignore_special_files": True},
        {"storage": "/a place/with $(signs) #;\udcff", "spool": '/"quoted"'},
    ],
)
def test_what_is_written_is_read(site, changes):
    settings = dataclasses.replace(default_settings(site, FQRN), **changes)
    assert _write(site, configuration_text(settings)) == settings


@pytest.mark.parametrize("place", ["/it's", "/a\nb", "/a\x1cb"])
def test_what_cannot_be_written_is_refused(site, place):
    with pytest.raises(UsageError, match=r"server\.conf"):
        configuration_text(dataclasses.replace(default_settings(site, FQRN), spool=place))


def test_an_empty_file_means_the_originals_defaults(site):
    settings = _write(site, "")
    assert settings.fqrn == FQRN
    assert settings.storage == site.storage(FQRN)
    assert (settings.algorithm, settings.compression) == (Algorithm.SHA1, "zlib")
    assert settings.chunk_sizes == ChunkSizes(4 * 2**20, 8 * 2**20, 16 * 2**20)
    assert (settings.use_chunking, settings.auto_tag) == (True, True)
    assert (settings.xattrs, settings.mtime_ns, settings.bulk_chunks, settings.garbage_collection) == (False,) * 4
    assert settings.ttl == 240


def test_the_originals_file(site, fixture_repository):
    text = (fixture_repository("tiny-shake128.example.org").root / "server.conf").read_text()
    settings = _write(site, text, "tiny-shake128.example.org")
    assert settings.storage == "/srv/cvmfs/tiny-shake128.example.org"
    assert settings.spool == "/var/spool/cvmfs/tiny-shake128.example.org"
    assert (settings.algorithm, settings.compression) == (Algorithm.SHAKE128, "none")
    assert settings.form.chunking == ChunkSizes(16384, 32768, 65536)
    assert (settings.xattrs, settings.mtime_ns, settings.bulk_chunks) == (True, True, True)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("CVMFS_HASH_ALGORITHM=shake128", "algorithm", Algorithm.SHAKE128),
        ("CVMFS_HASH_ALGORITHM=rmd160", "algorithm", Algorithm.RMD160),
        ("CVMFS_COMPRESSION_ALGORITHM=default", "compression", "default"),
        ("CVMFS_INCLUDE_XATTRS=yes", "xattrs", True),
        ("CVMFS_INCLUDE_XATTRS=ON", "xattrs", True),
        ("CVMFS_AUTO_TAG=no", "auto_tag", False),
        ("CVMFS_AUTO_TAG=", "auto_tag", True),
        ("CVMFS_REPOSITORY_TTL=", "ttl", 240),
        ("CVMFS_SPOOL_DIR='/a b'", "spool", "/a b"),
        ("export CVMFS_USER=me # why", "user", "me"),
    ],
)
def test_a_line(site, line, field, value):
    assert getattr(_write(site, line + "\n"), field) == value


def test_no_chunks(site):
    assert _write(site, "CVMFS_USE_FILE_CHUNKING=false").form.chunking is None


@pytest.mark.parametrize(
    "line",
    [
        "CVMFS_HASH_ALGORITHM=md5",
        "CVMFS_VOMS_AUTHZ=atlas",
        "CVMFS_REPOSITORY_TYPE=stratum1",
        "CVMFS_COMPRESSION_ALGORITHM=lzma",
        "CVMFS_MIN_CHUNK_SIZE=many",
        "CVMFS_REPOSITORY_TTL=" + 5000 * "9",
        "CVMFS_SPOOL_DIR=somewhere",
        "CVMFS_MIN_CHUNK_SIZE=-5",
        "CVMFS_MIN_CHUNK_SIZE=31",
        "CVMFS_MIN_CHUNK_SIZE=16777216",
        "CVMFS_REPOSITORY_TTL=0",
        "CVMFS_REPOSITORY_TTL=\u0664",
        "CVMFS_INCLUDE_XATTRS=perhaps",
        "CVMFS_UPSTREAM_STORAGE=s3,/tmp,conf",
        "CVMFS_UPSTREAM_STORAGE=local,/tmp,relative",
        "CVMFS_UPSTREAM_STORAGE=local",
        "CVMFS_REPOSITORY_NAME=../etc",
    ],
)
def test_nonsense_is_named(site, line):
    with pytest.raises(UsageError) as caught:
        _write(site, line)
    assert "\n" not in str(caught.value)


def test_no_such_repository(site):
    with pytest.raises(NotFound, match="mkfs"):
        load_settings(site, FQRN)
    with pytest.raises(UsageError):
        load_settings(site, "../../etc")


def test_which_repositories_there_are(site):
    assert configured_repositories(site) == []
    for fqrn in ("b.example.org", "a.example.org"):
        _write(site, "", fqrn)
    Path(site.repositories, "empty.example.org").mkdir()
    assert configured_repositories(site) == ["a.example.org", "b.example.org"]


def test_the_places_of_a_site():
    site = Site("/root")
    assert site.configuration(FQRN) == f"/root/etc/cvmfs/repositories.d/{FQRN}/server.conf"
    assert site.key(FQRN, "pub") == f"/root/etc/cvmfs/keys/{FQRN}.pub"
    assert site.storage(FQRN) == f"/root/srv/cvmfs/{FQRN}"
    assert site.spool(FQRN) == f"/root/var/spool/cvmfs/{FQRN}"
    assert Site().web_root == "/srv/cvmfs"
    for place in (site.configuration, site.storage, site.spool, lambda name: site.key(name, "pub")):
        for name in ("", "..", "a/b", "a b", "x" * 300):
            with pytest.raises(UsageError):
                place(name)
