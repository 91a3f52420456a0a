"""What the publisher remembers of its last scan is a hint: a damaged one costs time, never the publish."""

import json
import os

import pytest

from cvfs.client.repository import Repository
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.settings import default_settings
from cvfs_server.site import Site
from cvfs_server.ways.tree import publish_tree as publish

FQRN = "hint.example.org"


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"root": 1}', b"[" * 100_000], ids=range(8)
)
def test_a_damaged_record_is_no_record(tmp_path, record):
    site = Site(str(tmp_path / "site"))
    mkfs(site, default_settings(site, FQRN))
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    publish(site, FQRN, str(source))
    (tmp_path / f"site/var/spool/cvmfs/{FQRN}/last_scan").write_bytes(record)
    report = publish(site, FQRN, str(source))
    assert (report.revision, report.added, report.modified, report.removed) == (3, 0, 0, 0)
    # Without a record every file is looked at again.
    assert report.bytes_in == len(b"content")


def test_a_directory_moved_into_place_is_read(tmp_path):
    """A rename changes the status of the directory alone: its files look as old as they are."""
    site = Site(str(tmp_path / "site"))
    mkfs(site, default_settings(site, FQRN))
    source, other = tmp_path / "source", tmp_path / "other"
    for directory, text in ((source / "lib", "version1"), (other, "version2")):
        (directory / "deep").mkdir(parents=True)
        (directory / "deep" / "file").write_text(text)
        os.utime(directory / "deep" / "file", (10**9, 10**9))
    publish(site, FQRN, str(source))
    age_last_scan(site)
    unchanged = publish(site, FQRN, str(source))
    assert unchanged.bytes_in == 0
    age_last_scan(site)
    (source / "lib").rename(tmp_path / "old")
    other.rename(source / "lib")
    assert publish(site, FQRN, str(source)).bytes_in == len("version2")
    url = f"file://{site.storage(FQRN)}"
    with Repository.open(url, site.key(FQRN, "pub")) as repository:
        assert repository.read("/lib/deep/file") == b"version2"


def age_last_scan(site):
    """As if the scan had begun long after the last change in the tree: a real one need not be waited for."""
    path = f"{site.spool(FQRN)}/last_scan"
    with open(path, "rb") as file:
        header, _, pairs = file.read().partition(b"\n")
    record = json.loads(header)
    record["started_ns"] += 10 * 10**9
    with open(path, "wb") as file:
        file.write(json.dumps(record).encode() + b"\n" + pairs)
