"""A repository of the original's, a file that tells a client all about it, and `cvfs-server` on a site of its own."""

import pytest
from click.testing import CliRunner

from cvfs_tools.server_command import main

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


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a verb of `cvfs-server`; `say` is its standard input."""
    monkeypatch.setenv("CVFS_ROOT", str(tmp_path / "site"))
    return lambda *words, say="": CliRunner().invoke(main, words, input=say, prog_name="cvfs-server")
