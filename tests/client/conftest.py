"""Repositories opened for the tests of the client, and what a test gives a volume to look at."""

import contextlib
import dataclasses
import itertools
import socket
from collections.abc import Callable, Iterator

import pytest

from cvfs.client.repository import Repository
from cvfs.client.settings import Settings
from cvfs.client.settings.cache import CacheSettings
from cvfs.client.settings.mount import MountSettings
from cvfs.client.settings.network import NetworkSettings
from cvfs.client.settings.trust import TrustSettings
from cvfs.client.settings.view import ViewSettings
from cvfs.format.dirent import DirectoryEntry, content_flags, type_flags
from cvfs.hashes import Algorithm

PARTS = {
    "network": NetworkSettings,
    "trust": TrustSettings,
    "cache": CacheSettings,
    "view": ViewSettings,
    "mount": MountSettings,
}
SHORT = {"cache_dir": ("cache", "directory"), "trust_state": ("trust", "state")}


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    """Settings by the names of the fields of all their parts; `cache_dir` and `trust_state` for what is ambiguous."""
    known = {field.name: (part, field.name) for part, kind in PARTS.items() for field in dataclasses.fields(kind)}

    def make(fqrn: str = "sw.example.org", **given) -> Settings:
        parts = {part: {} for part in PARTS}
        own = {}
        for name, value in given.items():
            part, field = (SHORT | known).get(name, (None, name))
            (parts[part] if part else own)[field] = value
        return Settings(fqrn, **own, **{part: PARTS[part](**fields) for part, fields in parts.items()})

    return make


@pytest.fixture
def local_settings(tmp_path, make_settings) -> Callable[..., Settings]:
    """Settings for a publication or fixture on this machine: cache, trust state and socket below `tmp_path`."""

    def make(repository, **changes) -> Settings:
        public_key = getattr(repository, "repository", repository).public_key
        given = {
            "fqrn": repository.fqrn,
            "servers": (f"file://{repository.storage}",),
            "public_keys": (str(public_key),),
            "cache_dir": str(tmp_path / "cache"),
            "workspace": str(tmp_path / "run"),
            "trust_state": str(tmp_path / "trust"),
        }
        return make_settings(**given | changes)

    return make


@pytest.fixture
def opened(local_settings) -> Iterator[Callable[..., Repository]]:
    """Opens a publication or fixture; closed at the end."""
    with contextlib.ExitStack() as running:
        yield lambda repository, **changes: running.enter_context(
            Repository.open_settings(local_settings(repository, **changes))
        )


@pytest.fixture
def row() -> Callable[..., DirectoryEntry]:
    """Makes plausible catalog rows, each with a digest of its own."""
    digests = itertools.count(1)

    def make(name: bytes, mode: int = 0o100644, size: int = 10, **changes) -> DirectoryEntry:
        regular = mode >> 12 == 0o10
        flags = int(type_flags(mode)) | (content_flags(Algorithm.SHA1, 0) if regular else 0)
        digest = next(digests).to_bytes(20) if regular else None
        return DirectoryEntry(name, mode, size, 1700000000, None, 0, 0, 1, digest, flags)._replace(**changes)

    return make


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
