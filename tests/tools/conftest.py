"""A repository of the original's, and a file that tells a client all about it."""

import pytest

FQRN = "tiny.example.org"


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository(FQRN)


@pytest.fixture
def configuration(tiny, tmp_path):
    """A file that says everything about the fixture."""
    file = tmp_path / "client.conf"
    file.write_text(
        f"CVMFS_SERVER_URL='file://{tiny.root}/@fqrn@'\nexport CVMFS_PUBLIC_KEY={tiny.public_key}\n"
        f"CVMFS_CACHE_BASE={tmp_path}/base # here\nCVMFS_REPOSITORY_TAG=s1\n"
    )
    return file
