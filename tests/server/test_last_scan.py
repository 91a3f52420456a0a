"""What the publisher remembers of its last scan is a hint: a damaged one costs time, never the publish."""

import pytest

from cvfs_server.mkfs import mkfs
from cvfs_server.publish import publish
from cvfs_server.settings import default_settings
from cvfs_server.site import Site

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
    (tmp_path / f"site/var/spool/cvmfs/{FQRN}/last_scan.json").write_bytes(record)
    report = publish(site, FQRN, str(source))
    assert (report.revision, report.added, report.modified, report.removed) == (3, 0, 0, 0)
    # Without a record every file is looked at again.
    assert report.bytes_in == len(b"content")
