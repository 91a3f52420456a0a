"""A publisher that is killed at any moment: what is published stays whole, the next publish succeeds, nobody is left behind."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ENVIRONMENT

from cvfs.chunking import ChunkSizes

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PUBLISH = """
import os, signal, sys
from cvfs_server.publication import PublishOptions
from cvfs_server.publish_tree import publish_tree as publish
from cvfs_server.site import Site

root, fqrn, tree, fatal = sys.argv[1:5]
publisher, acts, changing = os.getpid(), 0, {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}

def watch(event, arguments):
    global acts
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (event in changing or writes) and os.getpid() == publisher:
        acts += 1
        if acts == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
print("started", flush=True)
publish(Site(root), fqrn, tree, PublishOptions(workers=2))
print(acts, flush=True)
"""


class Victims:
    """Publishers in processes of their own, over a tree that changes."""

    def __init__(self, own, look_through, look):
        self.own = own
        self._look_through = look_through
        self._look = look
        self._random = random.Random(1)
        self.before = None

    def change(self):
        """More files than are taken on the spot, a chunked one, and a catalog that comes or goes."""
        for directory in ("a", "a/b", "c"):
            (self.own.tree / directory).mkdir(exist_ok=True)
            for number in range(60):
                (self.own.tree / directory / f"f{number}").write_bytes(self._random.randbytes(500))
        (self.own.tree / "large").write_bytes(self._random.randbytes(100_000))
        marker = self.own.tree / self._random.choice(("a", "a/b", "c")) / ".cvmfscatalog"
        marker.unlink() if marker.exists() else marker.touch()

    def start(self, fatal=0):
        own = self.own
        command = [sys.executable, "-c", PUBLISH, own.site.root, own.fqrn, str(own.tree), str(fatal)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
        assert process.stdout.readline() == "started\n"
        return process

    def run(self, fatal=0):
        """Runs to its end, or to that act; returns the number of acts, 0 if it was killed."""
        process = self.start(fatal)
        written = process.communicate(timeout=120)[0]
        assert process.returncode in (0, -signal.SIGKILL if fatal else 0)
        return int(written or 0)

    def look(self):
        """The source tree as it is now."""
        return self._look(os.fsencode(self.own.tree))

    def check_whole(self):
        """Clients see the revision of before, or the new one."""
        with self.own.open() as repository:
            seen = self._look_through(repository)
        assert seen in (self.before, self.look())
        assert [finding for finding in self.own.check() if not finding.is_warning] == []

    def publish(self):
        """The next one succeeds, and nothing of the killed one is left."""
        report = self.own.publish(workers=2)
        self.before = self.look()
        with self.own.open() as repository:
            assert self._look_through(repository) == self.before
            assert repository.number == report.revision
        assert self.own.check() == []
        assert os.listdir(self.own.storage / "data" / "txn") == []
        left = {"publish.lock", "publishers.lock", "publishers", "tmp", "reflog.chksum", "last_scan"}
        assert set(os.listdir(self.own.settings.spool)) <= left
        assert os.listdir(f"{self.own.settings.spool}/publishers") == os.listdir(f"{self.own.settings.spool}/tmp") == []


@pytest.fixture
def victims(new_repository, look_through, look):
    own = new_repository(compression="zlib-fast", chunk_sizes=ChunkSizes(4096, 8192, 16384), auto_tag=False)
    made = Victims(own, look_through, look)
    made.change()
    made.publish()
    return made


@pytest.mark.slow
def test_killed_at_each_act(victims):
    """Acts are what changes the file system, in the process that writes catalogs and releases."""
    victims.change()
    acts = victims.run()
    victims.before = victims.look()
    killed = 0
    for fatal in range(1, acts):
        victims.change()
        killed += victims.run(fatal) == 0
        victims.check_whole()
        victims.publish()
    assert killed > 30


@pytest.mark.slow
def test_killed_at_any_time(victims):
    victims.change()
    process = victims.start()
    began = time.monotonic()
    process.communicate(timeout=120)
    duration = time.monotonic() - began
    victims.before = victims.look()
    killed = 0
    for number in range(25):
        victims.change()
        process = victims.start()
        try:
            process.wait(duration * number / 25)
        except subprocess.TimeoutExpired:
            members = _session(process.pid)
            process.kill()
            killed += 1
            _wait_gone(members)
        process.communicate(timeout=120)
        victims.check_whole()
        victims.publish()
    assert killed >= 15


def _session(leader):
    """Descriptors of the processes of a session: the publisher and its workers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.append(os.pidfd_open(int(entry.name)))
            except ProcessLookupError:
                continue
    return found


def _wait_gone(descriptors):
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 20)[0], "a worker outlives its publisher"
        os.close(descriptor)
