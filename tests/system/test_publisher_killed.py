"""Whoever changes a repository is killed at any moment: what is published stays whole, the next one succeeds, nobody is
left behind.

`CVFS_KILLS=200` kills that often, half at acts that change the file system and half at any time; by default some of each are
killed, as many as fit into a minute.
"""

import io
import os
import random
import select
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import stored
from processes import ENVIRONMENT

from cvfs.chunking import ChunkSizes
from cvfs_server.gc.collect import GcOptions, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.repository import PublishedRepository
from cvfs_server.tags.tags import remove_tags

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PROGRAM = """
import os, signal, sys, time
from cvfs_server.gc.collect import GcOptions, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.publication import PublishOptions
from cvfs_server.ways.archive import ArchiveOptions, publish_archive
from cvfs_server.ways.tree import publish_tree
from cvfs_server.tags.rollback import rollback
from cvfs_server.site import Site

root, fqrn, fatal, verb, *words = sys.argv[1:]
main, acts, changing = os.getpid(), 0, {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
options = PublishOptions(workers=2)

def publish(tree):
    publish_tree(Site(root), fqrn, tree, options)

def ingest(archive):
    publish_archive(Site(root), fqrn, ArchiveOptions(archive, b"/in"), options)

def back(tag):
    rollback(Site(root), fqrn, tag)

def gc(orphans):
    before = time.time() + 10 if orphans == "orphans" else None
    collect(Site(root), fqrn, GcOptions(Keeping(revisions=0), orphans_before=before, patience=60, workers=2))

def watch(event, arguments):
    global acts
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (event in changing or writes) and os.getpid() == main:
        acts += 1
        if acts == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
print("started", flush=True)
{"publish": publish, "ingest": ingest, "rollback": back, "gc": gc}[verb](*words)
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

    def start(self, fatal=0, verb="publish", *words):
        own = self.own
        words = words or (str(own.tree),)
        command = [sys.executable, "-c", PROGRAM, own.site.root, own.fqrn, str(fatal), verb, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
        assert process.stdout.readline() == "started\n"
        return process

    def run(self, fatal=0, *words):
        """Runs to its end, or to that act; returns the number of acts, 0 if it was killed."""
        process = self.start(fatal, *words)
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
        self.check_clean()

    def check_clean(self):
        """Nothing is left of anybody who was killed."""
        spool = self.own.settings.spool
        assert os.listdir(self.own.storage / "data" / "txn") == []
        left = {"publish.lock", "publishers.lock", "publishers", "tmp", "reflog.chksum", "last_scan", "stats.db", "gc"}
        assert set(os.listdir(spool)) <= left
        assert os.listdir(f"{spool}/publishers") == os.listdir(f"{spool}/tmp") == []


@pytest.fixture
def victims(new_repository, look_through, look):
    own = new_repository(compression="zlib-fast", chunk_sizes=ChunkSizes(4096, 8192, 16384), auto_tag=False)
    made = Victims(own, look_through, look)
    made.change()
    made.publish()
    return made


@pytest.mark.slow
def test_killed_at_each_act(victims):
    """Acts are what changes the file system, in the process that writes catalogs and releases.

    With CVFS_KILLS at each of them, else at every other one.
    """
    victims.change()
    acts = victims.run()
    victims.before = victims.look()
    killed = 0
    for fatal in range(1, acts, 1 if KILLS else 2):
        victims.change()
        killed += victims.run(fatal) == 0
        victims.check_whole()
        victims.publish()
    assert killed > 15


@pytest.mark.slow
def test_killed_at_any_time(victims):
    victims.change()
    process = victims.start()
    began = time.monotonic()
    process.communicate(timeout=120)
    duration = time.monotonic() - began
    victims.before = victims.look()
    killed = 0
    for number in range(8):
        victims.change()
        process = victims.start()
        try:
            process.wait(duration * number / 8)
        except subprocess.TimeoutExpired:
            members = _session(process.pid)
            process.kill()
            killed += 1
            _wait_gone(members)
        process.communicate(timeout=120)
        victims.check_whole()
        victims.publish()
    assert killed >= 4


class Campaign(Victims):
    """A repository with named revisions, whose contents come and go and come again.

    The directory tree is what the newest revision shows when all is done, also after an ingest. `trees` is what each root
    catalog showed that was ever the newest.
    """

    POOL = 150
    TAGS = 3

    def __init__(self, own, look_through, look, scratch):
        super().__init__(own, look_through, look)
        self._archive = scratch / "archive.tar"
        self._tags = 0
        self.trees = {own.manifest().root_catalog: self.newest()}
        self.acts = {}
        self.durations = {}
        for directory in ("a", "b", "in"):
            (own.tree / directory).mkdir()
        (own.tree / "b" / ".cvmfscatalog").touch()

    def change(self):
        """Contents from a pool: what was garbage is needed again."""
        for directory in ("a", "b"):
            for _ in range(25):
                (self.own.tree / directory / f"f{self._random.randrange(60)}").write_bytes(self._content())
        (self.own.tree / "large").write_bytes(self._content() * 100)
        self._fill_archive()

    def _content(self):
        seed = self._random.randrange(self.POOL)
        return random.Random(seed).randbytes(200 + seed)

    def _fill_archive(self):
        """Members that replace files of the directory `in`; here they are replaced in the same way."""
        with tarfile.open(self._archive, "w", format=tarfile.PAX_FORMAT) as archive:
            for number in range(40):
                data, place = self._content(), self.own.tree / "in" / f"f{number}"
                member = tarfile.TarInfo(f"f{number}")
                member.size, member.mtime, member.mode = len(data), 1_000_000_000 + self._random.randrange(1000), 0o644
                archive.addfile(member, io.BytesIO(data))
                place.write_bytes(data)
                place.chmod(0o644)
                os.utime(place, (member.mtime, member.mtime))

    def words(self, verb):
        """What the verb is called with, and what the newest revision may show afterwards, besides what it showed before."""
        if verb == "publish":
            return (verb, str(self.own.tree)), self.look()
        if verb == "rollback":
            tags = [tag for tag in self.history().tags if tag.name.startswith("v") and tag.revision < self.number]
            tag = self._random.choice(tags)
            return (verb, tag.name), self.trees[tag.root_catalog]
        if verb == "ingest":
            return (verb, str(self._archive)), self._ingested()
        return (verb, self._random.choice(("orphans", "named"))), None

    def _ingested(self):
        """The newest revision with the archive's members, which have no extended attributes and belong to root."""
        here = {path: seen for path, seen in self.look().items() if path.startswith(b"/in/")}
        return {**{path: seen for path, seen in self.newest().items() if path not in here}, **here}

    def history(self):
        return PublishedRepository.open(self.own.site, self.own.fqrn).history()

    @property
    def number(self):
        return self.own.manifest().revision

    def newest(self):
        with self.own.open() as repository:
            return self._look_through(repository)

    def prepare(self):
        """The newest revision has a name and shows the tree; then the tree changes. Old names are removed."""
        self._tags += 1
        self.own.publish(tag=f"v{self._tags}", workers=1)
        self.check({}, self.look())
        names = sorted((tag.revision, tag.name) for tag in self.history().tags if tag.name.startswith("v"))
        if len(names) > self.TAGS:
            remove_tags(self.own.site, self.own.fqrn, [name for _, name in names[: -self.TAGS]])
        self.change()

    def check(self, names, after):
        """Every object is sound, every name is there, and every revision shows what it showed, or just this."""
        findings = self.own.check(all_tags=True, workers=1)
        assert [finding for finding in findings if not finding.is_warning] == []
        history = self.history()
        assert {tag.name for tag in history.tags} >= set(names)
        for root, name in {tag.root_catalog: tag.name for tag in history.tags}.items():
            with self.own.open(tag=name) as repository:
                seen = self._look_through(repository)
            if root not in self.trees:
                assert seen == after
                self.trees[root] = seen
            assert seen == self.trees[root]

    def measure(self, verb):
        """How many acts the verb takes, and how long."""
        self.prepare()
        words, after = self.words(verb)
        process = self.start(0, *words)
        began = time.monotonic()
        self.acts[verb] = int(process.communicate(timeout=120)[0])
        self.durations[verb] = time.monotonic() - began
        self.check({}, after)

    def kill(self, verb, *, at_act):
        """One that is killed, or was too quick. Whether it was killed."""
        self.prepare()
        words, after = self.words(verb)
        # A rollback removes later names.
        names = {tag.name for tag in self.history().tags} if verb != "rollback" else {}
        if at_act:
            killed = self.run(self._random.randrange(1, self.acts[verb] + 1), *words) == 0
        else:
            process = self.start(0, *words)
            killed = self._kill_later(process, self.durations[verb] * self._random.random())
            process.communicate(timeout=120)
        self.check(names, after)
        return killed

    def kill_one_of_two(self):
        """A publisher and a collection side by side: one is killed, the other comes to its end."""
        self.prepare()
        names, after = {tag.name for tag in self.history().tags}, self.look()
        processes = [self.start(0, "publish", str(self.own.tree)), self.start(0, "gc", "named")]
        self._random.shuffle(processes)
        victim, other = processes
        killed = self._kill_later(victim, self.durations["publish"] * self._random.random())
        for process in processes:
            process.communicate(timeout=120)
        assert other.returncode == 0
        self.check(names, after)
        return killed

    def _kill_later(self, process, seconds):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            members = _session(process.pid)
            process.kill()
            _wait_gone(members)
            return True
        return False

    def conclude(self):
        """In the end nothing is there that nobody needs."""
        self.prepare()
        self.check_clean()
        collect(
            self.own.site, self.own.fqrn, GcOptions(Keeping(revisions=0), orphans_before=time.time() + 10, workers=1)
        )
        history, manifest = self.history(), self.own.manifest()
        needed = stored.closure(self.own.storage, {tag.root_catalog for tag in history.tags})
        left = {place for place in stored.objects(self.own.storage) if place[-1] not in "XHM"}
        assert left == needed
        assert (self.own.storage / manifest.history.path).exists()
        assert sorted(os.listdir(f"{self.own.settings.spool}/gc")) == ["lock", "sweep.lock"]


KILLS = int(os.environ.get("CVFS_KILLS", "0"))
BUDGET = 3
VERBS = ("publish", "ingest", "gc", "rollback")


@pytest.fixture
def campaign(new_repository, look_through, look, tmp_path):
    settings = {"compression": "zlib-fast", "chunk_sizes": ChunkSizes(4096, 8192, 16384), "auto_tag": False}
    made = Campaign(new_repository(**settings), look_through, look, tmp_path)
    for _ in range(4):
        made.change()
        made.prepare()
    return made


def _rounds():
    """As often as is asked for, or at least once and until the time is over."""
    if KILLS:
        yield from range(-(-KILLS // (2 * len(VERBS) + 2)))
        return
    deadline = time.monotonic() + BUDGET
    yield 0
    number = 1
    while time.monotonic() < deadline:
        yield number
        number += 1


def _report(capsys, what, killed, runs):
    if KILLS:
        with capsys.disabled():
            print(f"\n{what}: {killed} killed of {runs} runs", flush=True)


@pytest.mark.parametrize("at_act", [True, False], ids=["act", "time"])
@pytest.mark.parametrize("verb", VERBS)
def test_killed(campaign, capsys, verb, at_act):
    campaign.measure(verb)
    outcomes = [campaign.kill(verb, at_act=at_act) for _ in _rounds()]
    campaign.conclude()
    _report(capsys, f"{verb} at {'an act' if at_act else 'any time'}", sum(outcomes), len(outcomes))
    # Acts may become fewer, when less is garbage; and a verb that is over before its time is no failure.
    assert not KILLS or sum(outcomes) >= len(outcomes) // 3


def test_one_of_two_killed(campaign, capsys):
    campaign.measure("publish")
    outcomes = [campaign.kill_one_of_two() for _ in _rounds() for _ in range(2)]
    campaign.conclude()
    _report(capsys, "publish or gc beside the other", sum(outcomes), len(outcomes))
    assert not KILLS or sum(outcomes) >= len(outcomes) // 3


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
