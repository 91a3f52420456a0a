"""Following the repository, before a kernel that remembers everything it is told."""

import contextlib
import itertools
import logging
import stat
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cvfs.attributes import Attributes
from cvfs.client import refresher, schedule, succession
from cvfs.client.data_plane import connect
from cvfs.client.inodes import ROOT
from cvfs.client.manifest_fetch import Revision
from cvfs.client.reading import MAX_READ
from cvfs.client.refresher import Freshness, Refresher, newer_revision
from cvfs.client.repository import Repository
from cvfs.client.schedule import Schedule
from cvfs.client.volume import Volume
from cvfs.errors import CorruptObject, FormatError, Locked, NotFound, StoreError, TrustError, Unreachable
from cvfs.format.dirent import DirectoryEntry, Flag
from cvfs.format.whitelist import stamp
from cvfs.hashes import Algorithm, ContentHash, ObjectKind
from cvfs.trust import Limits

TAGS = ("s1", "s2", "s3", "s4", "s5")
PLACE = int(Flag.NESTED_MOUNTPOINT | Flag.NESTED_ROOT | Flag.BIND_MOUNTPOINT)


class KernelModel:
    """Caches without any timeout: names with what they stand for (None: negative), attributes, listings, pages.

    `calls` records everything it is told, `shown` the revision that was shown when it was told to wait.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.names: dict[tuple[int, bytes], int | None] = {}
        self.attributes: dict[int, Attributes] = {ROOT: volume.getattr(ROOT)}
        self.listings: dict[int, list[bytes]] = {}
        self.pages: dict[int, bytes] = {}
        self.calls: list[tuple] = []

    # --- what it is told

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.calls.append(("entry", parent, name))
        self._drop(parent, name)

    def invalidate_inode(self, ino: int, *, data: bool) -> None:
        self.calls.append(("data" if data else "attributes", ino))
        self.attributes.pop(ino, None)
        if data:
            self.listings.pop(ino, None)
            self.pages.pop(ino, None)

    def settle(self, timeout: float) -> bool:
        self.calls.append(("settle", self.volume.repository))
        return True

    def flush_notifications(self, timeout: float) -> bool:
        self.calls.append(("flush",))
        return True

    def _drop(self, parent: int, name: bytes) -> None:
        gone = self.names.pop((parent, name), None)
        if gone is None or gone in self.names.values():
            return
        for below in [key for key in self.names if key[0] == gone]:
            self._drop(*below)
        self.volume.forget(gone, 1)
        self.attributes.pop(gone, None)
        self.listings.pop(gone, None)

    # --- what processes do

    def walk(self, path: bytes) -> int | None:
        """The number behind a path, asked for where it is not known; None if there is nothing."""
        ino = ROOT
        for name in path.split(b"/")[1:]:
            if not stat.S_ISDIR(self.attributes.setdefault(ino, self.volume.getattr(ino)).mode):
                return None
            if (ino, name) not in self.names:
                self.names[ino, name] = self._ask(ino, name)
            found = self.names[ino, name]
            if found is None:
                return None
            ino = found
        return ino

    def _ask(self, parent: int, name: bytes) -> int | None:
        try:
            attributes = self.volume.lookup(parent, name)
        except NotFound:
            return None
        if attributes.ino in self.names.values():
            self.volume.forget(attributes.ino, 1)
        self.attributes[attributes.ino] = attributes
        return attributes.ino

    def look(self, path: bytes, entry: DirectoryEntry) -> None:
        """stat, and cat or ls."""
        ino = self.walk(path)
        assert ino is not None, path
        self.attributes.setdefault(ino, self.volume.getattr(ino))
        if entry.is_directory and ino not in self.listings:
            self.listings[ino] = [name for name, _ in self.volume.listing(ino)]
        if entry.is_regular and ino not in self.pages:
            self.pages[ino] = bytes(self.volume.read(ino, 0, MAX_READ))

    def check_against(self, now: Repository, paths: set[bytes]) -> None:
        """Everything that is still cached, and everything that is asked for anew, is of the revision `now`."""
        for path in sorted(paths):
            ino = self.walk(path)
            if not now.exists(path):
                assert ino is None, f"{path!r} is still there"
                continue
            entry = now.lookup(path)
            assert ino is not None, f"{path!r} is missing"
            self.look(path, entry)
            got = self.attributes[ino]
            assert (got.mode, got.mtime, got.uid, got.nlink) == (entry.mode, entry.mtime, entry.uid, entry.linkcount), (
                path
            )
            if entry.is_directory:
                assert sorted(self.listings[ino]) == sorted(e.name for e in now.listing(path)), path
            if entry.is_regular:
                assert self.pages[ino] == now.read(path)[:MAX_READ], path


def tree_of(repository: Repository) -> dict[bytes, DirectoryEntry]:
    return dict(repository.walk())


def row_of(repository: Repository, path: bytes, entry: DirectoryEntry) -> tuple:
    """What can be seen of an entry."""
    chunks = repository.tree.chunks(path) if entry.is_chunked else None
    return (*entry[1:7], entry.linkcount, entry.digest, entry.flags & ~PLACE, entry.symlink, entry.xattr, chunks)


def is_same_content(old: DirectoryEntry, new: DirectoryEntry) -> bool:
    if old.mode >> 12 != new.mode >> 12 or (not old.is_directory and (old.is_chunked or new.is_chunked)):
        return False
    return old.is_directory or (old.size, old.digest, old.symlink) == (new.size, new.digest, new.symlink)


def expected_calls(before: Repository, after: Repository, number: dict[bytes, int], known: set[bytes]) -> set[tuple]:
    """From the two trees entry by entry, for a kernel that knows the directories `known`."""
    old, new = tree_of(before), tree_of(after)
    calls: set[tuple] = {("attributes", ROOT)}
    for path in (old.keys() | new.keys()) - {b""}:
        parent, _, name = path.rpartition(b"/")
        a, b = old.get(path), new.get(path)
        if a and b and row_of(before, path, a) == row_of(after, path, b):
            continue
        if parent not in known or not all(d in new and new[d].is_directory for d in ancestors(path)):
            continue
        if a and b and is_same_content(a, b) and not a.hardlink_group and path in number:
            calls.add(("attributes", number[path]))
        else:
            calls |= {("entry", number[parent], name), ("data", number[parent])}
    return calls


def ancestors(path: bytes) -> list[bytes]:
    parts = path.split(b"/")[1:-1]
    return [b"".join(b"/" + part for part in parts[:count]) for count in range(len(parts) + 1)]


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def between(opened, tiny):
    """A volume at one tag, a kernel before it, a refresher that finds another tag, and that."""

    def make(old: str, new: str):
        before, after = opened(tiny, tag=old), opened(tiny, tag=new)
        shown = Volume(before)
        kernel = KernelModel(shown)
        return shown, kernel, Refresher(shown, kernel, lambda _: after), after

    return make


# --- what the kernel is told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(TAGS, 2)))
def test_exactly_what_differs_is_taken_back(between, old, new):
    shown, kernel, follower, after = between(old, new)
    before = shown.repository
    trees = tree_of(before), tree_of(after)
    for path, entry in trees[0].items():
        kernel.look(path, entry)
    for path in trees[1].keys() - trees[0].keys():
        kernel.walk(path)
    number = {path: kernel.walk(path) for path in trees[0]}
    known = {path for path, entry in trees[0].items() if entry.is_directory}
    assert follower.refresh()
    told = [call for call in kernel.calls if call[0] not in ("settle", "flush")]
    assert len(told) == len(set(told)), "told twice"
    assert set(told) == expected_calls(before, after, number, known)
    kernel.check_against(after, trees[0].keys() | trees[1].keys())


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_back_and_forth(opened, fixture_repository, fqrn):
    revisions = [opened(fixture_repository(fqrn), tag=tag) for tag in ("s1", "s5", "s2", "s4", "s1", "s3")]
    paths = set().union(*(tree_of(revision) for revision in revisions))
    shown = Volume(revisions[0])
    kernel = KernelModel(shown)
    kernel.check_against(revisions[0], paths)
    for newer in revisions[1:]:
        assert Refresher(shown, kernel, lambda _, newer=newer: newer).refresh()
        kernel.check_against(newer, paths)


def test_who_knows_little_is_told_little(between):
    shown, kernel, follower, after = between("s1", "s5")
    before = shown.repository
    number = {path: kernel.walk(path) for path in (b"", b"/chunked", b"/chunked/random_1m")}
    assert follower.refresh()
    told = {call for call in kernel.calls if call[0] not in ("settle", "flush")}
    expected = expected_calls(before, after, number, {b"", b"/chunked"})
    assert told == expected
    assert {call[1] for call in told if call[0] == "entry"} <= {ROOT, number[b"/chunked"]}


def test_the_revision_is_shown_before_the_kernel_is_told(between):
    _, kernel, follower, after = between("s1", "s5")
    assert follower.refresh()
    assert kernel.calls[0] == ("settle", after)
    assert kernel.calls[-1] == ("flush",)
    assert kernel.calls.count(("flush",)) == 1


def test_negative_entries_of_names_that_appear_are_taken_back(between):
    shown, kernel, follower, after = between("s1", "s5")
    before = shown.repository
    added = [path for path in tree_of(after) if not before.exists(path)]
    assert all(kernel.walk(path) is None for path in added)
    assert follower.refresh()
    assert all(kernel.walk(path) is not None for path in added)


def test_nothing_new_means_nothing_to_tell(between):
    shown, kernel, follower, _ = between("s1", "s5")
    before = shown.repository
    follower._fetch = lambda _: None
    assert not follower.refresh()
    assert shown.repository is before
    assert kernel.calls == []


def test_the_old_revision_s_catalogs_may_be_evicted(between):
    shown, kernel, follower, _ = between("s1", "s5")
    before = shown.repository
    kernel.walk(b"/names/x")
    cache = before.plane.cache
    assert [entry for entry in cache.entries() if entry.held]
    assert follower.refresh()
    assert not [entry for entry in cache.entries() if entry.held]


# --- while others are busy --------------------------------------------------------------------------------------------


def test_what_is_learned_while_we_compare_is_compared_too(between, monkeypatch):
    shown, kernel, follower, after = between("s1", "s5")
    entry = shown.repository.lookup("/files")
    remember = shown.remember

    def remember_and_learn(found) -> None:
        remember(found)
        kernel.look(b"/files", entry)

    monkeypatch.setattr(shown, "remember", remember_and_learn)
    assert follower.refresh()
    kernel.check_against(after, {path for path in tree_of(after) if path.startswith(b"/files")})
    assert any(call[0] == "entry" and call[1] == kernel.walk(b"/files") for call in kernel.calls)


@pytest.fixture
def walker(between, monkeypatch):
    """A process that learns of another directory each time we have compared."""
    shown, kernel, follower, after = between("s1", "s5")
    before = tree_of(shown.repository)
    fresh = iter([path for path, entry in before.items() if entry.is_directory and path.count(b"/") == 1])
    learned = []
    remember = shown.remember

    def remember_and_learn(found) -> None:
        remember(found)
        learned.append(next(fresh))
        for path, entry in before.items():
            if path == learned[-1] or path.rpartition(b"/")[0] == learned[-1]:
                kernel.look(path, entry)

    monkeypatch.setattr(shown, "remember", remember_and_learn)
    return SimpleNamespace(
        shown=shown,
        kernel=kernel,
        follower=follower,
        after=after,
        learned=learned,
        paths=before.keys() | tree_of(after).keys(),
    )


def test_a_walk_without_end_does_not_keep_us_for_ever(walker):
    assert walker.follower.refresh()
    assert len(walker.learned) == 3
    walker.kernel.check_against(walker.after, walker.paths)


@pytest.mark.parametrize("error", [Unreachable("gone"), OSError(24, "Too many open files")])
def test_a_late_directory_that_cannot_be_compared_is_forgotten(walker, monkeypatch, caplog, error):
    compare = succession.directory_differences

    def compare_unless_late(old, new, path):
        if walker.shown.repository is walker.after:
            raise error
        return compare(old, new, path)

    monkeypatch.setattr(succession, "directory_differences", compare_unless_late)
    assert walker.follower.refresh()
    assert "1 directories are forgotten" in caplog.text
    assert ("entry", ROOT, walker.learned[-1][1:]) in walker.kernel.calls
    walker.kernel.check_against(walker.after, walker.paths)


# --- failures ---------------------------------------------------------------------------------------------------------


def fail_with(error):
    def fetch(_):
        raise error

    return fetch


@pytest.mark.parametrize("error", [TrustError("manifest signature", "no"), Unreachable("down"), CorruptObject("bad")])
def test_a_failure_to_fetch_changes_nothing(between, error):
    shown, kernel, follower, _ = between("s1", "s5")
    before = shown.repository
    follower._fetch = fail_with(error)
    with pytest.raises(type(error)):
        follower.refresh()
    assert shown.repository is before
    assert kernel.calls == []


def test_a_catalog_that_cannot_be_had_changes_nothing(publication, opened):
    published = publication()
    shown = Volume(opened(published))
    kernel = KernelModel(shown)
    before = shown.repository
    for path, entry in tree_of(before).items():
        kernel.look(path, entry)
    held = {entry.content for entry in before.plane.cache.entries() if entry.held}
    root, size = published.tag("s3")
    newer = before.at(Revision(root, size))
    nested = newer.tree.governing(b"/names").content
    assert nested not in (root, before.tree.governing(b"/names").content)
    published.flip(nested.path, 40)
    with pytest.raises(CorruptObject):
        Refresher(shown, kernel, lambda _: newer).refresh()
    assert shown.repository is before
    assert kernel.calls == []
    kernel.check_against(before, set(tree_of(before)))
    assert {entry.content for entry in before.plane.cache.entries() if entry.held} == held


class Cut:
    """A network that is cut at its `last` request, and stays so; what is in the cache is no request."""

    def __init__(self, plane, last: int) -> None:
        self._contents, self._store = plane.contents, plane.store
        self.left = last

    def _request(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Unreachable("cut")

    def fetch(self, path, *, fresh=0, span=None):
        self._request()
        return self._store.fetch(path, fresh=fresh, span=span)

    def open(self, wanted) -> int:
        present = self._contents.open_present(wanted)
        if present is None:
            self._request()
            return self._contents.open(wanted)
        return present

    def open_present(self, wanted) -> int | None:
        return self._contents.open_present(wanted)


@pytest.fixture
def cut_off(local_settings, tmp_path):
    """A mount whose kernel knows everything, of a repository whose network is cut at the given request from now on."""
    cuts = itertools.count()

    def make(published):
        own = f"{tmp_path}/{next(cuts)}"
        settings = local_settings(published, cache_dir=f"{own}/cache", trust_state=f"{own}/trust")
        plane = connect(settings)
        network = Cut(plane, 10**6)
        settings_plane = replace(plane, store=network, contents=network, external=network)
        shown = Volume(Repository.open_settings(settings, settings_plane))
        kernel = KernelModel(shown)
        for path, entry in tree_of(shown.repository).items():
            kernel.look(path, entry)
        running.callback(plane.close)
        return shown, kernel, network

    with contextlib.ExitStack() as running:
        yield make


def test_wherever_the_network_is_cut_one_revision_or_the_other_is_shown_whole(publication, cut_off):
    published = publication()
    manifests = [(published.storage / ".cvmfspublished").read_bytes()]
    published.publish("s3")
    manifests.append((published.storage / ".cvmfspublished").read_bytes())
    for request in itertools.count(1):
        published.write(".cvmfspublished", manifests[0])
        shown, kernel, network = cut_off(published)
        before, follower = shown.repository, Refresher(shown, kernel, newer_revision)
        published.write(".cvmfspublished", manifests[1])
        network.left = request
        follower._attempt()
        if not follower.freshness.trouble:
            break
        assert (follower.freshness.trouble, shown.repository) == ("cut", before)
        assert kernel.calls == []
        # What was cached goes on without the network.
        kernel.check_against(before, set(tree_of(before)))
        network.left = 10**6
        follower._attempt()
        assert (follower.freshness.trouble, follower.freshness.offline_since) == ("", None)
        kernel.check_against(shown.repository, set(tree_of(before)) | set(tree_of(shown.repository)))
    # Manifest, whitelist, root catalog, and at least one nested catalog.
    assert request > 4


class Clock:
    """Two clocks that run together, and no chance: what is spread is spread by `spread`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.spread = 1.0

    def schedule(self, ttl: int = 240, max_ttl: float | None = None) -> Schedule:
        return Schedule(ttl, max_ttl, lambda: self.now - 1_000_000_000, lambda low, high: self.spread)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def follow(between, clock):
    """A volume at s1, and what follows it with the fetch that is given."""

    def make(fetch):
        shown, kernel, _, after = between("s1", "s5")
        follower = Refresher(shown, kernel, fetch or (lambda _: after), lambda: clock.now, clock.schedule())
        return shown, follower, after

    return make


def test_when_an_attempt_fails_it_is_tried_again_soon(follow, clock, caplog):
    _, follower, _ = follow(fail_with(Unreachable("no route")))
    assert follower.due == clock.now + 240
    clock.now += 240
    follower._attempt()
    assert follower.due == clock.now + schedule.FIRST_RETRY
    assert follower.freshness == Freshness(clock.now, clock.now - 240, "no route", offline_since=clock.now)
    assert caplog.records[-1].levelno == logging.WARNING
    assert "no route; next attempt in 30 s" in caplog.text


def test_the_same_trouble_is_logged_once(follow, clock, caplog):
    _, follower, _ = follow(fail_with(Unreachable("no route")))
    for _ in range(3):
        follower._attempt()
    follower._fetch = fail_with(Unreachable("another"))
    follower._attempt()
    follower._fetch = lambda _: None
    follower._attempt()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.partition(";")[0].rpartition(": ")[2] for line in lines] == [
        "no route",
        "another",
        "follows the repository again",
    ]


def test_a_refused_revision_is_louder_than_a_broken_network(follow, clock, caplog):
    _, follower, _ = follow(fail_with(TrustError("manifest signature", "forged")))
    follower._attempt()
    assert caplog.records[-1].levelno == logging.ERROR
    assert "manifest signature: forged" in follower.freshness.trouble


def test_a_bug_does_not_end_the_following(follow, clock, caplog):
    _, follower, _ = follow(fail_with(KeyError("bug")))
    follower._attempt()
    assert "Traceback" in caplog.text
    assert follower.freshness.trouble == "KeyError: 'bug'"
    assert follower.due == clock.now + schedule.FIRST_RETRY


def test_a_success_ends_the_trouble(follow, clock):
    shown, follower, after = follow(fail_with(Unreachable("x")))
    follower._attempt()
    follower._fetch = lambda _: after
    clock.now += 180
    follower._attempt()
    assert follower.freshness == Freshness(clock.now, clock.now)
    assert shown.repository is after
    assert follower.due == clock.now + 240


def test_who_asks_by_hand_is_told_and_so_is_everybody_else(follow, clock):
    _, follower, _ = follow(fail_with(Unreachable("x")))
    with pytest.raises(Unreachable):
        follower.refresh()
    assert follower.freshness.trouble == "x"
    follower._fetch = lambda _: None
    assert not follower.refresh()
    assert follower.freshness.trouble == ""


def test_since_when_it_is_offline(follow, clock):
    """From the first check that found nobody to the first that found somebody, whatever he said."""
    _, follower, _ = follow(fail_with(Unreachable("x")))
    began = clock.now
    for _ in range(3):
        follower._attempt()
        assert follower.freshness.offline_since == began
        clock.now += 100
    follower._fetch = fail_with(TrustError("manifest signature", "forged"))
    follower._attempt()
    assert follower.freshness.offline_since is None
    follower._fetch = fail_with(Unreachable("x"))
    follower._attempt()
    assert follower.freshness.offline_since == clock.now


def test_two_checks_at_a_time_are_one_after_the_other(follow):
    inside, leave, order = threading.Event(), threading.Event(), []

    def fetch(_):
        order.append("begin")
        inside.set()
        leave.wait(60)
        order.append("end")

    _, follower, _ = follow(fetch)
    threads = [threading.Thread(target=follower.refresh) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order == ["begin", "end"] * 2


def test_a_check_that_takes_long_is_not_waited_for_by_others(follow, monkeypatch):
    inside, leave = threading.Event(), threading.Event()

    def fetch(_):
        inside.set()
        leave.wait(60)

    _, follower, _ = follow(fetch)
    first = threading.Thread(target=follower.refresh)
    first.start()
    assert inside.wait(60)
    monkeypatch.setattr(refresher, "PATIENCE", 0.01)
    before = follower.freshness
    for ask in (follower.refresh, lambda: follower.show(None), lambda: follower.reload(None)):
        with pytest.raises(Locked, match="under way"):
            ask()
    assert follower.freshness is before
    leave.set()
    first.join(60)
    assert not first.is_alive()


def test_a_mount_that_began_offline_says_so_and_asks_again_soon(publication, opened, clock):
    published = publication()
    opened(published)
    manifest = published.storage / ".cvmfspublished"
    text = manifest.read_bytes()
    manifest.unlink()
    volume = Volume(opened(published))
    follower = Refresher(volume, None, newer_revision, lambda: clock.now, clock.schedule())
    assert "no server answers" in follower.freshness.trouble
    assert follower.freshness.offline_since == clock.now
    assert follower.due - clock.now == schedule.FIRST_RETRY
    manifest.write_bytes(text)
    follower._attempt()
    assert follower.freshness == Freshness(clock.now, clock.now)
    assert not volume.repository.revision.offline


def test_a_mount_that_began_while_all_servers_lag_says_so(publication, opened, clock):
    published = publication()
    opened(published)
    published.publish("s4", revision=published.manifest.revision - 1, timestamp=published.manifest.timestamp - 1)
    follower = Refresher(Volume(opened(published)), None, newer_revision, lambda: clock.now, clock.schedule())
    assert "all servers lag" in follower.freshness.trouble
    assert follower.freshness.offline_since is None


def test_the_thread_attempts_when_it_is_due_and_ends_when_told(follow, clock):
    asked = threading.Event()

    def fetch(_):
        asked.set()

    _, follower, _ = follow(fetch)
    clock.now += 240
    follower.start()
    thread = next(thread for thread in threading.enumerate() if thread.name == "refresher")
    assert asked.wait(60)
    follower.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_shorter_time_to_live_counts_at_once(follow, clock):
    _, follower, _ = follow(None)
    assert follower.max_ttl is None
    follower.set_max_ttl(60)
    assert (follower.max_ttl, follower.due) == (60, clock.now + 60)
    assert follower._wake.is_set()
    follower.set_max_ttl(0)
    assert (follower.max_ttl, follower.due) == (None, clock.now + 60)


# --- whitelists that are about to expire --------------------------------------------------------------------------------


@pytest.fixture
def expiring(publication, opened, clock):
    """What follows a mounted publication, whose whitelist then expires in so many hours, and that."""

    def make(hours, **changes):
        published = publication()
        shown = Volume(opened(published, **changes))
        follower = Refresher(shown, KernelModel(shown), newer_revision, lambda: clock.now, clock.schedule())
        published.vouch(expires=stamp(time.time() + 3600 * hours))
        clock.now = time.time()
        return follower, shown, published

    return make


def reminders(caplog) -> int:
    return sum("the whitelist expires in" in record.getMessage() for record in caplog.records)


def test_an_expiry_is_announced_once_a_day(expiring, clock, caplog):
    follower, shown, published = expiring(24 * 7 - 1)
    follower.refresh()
    follower.refresh()
    assert reminders(caplog) == 1
    assert "the whitelist expires in 6 days" in caplog.text
    assert shown.repository.revision.whitelist_expires == published.whitelist.expires
    clock.now += 86400
    follower.refresh()
    assert reminders(caplog) == 2
    assert "the whitelist expires in 5 days" in caplog.text


@pytest.mark.parametrize(("hours", "days", "count"), [(24 * 9, 7, 0), (24 * 9, 10, 1), (12, 0, 0), (12, 1, 1)])
def test_when_to_announce_it_is_a_parameter(expiring, caplog, hours, days, count):
    follower, _, _ = expiring(hours, whitelist_warn_days=days)
    follower.refresh()
    assert reminders(caplog) == count


def test_a_whitelist_that_expires_while_mounted_is_trouble_and_no_more(expiring, caplog):
    follower, shown, published = expiring(-1)
    before = shown.repository
    follower._attempt()
    assert shown.repository is before
    assert before.read("/names/x") is not None
    assert follower.freshness.trouble.startswith("whitelist expiry: file://")
    published.vouch(expires="20990101000000")
    follower._attempt()
    assert follower.freshness.trouble == ""
    assert shown.repository.revision.whitelist_expires == "20990101000000"


def test_a_revision_that_is_blacklisted_while_mounted_is_trouble_until_there_is_a_newer_one(
    publication, opened, clock, tmp_path
):
    published, blacklist = publication(), tmp_path / "blacklist"
    shown = Volume(opened(published, blacklists=(str(tmp_path / "none"), str(blacklist))))
    follower = Refresher(shown, KernelModel(shown), newer_revision, lambda: clock.now, clock.schedule())
    blacklist.write_text(f"<{published.fqrn} 7\n")
    follower._attempt()
    assert follower.freshness.trouble.startswith("revision blacklist: ")
    assert shown.repository.number == 6
    published.publish("s4")
    follower._attempt()
    assert follower.freshness.trouble == ""


def test_a_manifest_that_is_too_old_while_mounted_is_trouble(publication, opened, clock):
    published = publication()
    shown = Volume(opened(published))
    follower = Refresher(shown, KernelModel(shown), newer_revision, lambda: clock.now, clock.schedule())
    follower.reload(
        replace(shown.repository.settings, trust=replace(shown.repository.settings.trust, limits=Limits(age=60)))
    )
    published.publish(timestamp=int(time.time()) - 3600)
    assert follower.due == clock.now
    follower._attempt()
    assert follower.freshness.trouble.startswith("manifest age: ")
    published.publish(timestamp=int(time.time()))
    follower._attempt()
    assert follower.freshness.trouble == ""


# --- other settings, other root catalogs --------------------------------------------------------------------------------


def test_other_settings_count_from_the_next_check_on(publication, opened, clock, tmp_path):
    published = publication()
    shown = Volume(opened(published))
    follower = Refresher(shown, KernelModel(shown), newer_revision, lambda: clock.now, clock.schedule())
    settings = shown.repository.settings
    wrong = replace(settings, max_ttl=120, trust=replace(settings.trust, public_keys=(str(tmp_path / "none.pub"),)))
    follower.reload(wrong)
    assert (follower.due, follower.max_ttl, follower._wake.is_set()) == (clock.now, 120, True)
    follower._attempt()
    assert "none.pub: No such file" in follower.freshness.trouble
    follower.reload(settings)
    published.publish("s4")
    follower._attempt()
    assert follower.freshness.trouble == ""
    assert shown.repository.settings is settings
    assert follower.max_ttl is None


def test_another_root_catalog_is_shown_until_somebody_asks_for_the_newest(publication, opened, clock):
    published = publication()
    shown = Volume(opened(published))
    kernel, newest = KernelModel(shown), shown.repository.revision.root_hash
    follower = Refresher(shown, kernel, newer_revision, lambda: clock.now, clock.schedule())
    for path, entry in tree_of(shown.repository).items():
        kernel.look(path, entry)
    paths = set(tree_of(shown.repository))
    root, _ = published.tag("s2")
    follower.show(root)
    assert shown.repository.revision.root_hash == root
    kernel.check_against(shown.repository, paths | set(tree_of(shown.repository)))
    assert follower.held
    follower.set_max_ttl(60)
    assert follower.held
    assert follower.due > clock.now + 30 * 86400
    assert follower.refresh()
    assert shown.repository.revision.root_hash == newest
    kernel.check_against(shown.repository, paths)
    assert not follower.held


def test_a_root_catalog_that_is_not_there_changes_nothing(publication, opened, clock):
    published = publication()
    shown = Volume(opened(published))
    before = shown.repository
    follower = Refresher(shown, KernelModel(shown), newer_revision, lambda: clock.now, clock.schedule())
    with pytest.raises(StoreError):
        follower.show(ContentHash.of(b"nowhere", Algorithm.SHA1, ObjectKind.CATALOG))
    assert shown.repository is before
    assert not follower.held


# --- the newest revision ----------------------------------------------------------------------------------------------


def test_the_newest_revision(publication, opened):
    published = publication()
    current = opened(published)
    assert newer_revision(current) is None
    published.publish("s4")
    newer = newer_revision(current)
    assert newer.revision.root_hash == published.tag("s4")[0]
    assert newer.plane is current.plane
    assert newer_revision(newer) is None


def test_offline_is_no_new_revision(publication, opened):
    published = publication()
    current = opened(published)
    (published.storage / ".cvmfspublished").unlink()
    with pytest.raises(StoreError, match="cvmfspublished"):
        newer_revision(current)


def test_a_tampered_revision_is_none(publication, opened):
    published = publication()
    current = opened(published)
    published.publish("s4")
    published.flip(".cvmfspublished")
    with pytest.raises(TrustError):
        newer_revision(current)


def test_a_root_catalog_that_cannot_be_had_is_no_revision(publication, opened):
    published = publication()
    current = opened(published)
    published.publish("s4")
    published.flip(published.tag("s4")[0].path)
    with pytest.raises(CorruptObject):
        newer_revision(current)


@pytest.mark.parametrize("name", ["TTL", "revision"])
def test_a_root_catalog_with_a_number_that_is_none_is_no_revision(publication, opened, monkeypatch, name):
    published = publication()
    current = opened(published)
    published.publish("s4")
    at = Repository.at

    def damaged(repository, revision):
        newer = at(repository, revision)
        newer.tree.root().properties[name] = "soon"
        return newer

    monkeypatch.setattr(Repository, "at", damaged)
    held = {entry.content for entry in current.plane.cache.entries() if entry.held}
    with pytest.raises(FormatError, match=name):
        newer_revision(current)
    assert {entry.content for entry in current.plane.cache.entries() if entry.held} == held
