"""A repository of the original's, opened by programs; what they have cached is forgotten after each test."""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

import cvfs
from cvfs import RepositoryReader
from cvfs.client.library.fsspec_filesystem import CvmfsFileSystem

FQRN = "tiny.example.org"


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository(FQRN)


@pytest.fixture(scope="module")
def reader(fixture_repository, tmp_path_factory) -> Iterator[RepositoryReader]:
    """It is opened once: tests only read it."""
    tiny = fixture_repository(FQRN)
    cache = tmp_path_factory.mktemp("cache") / "c"
    with cvfs.open_repository(f"file://{tiny.storage}", public_key=tiny.public_key, cache=cache) as opened:
        yield opened


@pytest.fixture
def open_tiny(tiny) -> Iterator[Callable[..., RepositoryReader]]:
    """Opens the repository at a URL, by default its storage; closed at the end."""
    with contextlib.ExitStack() as running:

        def opened(url: str | None = None, **options) -> RepositoryReader:
            given = {"public_key": tiny.public_key} | options
            return running.enter_context(cvfs.open_repository(url or f"file://{tiny.storage}", **given))

        yield opened


@pytest.fixture
def no_configuration(monkeypatch, tmp_path) -> None:
    """Neither the environment nor this machine says anything."""
    for name in [name for name in os.environ if name.startswith(("CVMFS_", "CVFS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def forgetting() -> Iterator[None]:
    """fsspec keeps every file system for ever, and with it what it has open."""
    yield
    CvmfsFileSystem.clear_instance_cache()
