"""server.conf of another version: what the present layout calls differently is rewritten, everything else stays."""

import os
from pathlib import Path

import pytest

from cvfs.errors import NotFound, TrustError, UsageError
from cvfs_server.founding.migration import migrate
from cvfs_server.settings import LAYOUT_REVISION, load_settings


@pytest.fixture
def own(new_repository):
    return new_repository()


def _conf(own):
    return Path(own.site.configuration(own.fqrn))


def _edit(own, *changes):
    text = _conf(own).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    _conf(own).write_text(text)
    return text


PRESENT = f"CVMFS_CREATOR_VERSION={LAYOUT_REVISION}\n"


def test_the_present_layout_stays(own):
    before = _conf(own).read_bytes()
    assert migrate(own.site, own.fqrn) is None
    assert _conf(own).read_bytes() == before


@pytest.mark.parametrize("version", ["142", "137", "2.1.20", "2.3.0-1", "'142'"])
def test_only_the_version_changes(own, version):
    addition = "# by hand\nif [ -n '' ]; then export CVMFS_TOO=1; fi\n"
    text = _edit(own, (PRESENT, f"CVMFS_CREATOR_VERSION={version}\n{addition}"))
    os.chmod(_conf(own), 0o640)
    assert migrate(own.site, own.fqrn) == version.strip("'")
    assert _conf(own).read_text() == text.replace(f"VERSION={version}\n", f"VERSION={LAYOUT_REVISION}\n")
    assert _conf(own).stat().st_mode & 0o777 == 0o640
    assert migrate(own.site, own.fqrn) is None


def test_a_file_without_a_version(own):
    text = _edit(own, (PRESENT, "")).rstrip("\n")
    _conf(own).write_text(text)
    assert migrate(own.site, own.fqrn) == "unknown"
    assert _conf(own).read_text() == f"{text}\n{PRESENT}"


def test_the_upstream_of_old_times(own):
    present = f"CVMFS_UPSTREAM_STORAGE={own.settings.upstream}\n"
    _edit(own, (PRESENT, "CVMFS_CREATOR_VERSION=2.1.6\n"), (present, f"CVMFS_UPSTREAM_STORAGE=local:{own.storage}\n"))
    assert migrate(own.site, own.fqrn) == "2.1.6"
    assert present in _conf(own).read_text()
    own.publish()


def test_the_warning_that_became_limits(own):
    _edit(own, (PRESENT, "CVMFS_CREATOR_VERSION=137\nCVMFS_CATALOG_ENTRY_WARN_THRESHOLD=500000\n"))
    migrate(own.site, own.fqrn)
    text = _conf(own).read_text()
    assert "CVMFS_ROOT_KCATALOG_LIMIT=500\n" in text
    assert "CVMFS_NESTED_KCATALOG_LIMIT=500\n" in text
    assert "THRESHOLD" not in text


def test_a_newer_version_is_left_alone(own):
    text = _edit(own, (PRESENT, "CVMFS_CREATOR_VERSION=999\n"))
    with pytest.raises(UsageError, match="update cvfs"):
        migrate(own.site, own.fqrn)
    assert _conf(own).read_text() == text


def test_what_cannot_be_published_stays_as_it_was(own, new_repository):
    other = new_repository("other.example.org", "other")
    present = f"CVMFS_UPSTREAM_STORAGE={own.settings.upstream}\n"
    elsewhere = f"CVMFS_UPSTREAM_STORAGE=local,/tmp,{other.storage}\n"
    text = _edit(own, (PRESENT, "CVMFS_CREATOR_VERSION=142\n"), (present, elsewhere))
    with pytest.raises(TrustError):
        migrate(own.site, own.fqrn)
    assert _conf(own).read_text() == text
    _edit(own, (elsewhere, "CVMFS_UPSTREAM_STORAGE=nonsense\n"))
    with pytest.raises(UsageError):
        migrate(own.site, own.fqrn)


def test_no_such_repository(own):
    with pytest.raises(NotFound):
        migrate(own.site, "no.example.org")
    assert load_settings(own.site, own.fqrn) == own.settings
