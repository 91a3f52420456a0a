"""A repository opened by its name, as it is configured for every command, and by its URL, where nothing else counts."""

import pickle
import subprocess
import sys

import pytest

import cvfs
from cvfs.client.library.request import Request
from cvfs.errors import NotFound, TrustError, Unreachable, UsageError

FQRN = "tiny.example.org"


@pytest.fixture
def etc(tiny, tmp_path):
    """A tree of configuration files, and the cache that it names."""
    tree = tmp_path / "etc"
    (tree / "keys").mkdir(parents=True)
    (tree / "keys" / "tiny.pub").write_bytes(tiny.public_key.read_bytes())
    (tree / "default.local").write_text(
        f"CVMFS_DEFAULT_DOMAIN=example.org\nCVMFS_SERVER_URL=file://{tiny.root}/@fqrn@\nCVMFS_HTTP_PROXY=DIRECT\n"
        f"CVMFS_CACHE_BASE={tmp_path}/base\nCVMFS_KEYS_DIR={tree}/keys\nCVMFS_REPOSITORY_TAG=s1\n"
    )
    return tree


def tag_of(reader) -> str:
    return reader.repository.revision.tag


@pytest.mark.usefixtures("no_configuration")
@pytest.mark.parametrize("name", [FQRN, "tiny"])
def test_by_its_name_it_is_configured_by_files(etc, tmp_path, name):
    with cvfs.open_repository(name, etc=etc) as reader:
        assert (reader.fqrn, tag_of(reader)) == (FQRN, "s1")
        assert reader.repository.settings.cache.directory == f"{tmp_path}/base/shared"
        assert reader.repository.plane.cache.usage()[0] > 0


@pytest.mark.usefixtures("no_configuration")
def test_variables_win_over_files_and_arguments_over_both(etc, monkeypatch):
    monkeypatch.setenv("CVFS_ETC", str(etc))
    monkeypatch.setenv("CVMFS_REPOSITORY_TAG", "s2")
    with cvfs.open_repository("tiny") as reader:
        assert tag_of(reader) == "s2"
    with cvfs.open_repository("tiny", parameters={"CVMFS_REPOSITORY_TAG": "s3"}) as reader:
        assert tag_of(reader) == "s3"
    with cvfs.open_repository("tiny", tag="s4", parameters={"CVMFS_REPOSITORY_TAG": "s3"}) as reader:
        assert tag_of(reader) == "s4"


@pytest.mark.usefixtures("no_configuration")
def test_without_any_file_arguments_are_enough(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    url = f"file://{tiny.root}/@fqrn@"
    given = {"url": url, "public_key": tiny.public_key, "cache": tmp_path / "c", "etc": tmp_path / "empty"}
    with cvfs.open_repository(FQRN, **given) as reader:
        assert reader.revision == 6
        assert (tmp_path / "c" / "txn").is_dir()


def test_a_url_says_everything(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("CVMFS_HTTP_PROXY", "http://nowhere.invalid:1")
    monkeypatch.setenv("CVMFS_REPOSITORY_TAG", "s1")
    monkeypatch.setenv("CVMFS_CACHE_BASE", str(tmp_path / "base"))
    with cvfs.open_repository(f"file://{tiny.storage}", public_key=tiny.public_key) as reader:
        assert (reader.revision, reader.repository.plane.cache) == (6, None)
    assert not (tmp_path / "base").exists()


def test_parameters_beside_a_url(tiny, tmp_path):
    given = {"CVMFS_QUOTA_LIMIT": "7", "CVMFS_TIMEOUT_DIRECT": 3, "CVMFS_USE_GEOAPI": False}
    with cvfs.open_repository(
        f"file://{tiny.storage}", public_key=tiny.public_key, cache=tmp_path / "c", parameters=given
    ) as reader:
        settings = reader.repository.settings
        assert (settings.cache.quota, settings.network.timeout_direct) == (7 * 2**20, 3)
        assert settings.trust.state == f"{tmp_path}/c.trust"


def test_a_root_hash_pins_a_revision(open_tiny, tiny):
    newest = open_tiny()
    with cvfs.open_repository(f"file://{tiny.storage}", root_hash=newest.root_hash) as reader:
        assert (reader.revision, reader.root_hash) == (newest.revision, newest.root_hash)
        assert reader.refresh() is False


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, UsageError, "a public key, or a root hash to pin, is needed"),
        ({"root_hash": "none"}, UsageError, "root_hash=none"),
        ({"root_hash": "0" * 40, "url": "http://x/"}, UsageError, "no other URL or tree can"),
        ({"root_hash": "0" * 40, "etc": "/"}, UsageError, "no other URL or tree can"),
        ({"parameters": {"HTTP_PROXY": "x"}}, UsageError, "HTTP_PROXY: no parameter"),
        ({"root_hash": "0" * 40, "parameters": {"CVMFS_TIMEOUT": "x"}}, UsageError, "CVMFS_TIMEOUT=x"),
        ({"parameters": {"CVMFS_TIMEOUT": [5]}}, UsageError, r"CVMFS_TIMEOUT=\[5\]: text or a number"),
    ],
)
def test_what_makes_no_sense(tiny, given, error, says):
    with pytest.raises(error, match=says):
        cvfs.open_repository(f"file://{tiny.storage}", **given)


def test_failures_to_open_name_what_is_wrong(tiny, fixture_repository, unused_port):
    url = f"file://{tiny.storage}"
    with pytest.raises(NotFound, match="no tag 'none'"):
        cvfs.open_repository(url, public_key=tiny.public_key, tag="none")
    with pytest.raises(TrustError):
        cvfs.open_repository(url, public_key=fixture_repository("tiny-shake128.example.org").public_key)
    with pytest.raises(Unreachable):
        cvfs.open_repository(f"http://127.0.0.1:{unused_port}/{FQRN}", public_key=tiny.public_key)


def test_places_are_those_of_the_program_that_asks(tiny, monkeypatch, tmp_path):
    """Whoever changes the directory, or unpickles elsewhere, finds the same key and cache."""
    monkeypatch.chdir(tiny.root)
    reader = cvfs.open_repository(f"file://{tiny.storage}", public_key=f"keys/{FQRN}.pub", cache="../somewhere")
    reader.close()
    assert dict(reader.request.assigned) == {
        "CVMFS_PUBLIC_KEY": str(tiny.public_key),
        "CVMFS_CACHE_DIR": str(tiny.root.parent / "somewhere"),
    }


def test_a_request_is_a_value():
    asked = Request.of("sw.example.org", {"CVMFS_TIMEOUT": "3", "CVMFS_PUBLIC_KEY": None}, "/etc/cvmfs")
    assert (
        asked == pickle.loads(pickle.dumps(asked)) == Request("sw.example.org", (("CVMFS_TIMEOUT", "3"),), "/etc/cvmfs")
    )
    assert len({asked, pickle.loads(pickle.dumps(asked))}) == 1


def test_importing_cvfs_loads_nothing():
    """Every command does."""
    code = (
        "import sys, cvfs; print([name for name in sys.modules if name.startswith('cvfs')], cvfs.errors.NotFound.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['cvfs'] 2"


def test_the_public_names():
    assert [name for name in cvfs.__all__ if getattr(cvfs, name) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cvfs.nothing
