"""What several test files share: repositories published by the original tools, and what system tests need."""

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class FixtureRepository:
    """An unpacked repository of the original tools; tests only read it.

    `root` is served as /cvmfs/ and holds `storage`, named by the fqrn; `private` holds the throw-away keys;
    `manifests` gives, by tag, the tree as the original client showed it.
    """

    fqrn: str
    root: Path
    manifests: dict[str, Any]

    @property
    def storage(self) -> Path:
        return self.root / self.fqrn

    @property
    def public_key(self) -> Path:
        return self.root / "keys" / f"{self.fqrn}.pub"

    @property
    def private(self) -> Path:
        return self.root / "keys" / "private"


@pytest.fixture(scope="session")
def fixture_repository(tmp_path_factory) -> Callable[[str], FixtureRepository]:
    """Gives the repository of that name, unpacked once per test process."""
    unpacked: dict[str, FixtureRepository] = {}

    def repository(fqrn: str) -> FixtureRepository:
        if fqrn not in unpacked:
            unpacked[fqrn] = _unpack(fqrn, tmp_path_factory.mktemp(fqrn))
        return unpacked[fqrn]

    return repository


def _unpack(fqrn: str, root: Path) -> FixtureRepository:
    with tarfile.open(DATA / f"{fqrn}.tar.xz") as archive:
        archive.extractall(root, filter="data")
    manifests = {path.stem: json.loads(path.read_bytes()) for path in sorted((root / "manifests").glob("*.json"))}
    return FixtureRepository(fqrn, root, manifests)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A machine that cannot mount skips the system tests; continuous integration must be able to."""
    if item.get_closest_marker("system") is None:
        return
    missing = _missing_for_mounts()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"system tests must run here, but {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)


def _missing_for_mounts() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not accessible"
    if os.geteuid() != 0:
        return "mounting needs root"
    return ""
