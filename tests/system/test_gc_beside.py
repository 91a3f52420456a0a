"""Garbage collection, two publishers and readers at the same time, each in a process of its own, round after round."""

import os
import subprocess
import sys
import threading
import time

import pytest
import stored
from processes import ENVIRONMENT

from cvfs.chunking import ChunkSizes
from cvfs.errors import StoreError
from cvfs_server.gc.collect import GcOptions, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.repository import PublishedRepository

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("CVFS_GC_ROUNDS", "6"))

PUBLISHER = """
import os, random, sys
from cvfs_server.publication import PublishOptions
from cvfs_server.ways.tree import TreeOptions, publish_tree
from cvfs_server.site import Site

root, fqrn, tree, to, rounds = sys.argv[1:]
dice = random.Random(to)

def content():
    seed = dice.randrange(120)
    return random.Random(seed).randbytes(300 + seed)

for number in range(int(rounds)):
    for _ in range(60):
        with open(f"{tree}/f{dice.randrange(200)}", "wb") as file:
            file.write(content())
    with open(f"{tree}/large", "wb") as file:
        file.write(content() * 80)
    options = PublishOptions(workers=2)
    publish_tree(Site(root), fqrn, tree, options, TreeOptions(os.fsencode(to)))
    print("published", flush=True)
"""

COLLECTOR = """
import sys, threading
from cvfs_server.gc.collect import GcOptions, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.site import Site

root, fqrn = sys.argv[1:]
enough = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), enough.set()), daemon=True).start()
runs = deleted = 0
while not enough.is_set():
    report = collect(Site(root), fqrn, GcOptions(Keeping(revisions=0), patience=5, workers=1))
    runs, deleted = runs + 1, deleted + report.deleted
    print(runs, deleted, flush=True)
"""


class Reader(threading.Thread):
    """Reads all of the newest revision, again and again."""

    def __init__(self, own, look_through):
        super().__init__()
        self._own = own
        self._look_through = look_through
        self.enough = threading.Event()
        self.whole = 0
        self.failure = None

    def run(self):
        try:
            while not self.enough.is_set() or not self.whole:
                self._read()
        except BaseException as error:
            self.failure = error
            raise

    def _read(self):
        with self._own.open() as repository:
            number = repository.number
            try:
                self._look_through(repository)
                self.whole += 1
            except StoreError:
                # The newest revision and the one before are whole, as long as they are.
                assert self._own.manifest().revision >= number + 2


def _start(program, *words, **options):
    command = [sys.executable, "-c", program, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


@pytest.fixture
def own(new_repository):
    """A revision with a name, and garbage."""
    made = new_repository(compression="zlib-fast", chunk_sizes=ChunkSizes(4096, 8192, 16384), auto_tag=False)
    for number in range(50):
        (made.tree / f"f{number}").write_bytes(b"kept %d" % number)
    (made.tree / "p0").mkdir()
    (made.tree / "p1").mkdir()
    (made.tree / "p1" / ".cvmfscatalog").touch()
    made.publish(tag="kept", workers=1)
    return made


def test_all_at_once(own, client, look, look_through, tmp_path):
    with own.open() as repository:
        kept = look_through(repository)
    reading = client(own, f"file://{own.storage.parent}")
    reading.mount("-o", "CVMFS_REPOSITORY_TAG=kept")
    sources = [tmp_path / name for name in ("source0", "source1")]
    for source in sources:
        source.mkdir()
    (sources[1] / ".cvmfscatalog").touch()
    reader = Reader(own, look_through)
    reader.start()
    collector = _start(COLLECTOR, own.site.root, own.fqrn, stdin=subprocess.PIPE)
    publishers = [
        _start(PUBLISHER, own.site.root, own.fqrn, str(source), f"/p{number}", str(ROUNDS))
        for number, source in enumerate(sources)
    ]
    try:
        for publisher in publishers:
            assert publisher.communicate(timeout=500)[0].split() == ["published"] * ROUNDS
            assert publisher.returncode == 0
        counts = collector.communicate("", timeout=120)[0].splitlines()
        assert collector.returncode == 0
    finally:
        reader.enough.set()
        for process in (collector, *publishers):
            process.kill()
        reader.join(120)
    runs, deleted = map(int, counts[-1].split())
    assert runs > 0
    assert deleted > 0
    assert reader.failure is None
    assert reader.whole > 0
    assert look(os.fsencode(reading.mountpoint)) == kept
    _assert_exact(own, look, look_through, sources)


def _assert_exact(own, look, look_through, sources):
    assert [finding for finding in own.check(all_tags=True) if not finding.is_warning] == []
    with own.open() as repository:
        seen = look_through(repository)
    for number, source in enumerate(sources):
        top = b"/p%d" % number
        expected = {top + path: entry.content for path, entry in look(os.fsencode(source)).items()}
        assert {path: entry.content for path, entry in seen.items() if (path + b"/").startswith(top + b"/")} == expected
    collect(own.site, own.fqrn, GcOptions(Keeping(revisions=0), orphans_before=time.time() + 10, workers=1))
    roots = {tag.root_catalog for tag in PublishedRepository.open(own.site, own.fqrn).history().tags}
    left = {place for place in stored.objects(own.storage) if place[-1] not in "XHM"}
    assert left == stored.closure(own.storage, roots)
