"""fsspec's own tests of file systems, as far as one that is only read can be asked to pass them."""

import os

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from cvfs.client.library.fsspec_filesystem import CvmfsFileSystem

# Each scenario of the tests is a directory of one repository, published once.
SCENARIOS = {
    "bulk": "_bulk_operations_scenario_0",
    "glob": "_glob_edge_cases_files",
    "prefix": "_dir_and_file_with_same_name_prefix",
    "hashed": "_10_files_with_hashed_names",
}


@pytest.fixture(scope="module")
def published(make_repository, tmp_path_factory):
    repository = make_repository(tmp_path_factory.mktemp("conformance"))
    local = LocalFileSystem(auto_mkdir=True)
    for name, make in SCENARIOS.items():
        getattr(AbstractFixtures(), make)(local, os.path.join, str(repository.tree / name))
    (repository.tree / "src").mkdir()
    (repository.tree / "src" / "file").touch()
    repository.publish()
    yield repository
    CvmfsFileSystem.clear_instance_cache()


class Fixtures(AbstractFixtures):
    """The repository in place of a file system that the tests write to first."""

    @pytest.fixture
    def fs(self, published, monkeypatch):
        """What a test makes for itself was published before."""
        place = os.path.dirname(published.tree)
        options = {"server_url": published.url, "public_key": published.public_key, "etc": place, "cache": f"{place}/c"}
        fs = fsspec.filesystem("cvmfs", **options)

        def is_there(path) -> None:
            assert fs.exists(path)

        monkeypatch.setattr(fs, "mkdir", is_there)
        monkeypatch.setattr(fs, "touch", is_there)
        return fs

    @pytest.fixture
    def fs_path(self, published):
        return published.fqrn

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, fs_path):
        return f"{fs_path}/bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self, fs_path):
        return f"{fs_path}/glob/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, fs_path):
        return f"{fs_path}/prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, fs_path):
        return f"{fs_path}/hashed/source"


class TestGet(Fixtures, AbstractGetTests):
    """Everything that is asked of reading."""


class TestTheScenarios(Fixtures):
    def test_all_that_the_tests_ask_for_is_there(self, fs, published):
        """Or they would compare nothing with nothing."""
        assert {name.rpartition("/")[2]: len(fs.find(name)) for name in fs.ls(published.fqrn, detail=False)} == {
            "bulk": 5,
            "glob": 8,
            "prefix": 2,
            "hashed": 10,
            "src": 1,
        }
