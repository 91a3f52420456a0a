"""Random readers, a publisher that goes on, faults of every kind: no wrong byte, nothing that hangs, nothing that grows.

Forty seconds, or CVFS_SOAK_SECONDS: `CVFS_SOAK_SECONDS=1800 python -m pytest tests/faults/test_soak.py`.
"""

import bisect
import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from cvfs.client.cache.object_cache import ObjectCache

SECONDS = float(os.environ.get("CVFS_SOAK_SECONDS", "40"))
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(SECONDS + 120)]

FILES, DIRECTORIES = 300, 12
PUBLISHED_EVERY = 10.0 if SECONDS > 100 else 5.0
# Twice the time-out of a second, twice since the kernel asks again, and a machine that does other things.
LONGEST = 15.0
# A program may see for so long what was shown before: what changed is told to the kernel after the switch.
TOLD_WITHIN = 5.0
# libfuse 2 cannot tell it: the kernel believes for so long what it was told of a name, and as long of its attributes.
BELIEVED = 2
GROWTH = 25 * 10**6

_READER = """
import hashlib, json, os, random, sys, time
top, seed, count, directories = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
choose = random.Random(seed)
while True:
    number = choose.randrange(count)
    name = f"d{number % directories}/f{number}"
    started = time.monotonic()
    try:
        with open(f"{top}/{name}", "rb") as file:
            if choose.random() < 0.5:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            found = hashlib.sha256(file.read()).hexdigest()
        if choose.random() < 0.05:
            os.listdir(os.path.dirname(f"{top}/{name}"))
    except OSError as error:
        found = error.errno
    print(json.dumps([started, time.monotonic(), name, found]), flush=True)
    time.sleep(0.002)
"""


class Publisher:
    """Changes the source and publishes it, over and over; remembers what each revision holds, by its root hash."""

    def __init__(self, repository) -> None:
        self._repository = repository
        self._random = random.Random(1)
        self._files: dict[str, str] = {}
        self.revisions: dict[str, dict[str, str]] = {}
        self.order: list[str] = []

    def publish(self) -> None:
        source = self._repository.source
        for number in range(FILES if not self.order else 30):
            place = number if not self.order else self._random.randrange(FILES)
            name = f"d{place % DIRECTORIES}/f{place}"
            if name in self._files and self._random.random() < 0.3:
                (source / name).unlink()
                del self._files[name]
                continue
            content = self._random.randbytes(self._random.choice((0, 100, 5000, 40_000)))
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_bytes(content)
            self._files[name] = hashlib.sha256(content).hexdigest()
        if not self.order:
            for number in range(0, DIRECTORIES, 2):
                (source / f"d{number}").mkdir(exist_ok=True)
                (source / f"d{number}/.cvmfscatalog").touch()
        root_hash = self._repository.publish()
        self.revisions[root_hash] = dict(self._files)
        self.order.append(root_hash)


class Shown:
    """Which revision was shown when, by number."""

    def __init__(self, client, publisher: Publisher, told_within: float) -> None:
        self._client = client
        self._publisher = publisher
        self._told_within = told_within
        self._times: list[float] = []
        self._numbers: list[int] = []

    def look(self) -> None:
        before, root_hash = time.monotonic(), self._client.root_hash
        # The publisher may not yet have noted what a client shows already.
        number = self._publisher.order.index(root_hash) if root_hash in self._publisher.order else None
        if number is not None and number not in self._numbers[-1:]:
            self._times.append(before)
            self._numbers.append(number)

    def between(self, start: float, end: float) -> list[dict[str, str]]:
        """What a file may hold that was read in that time."""
        first = max(0, bisect.bisect_right(self._times, start - self._told_within) - 1)
        last = bisect.bisect_right(self._times, end + 1)
        numbers = self._numbers[first : last + 1]
        chosen = self._publisher.order[min(numbers) : max(numbers) + 1]
        return [self._publisher.revisions[root_hash] for root_hash in chosen]


class Observed:
    """How large the client is while it works."""

    def __init__(self, client) -> None:
        self._client = client
        self.resident: list[int] = []
        self.descriptors: list[int] = []
        self.threads: list[int] = []

    def look(self) -> None:
        self.resident.append(self._client.resident())
        self.descriptors.append(self._client.descriptors())
        self.threads.append(self._client.threads())


@pytest.fixture
def readers(tmp_path):
    """Two processes that read at random; gives the files that they write what they saw to."""
    with contextmanager(_reading)(tmp_path) as start:
        yield start


def _reading(directory):
    started = []

    def start(client):
        for seed in (1, 2):
            output = (directory / f"reader{seed}").open("wb")
            words = [sys.executable, "-c", _READER, client.mountpoint, seed, FILES, DIRECTORIES]
            started.append((subprocess.Popen(list(map(str, words)), stdout=output), output))
        return [directory / f"reader{seed}" for seed in (1, 2)]

    def stop():
        for process, output in started:
            process.kill()
            process.wait(60)
            output.close()
        started.clear()

    start.stop = stop
    try:
        yield start
    finally:
        stop()


def every(seconds: float, stop: threading.Event, work) -> threading.Thread:
    """A thread that works at once, and again after each pause; what goes wrong is kept in it."""

    def run() -> None:
        try:
            work()
            while not stop.wait(seconds):
                work()
        except Exception as error:
            thread.failure = error

    thread = threading.Thread(target=run)
    thread.failure = None
    thread.start()
    return thread


class Saboteur:
    """A fault somewhere, then a rest."""

    def __init__(self, peers, modes) -> None:
        self._peers = peers
        self._modes = modes
        self._random = random.Random(2)
        self.suffered = 0

    def strike(self, stop: threading.Event) -> None:
        few = self._random.random() < 0.8
        victims = self._random.sample(self._peers, 1 if few else len(self._peers))
        mode = self._random.choice(self._modes)
        for victim in victims:
            victim.misbehave(mode)
        stop.wait(self._random.uniform(0.5, 3))
        for victim in victims:
            victim.behave()
        self.suffered += 1


def test_soak(published, peer, mounted, readers, faults, fuse_binding):  # noqa: PLR0917
    repository = published(ttl=10)
    portable = fuse_binding == "fusepy"
    publisher = Publisher(repository)
    publisher.publish()
    servers = [peer(repository.root), peer(repository.root)]
    proxies = [peer(), peer()]
    client = mounted(repository)
    backoff = {
        "CVMFS_BACKOFF_INIT": 1,
        "CVMFS_BACKOFF_MAX": 1,
        "CVMFS_PROXY_RESET_AFTER": 5,
        "CVMFS_HOST_RESET_AFTER": 5,
    } | ({"CVMFS_KCACHE_TIMEOUT": BELIEVED} if portable else {})
    believed = 2 * BELIEVED if portable else 0
    client.mount(servers, "|".join(proxy.url for proxy in proxies), CVMFS_QUOTA_LIMIT=3, **backoff)
    shown, observed, saboteur = (
        Shown(client, publisher, TOLD_WITHIN + believed),
        Observed(client),
        Saboteur([*servers, *proxies], faults),
    )
    shown.look()
    outputs = readers(client)
    stop = threading.Event()
    threads = [
        every(0.05, stop, shown.look),
        every(SECONDS / 60, stop, observed.look),
        every(PUBLISHED_EVERY, stop, publisher.publish),
        every(1, stop, lambda: client.talk("remount sync")),
        every(1, stop, lambda: saboteur.strike(stop)),
    ]
    stop.wait(SECONDS)
    stop.set()
    for thread in threads:
        thread.join(60)
    readers.stop()
    assert [thread.failure for thread in threads if thread.failure] == []
    saw = [
        json.loads(line)
        for output in outputs
        for line in output.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    judge(saw, shown)
    print(f"{len(saw)} reads, {sum(found == errno.EIO for *_, found in saw)} EIO, {saboteur.suffered} faults,")
    print(f"{len(publisher.order)} revisions, longest {max(end - start for start, end, *_ in saw):.1f} s")
    print("MB", [size // 10**6 for size in observed.resident])
    print("descriptors", observed.descriptors, "threads", observed.threads)
    grown(observed)
    recovered(client, publisher, believed)


def judge(saw, shown: Shown) -> None:
    """Each read by what the revisions hold that it may have met."""
    assert len(saw) > 10 * SECONDS
    wrong, hung = [], []
    for start, end, name, found in saw:
        if end - start > LONGEST:
            hung.append((name, end - start))
        possible = {revision.get(name, errno.ENOENT) for revision in shown.between(start, end)}
        # While the network is away: the bytes could not be had.
        if found not in possible | {errno.EIO}:
            wrong.append((name, found, possible))
    assert hung == []
    assert wrong == []
    assert sum(found == errno.EIO for *_, found in saw) < len(saw) / 2


def grown(observed: Observed) -> None:
    """The last third is like the second: what grows without end is larger."""
    third = len(observed.resident) // 3
    assert max(observed.resident[2 * third :]) < max(observed.resident[third : 2 * third]) + GROWTH
    assert max(observed.descriptors) < 700
    assert max(observed.threads) < 80


def recovered(client, publisher: Publisher, believed: float) -> None:
    """With the network back, the newest revision is there, whole; nothing wrong was kept."""
    deadline, pause = time.monotonic() + 30, threading.Event()
    while client.root_hash != publisher.order[-1]:
        assert time.monotonic() < deadline
        client.talk("remount sync")
        pause.wait(0.2)
    pause.wait(believed)
    newest = publisher.revisions[publisher.order[-1]]
    assert {name: hashlib.sha256(client.path(name).read_bytes()).hexdigest() for name in newest} == newest
    # What was replaced within the last minute may still be known.
    assert json.loads(client.talk("stat"))["inodes"] < 3 * FILES + 3 * DIRECTORIES
    client.unmount()
    cache = ObjectCache(str(client.cache))
    cache.prepare()
    try:
        assert cache.check().dropped == ()
    finally:
        cache.close()
