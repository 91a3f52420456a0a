"""A repository in S3 under faults: a publish is whole, or the old revision stands and the next one is whole; nothing is
signed that is not stored."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ENVIRONMENT

from cvfs.compression import ZLIB
from cvfs.errors import StoreError
from cvfs.format.signature import load_public_key
from cvfs.hashes import ContentHash
from cvfs.store.base import fetch_document
from cvfs_server.check.check import CheckOptions, check
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.gc.collect import GcOptions, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.ingest import ingest
from cvfs_server.publication import PublishOptions
from cvfs_server.repository import MANIFEST, PublishedRepository
from cvfs_server.settings import default_settings, in_s3
from cvfs_server.site import Site
from cvfs_server.storage import bucket as requests
from cvfs_server.storage.choice import storage_of
from cvfs_server.tags.rollback import rollback
from cvfs_server.ways.tree import publish_tree

FILES = 6
SERVER = (sys.executable, "-c", "from cvfs_tools.server_command import main; main(prog_name='cvfs-server')")


class InS3:
    """A repository whose requests go through the relay, or not."""

    def __init__(self, server, relay, directory: Path) -> None:
        self._server = server
        self._relay = relay
        self._file = directory / "s3.conf"
        self.directory = directory
        self.tree = directory / "tree"
        self.fqrn = server.new_name()
        self.site = Site(str(directory / "site"))
        self.go(directly=True)
        settings = default_settings(self.site, self.fqrn)
        # Such tags would keep every revision from being collected.
        settings = dataclasses.replace(settings, auto_tag=False)
        self.settings = in_s3(settings, str(self._file), server.public_url)
        mkfs(self.site, self.settings)

    def go(self, *, directly: bool, **parameters: object) -> None:
        """From now on requests pass the relay, unless they go `directly`, with parameters of S3."""
        port = self._server.port if directly else self._relay.port
        self._server.configuration(self._file, PORT=port, **parameters)

    def write(self, text: str) -> None:
        """The tree that is to be published: files in two catalogs."""
        for number in range(FILES):
            place = self.tree / f"d{number % 2}" / f"f{number}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{text} {number}\n" * 10)
        (self.tree / "d1" / ".cvmfscatalog").touch()

    def publish(self, **options: object):
        return publish_tree(self.site, self.fqrn, os.fsencode(self.tree), PublishOptions(**options))

    def manifest(self) -> bytes:
        return fetch_document(storage_of(self.settings), MANIFEST)

    def check(self) -> list[object]:
        """What is wrong with the repository; every object is read."""
        keys = (load_public_key(Path(self.site.key(self.fqrn, "pub")).read_bytes()),)
        options = CheckOptions(integrity=True, public_keys=keys, now=time.time(), workers=1)
        repository = PublishedRepository.open(self.site, self.fqrn)
        scratch = self.directory / "scratch"
        scratch.mkdir(exist_ok=True)
        return list(check(repository.storage, repository.manifest, options, str(scratch)))

    def damage(self) -> list[object]:
        """The same without warnings."""
        return [finding for finding in self.check() if not finding.is_warning]

    def holds(self, text: str) -> bool:
        """Whether every file of a tree is stored."""
        storage = storage_of(self.settings)
        contents = [ZLIB.encode((f"{text} {number}\n" * 10).encode()) for number in range(FILES)]
        return all(storage.has(ContentHash.of(content, self.settings.algorithm).path) for content in contents)


@pytest.fixture
def repository(object_server, relay, tmp_path, monkeypatch):
    """One with a published tree; no pause between attempts takes long."""
    monkeypatch.setattr(requests, "_LONGEST_PAUSE", 0.05)
    made = InS3(object_server, relay, tmp_path)
    made.write("old")
    made.publish()
    return made


@pytest.mark.parametrize(
    "fault",
    [
        ("503", "PUT", {"times": 4}),
        ("reset", "PUT", {"times": 4}),
        ("lost", "PUT", {"times": 4}),
        ("slow", "PUT", {}),
        ("503", "HEAD", {"times": 4}),
        ("cut", "GET", {"times": 4}),
        ("503", "PUT", {"objects": False, "times": 2}),
        ("lost", "PUT", {"objects": False}),
    ],
    ids=lambda fault: "-".join(map(str, fault[:2])),
)
def test_troubles_that_pass_do_no_harm(repository, relay, fault):
    kind, method, when = fault
    repository.go(directly=False, MAX_RETRIES=6)
    relay.only(kind, method, **when)
    repository.write("new")
    assert repository.publish(workers=1).revision == 3
    assert relay.spoiled
    repository.go(directly=True)
    assert repository.check() == []
    assert repository.holds("new")


@pytest.mark.parametrize(
    "fault",
    [
        ("503", "PUT", {"first": 3}),
        ("hang", "PUT", {"first": FILES}),
        ("lie", "PUT", {"first": 3, "times": 1}),
        ("lie", "PUT", {"first": FILES + 1, "times": 1}),
        ("lie", "PUT", {}),
        ("lie", "PUT", {"objects": False}),
        ("503", "PUT", {"objects": False}),
        ("reset", "HEAD", {"first": 5}),
        ("reset", "GET", {"first": 1}),
    ],
    ids=lambda fault: "-".join(map(str, (*fault[:2], *fault[2].values()))),
)
def test_troubles_that_stay_leave_the_old_revision(repository, relay, fault):
    kind, method, when = fault
    before = repository.manifest()
    repository.go(directly=False, MAX_RETRIES=1, **({"TIMEOUT": 2} if kind == "hang" else {}))
    relay.only(kind, method, **when)
    repository.write("new")
    with pytest.raises(StoreError):
        repository.publish(workers=1)
    assert relay.spoiled
    relay.behave()
    repository.go(directly=True)
    assert repository.manifest() == before
    # A manifest that never arrived leaves a reflog that knows of it already.
    assert repository.damage() == []
    assert repository.publish(workers=1).revision == 3
    assert repository.check() == []
    assert repository.holds("new")


def test_many_files_go_through_worker_processes(repository, relay, monkeypatch):
    """What they put is asked for as well."""
    monkeypatch.setattr(ingest, "INLINE_FILES", 20)
    repository.go(directly=False, MAX_RETRIES=1)
    for number in range(40):
        (repository.tree / f"many{number}").write_text(f"{number}")
    relay.only("lie", "PUT", first=15, times=1)
    before = repository.manifest()
    with pytest.raises(StoreError, match="acknowledged it and does not have it"):
        repository.publish(workers=2)
    assert len(relay.spoiled) == 1
    assert repository.manifest() == before


@pytest.mark.parametrize("fault", [("lie", "PUT", {"objects": False}), ("503", "PUT", {})], ids=str)
def test_a_rollback_is_whole_or_not_at_all(repository, relay, fault):
    repository.write("new")
    repository.publish(tag="new")
    before = repository.manifest()
    repository.go(directly=False, MAX_RETRIES=0)
    kind, method, when = fault
    relay.only(kind, method, **when)
    with pytest.raises(StoreError):
        rollback(repository.site, repository.fqrn)
    assert relay.spoiled
    repository.go(directly=True)
    assert repository.manifest() == before
    assert repository.damage() == []
    rollback(repository.site, repository.fqrn)
    assert repository.check() == []
    assert repository.holds("old")


def _collect(repository):
    return collect(repository.site, repository.fqrn, GcOptions(Keeping(revisions=0), workers=1))


@pytest.mark.parametrize("fault", [("503", "POST"), ("lie", "PUT")], ids="-".join)
def test_a_collection_that_failed_is_finished_by_the_next(repository, relay, fault):
    for text in ("older", "new"):
        repository.write(text)
        repository.publish()
    stored = len(list(storage_of(repository.settings).objects()))
    repository.go(directly=False, MAX_RETRIES=0)
    kind, method = fault
    relay.fault = lambda request: kind if request.method == method and "/data/" not in request.path else ""
    with pytest.raises(StoreError):
        _collect(repository)
    assert relay.spoiled
    repository.go(directly=True)
    assert repository.damage() == []
    _collect(repository)
    # The signed digest of the reflog is that of before the collection.
    assert repository.damage() == []
    assert repository.holds("new")
    assert len(list(storage_of(repository.settings).objects())) < stored - FILES


@pytest.mark.parametrize(
    "when", [("PUT", True, 1), ("PUT", True, FILES), ("PUT", False, 1), ("HEAD", True, FILES)], ids=str
)
def test_a_killed_publish_is_cleared_away_by_the_next(repository, relay, when):
    method, objects, number = when
    before, met = repository.manifest(), itertools.count(1)
    repository.go(directly=False)
    repository.write("new")
    started: list[subprocess.Popen[bytes]] = []

    def kill(request):
        wanted = request.is_object if objects else request.is_manifest
        if request.method == method and wanted and next(met) == number:
            os.kill(started[0].pid, signal.SIGKILL)
            return "reset"
        return ""

    relay.fault = kill
    command = [*SERVER, "publish", "--root", repository.site.root, "--from", repository.tree, repository.fqrn]
    with subprocess.Popen(list(map(str, command)), env=ENVIRONMENT) as process:
        started.append(process)
        assert process.wait(100) == -signal.SIGKILL
    repository.go(directly=True)
    assert repository.manifest() == before
    assert repository.damage() == []
    assert repository.publish(workers=1).revision == 3
    assert repository.check() == []
    assert repository.holds("new")
    assert list(Path(repository.settings.s3.staging).rglob("*")) == []


def test_nothing_is_left_over(repository):
    assert list(Path(repository.settings.s3.staging).rglob("*")) == []
