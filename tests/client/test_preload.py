"""A cache that is filled before anybody asks: everything or a part, verified, and never twice."""

import os
import shutil

import pytest

from cvfs.client.path_specification import PathSpecification
from cvfs.client.preload import leave_breadcrumb, preload
from cvfs.client.repository import Repository
from cvfs.errors import StoreFull

FQRN = "tiny.example.org"


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository(FQRN)


def _served(tiny, server, local_settings, **changes):
    return Repository.open_settings(local_settings(tiny, servers=(f"{server.url}/{FQRN}",), **changes))


def _objects(server):
    return [path for path in server.requests if "/data/" in path]


def _assert_readable_without_network(tiny, settings, below=b""):
    """Everything that the original showed is read, and nobody is asked."""
    with Repository.open_settings(settings) as repository:
        for path, entry in repository.walk(below):
            if entry.is_regular:
                for piece in repository.pieces(path, entry):
                    descriptor = repository.contents_of(entry).open_present(piece.wanted)
                    assert descriptor is not None, path
                    os.close(descriptor)


@pytest.mark.parametrize("kind", ["posix", "alien"])
def test_everything_is_there_afterwards_and_fetched_once(tiny, web, local_settings, tmp_path, kind):
    server = web(tiny.root)
    changes = {"alien": str(tmp_path / "alien")} if kind == "alien" else {}
    seen = []
    with _served(tiny, server, local_settings, **changes) as repository:
        report = preload(repository, workers=3, progress=lambda state: seen.append(state.fetched + state.present))
        assert (report.failed, report.failures) == (0, [])
        assert report.files > 900
        assert seen == sorted(seen)
        assert seen[-1] == report.fetched + report.present
        assert len(_objects(server)) == len(set(_objects(server)))
        assert repository.plane.cache.check(workers=2).dropped == ()
    server.requests.clear()
    with _served(tiny, server, local_settings, **changes) as repository:
        again = preload(repository)
        assert (again.fetched, again.present) == (0, report.fetched + report.present)
    assert len(_objects(server)) <= 1, "more than the certificate"
    _assert_readable_without_network(tiny, local_settings(tiny, servers=(f"{server.url}/{FQRN}",), **changes))


def test_only_what_is_chosen_is_fetched(tiny, web, local_settings):
    server = web(tiny.root)
    with _served(tiny, server, local_settings) as repository:
        report = preload(repository, PathSpecification.parse(b"/chunked\n/files/h*\n", "here"))
        assert 0 < report.files < 100
        fetched = len(_objects(server))
        repository.read("/chunked/random_500k")
        repository.read("/files/hello.txt")
        assert len(_objects(server)) == fetched


def test_what_is_damaged_is_told_and_the_rest_goes_on(tiny, local_settings, tmp_path):
    shutil.copytree(tiny.storage, tmp_path / "www")
    settings = local_settings(tiny, servers=(f"file://{tmp_path}/www",))
    with Repository.open_settings(settings) as repository:
        entry = repository.lookup("/files/hello.txt")
        catalog = repository.tree.governing(b"/names").content
    kept = {place: place.read_bytes() for place in (tmp_path / "www" / one.path for one in (entry.content, catalog))}
    for place in kept:
        place.write_bytes(b"flipped")
    with Repository.open_settings(settings) as repository:
        # The catalog is in the cache already: it was verified.
        cache = repository.plane.cache
        cache.evict(catalog)
        report = preload(repository)
        assert report.failed >= 2
        assert any(failure.startswith("/files/hello.txt: ") for failure in report.failures)
        assert any(failure.startswith("/names: ") for failure in report.failures)
        assert report.files > 500
        assert cache.check().dropped == ()
    for place, data in kept.items():
        place.write_bytes(data)
    with Repository.open_settings(settings) as repository:
        report = preload(repository)
        assert report.failed == 0
        assert 0 < report.fetched < report.present


def test_what_is_not_kept_is_a_failure(tiny, local_settings):
    with Repository.open_settings(local_settings(tiny, quota=2**17)) as repository:
        report = preload(repository)
        assert report.failed > 0
        assert any("kept" in failure for failure in report.failures)


def test_without_a_cache_there_is_nothing_to_fill(tiny, local_settings):
    with Repository.open_settings(local_settings(tiny, cache_dir=None)) as repository, pytest.raises(StoreFull):
        preload(repository)


def test_the_revision_is_written_down_as_the_original_does(tiny, local_settings, tmp_path):
    with Repository.open_settings(local_settings(tiny)) as repository:
        leave_breadcrumb(repository, str(tmp_path))
        expected = f"{repository.revision.root_hash}T{repository.tree.root().last_modified}R{repository.number}"
    assert (tmp_path / f"cvmfschecksum.{FQRN}").read_text() == expected
