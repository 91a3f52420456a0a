"""Following the repository, before a kernel that remembers everything it is told."""

import itertools
import logging
import stat
import threading
from types import SimpleNamespace

import pytest

from cvfs.attributes import Attributes
from cvfs.client import refresher
from cvfs.client.inodes import ROOT
from cvfs.client.manifest_fetch import Revision
from cvfs.client.reading import MAX_READ
from cvfs.client.refresher import Refresher, newer_revision
from cvfs.client.repository import Repository
from cvfs.client.volume import Volume
from cvfs.errors import CorruptObject, FormatError, NotFound, TrustError, Unreachable
from cvfs.format.dirent import DirectoryEntry, Flag

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


def test_a_late_directory_that_cannot_be_compared_is_forgotten(walker, monkeypatch, caplog):
    compare = refresher.directory_differences

    def compare_unless_late(old, new, path):
        if walker.shown.repository is walker.after:
            raise Unreachable("gone")
        return compare(old, new, path)

    monkeypatch.setattr(refresher, "directory_differences", compare_unless_late)
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


@pytest.fixture
def clock():
    return SimpleNamespace(now=1_800_000_000.0)


def test_when_an_attempt_fails_it_is_tried_again_soon(between, clock, caplog):
    shown, kernel, _, _ = between("s1", "s5")
    follower = Refresher(shown, kernel, fail_with(Unreachable("no route")), lambda: clock.now)
    assert follower.due == clock.now + 240
    clock.now += 240
    follower._attempt()
    assert follower.due == clock.now + refresher.RETRY_AFTER
    assert follower.freshness.trouble == "no route"
    assert (follower.freshness.checked, follower.freshness.succeeded) == (clock.now, clock.now - 240)
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_refused_revision_is_louder_than_a_broken_network(between, clock, caplog):
    shown, kernel, _, _ = between("s1", "s5")
    follower = Refresher(shown, kernel, fail_with(TrustError("manifest signature", "forged")), lambda: clock.now)
    follower._attempt()
    assert caplog.records[-1].levelno == logging.ERROR
    assert "manifest signature: forged" in follower.freshness.trouble


def test_a_bug_does_not_end_the_following(between, clock, caplog):
    shown, kernel, _, _ = between("s1", "s5")
    follower = Refresher(shown, kernel, fail_with(KeyError("bug")), lambda: clock.now)
    follower._attempt()
    assert "Traceback" in caplog.text
    assert follower.freshness.trouble == "KeyError: 'bug'"
    assert follower.due == clock.now + refresher.RETRY_AFTER


def test_a_success_ends_the_trouble(between, clock):
    shown, kernel, _, after = between("s1", "s5")
    follower = Refresher(shown, kernel, fail_with(Unreachable("x")), lambda: clock.now)
    follower._attempt()
    follower._fetch = lambda _: after
    clock.now += 180
    follower._attempt()
    assert follower.freshness == refresher.Freshness(clock.now, clock.now, "")
    assert shown.repository is after


@pytest.mark.parametrize(
    ("ttl", "max_ttl", "interval"),
    [
        (240, None, 240),
        (900, 180.0, 180),
        (60, 180.0, 60),
        (0, None, 10),
        (-5, None, 10),
        (240, 1.0, 10),
        (2**63, None, 7 * 86400),
        (10**400, None, 7 * 86400),
        (10**400, 60.0, 60),
    ],
)
def test_how_often(clock, ttl, max_ttl, interval):
    root = SimpleNamespace(ttl=ttl)
    repository = SimpleNamespace(
        tree=SimpleNamespace(root=lambda: root),
        settings=SimpleNamespace(max_ttl=max_ttl),
        revision=SimpleNamespace(offline=False),
    )
    follower = Refresher(SimpleNamespace(repository=repository), None, lambda _: None, lambda: clock.now)
    assert follower.due - clock.now == interval


def test_a_mount_that_began_offline_says_so_and_asks_again_soon(publication, opened, clock):
    published = publication()
    opened(published)
    manifest = published.storage / ".cvmfspublished"
    text = manifest.read_bytes()
    manifest.unlink()
    follower = Refresher(Volume(opened(published)), None, newer_revision, lambda: clock.now)
    assert "no server answered" in follower.freshness.trouble
    assert follower.due - clock.now <= refresher.RETRY_AFTER
    manifest.write_bytes(text)
    follower._attempt()
    assert follower.freshness == refresher.Freshness(clock.now, clock.now)


def test_the_thread_attempts_when_it_is_due_and_ends_when_told(between, clock):
    shown, kernel, _, after = between("s1", "s5")
    asked = threading.Event()

    def fetch(_):
        asked.set()
        return after

    follower = Refresher(shown, kernel, fetch, lambda: clock.now)
    follower.due = clock.now
    follower.start()
    thread = next(thread for thread in threading.enumerate() if thread.name == "refresher")
    assert asked.wait(20)
    follower.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert shown.repository is after


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
    with pytest.raises(Unreachable, match="no server answers"):
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
    with pytest.raises(FormatError, match=name):
        newer_revision(current)
