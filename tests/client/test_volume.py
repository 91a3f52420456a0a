"""The POSIX view without a mount: numbers, references, listings, waiting, and what an open file keeps."""

import os
import random
import stat
import threading

import pytest

from cvfs.attributes import Attributes
from cvfs.catalog.diff import differences
from cvfs.client import directories, inodes, volume
from cvfs.client.directories import Directories
from cvfs.client.inodes import ROOT, StaleNode
from cvfs.client.magic.attributes import Magic, MagicAttributes
from cvfs.client.open_files import OpenFiles
from cvfs.client.presentation import View
from cvfs.client.reading import MAX_READ, Reader
from cvfs.client.volume import Volume, keeps_number
from cvfs.errors import (
    AttributeUnsupported,
    FormatError,
    IsADirectory,
    NoSuchAttribute,
    NotADirectory,
    NotALink,
    NotFound,
)
from cvfs.format.dirent import Flag
from cvfs.format.xattrs import pack as pack_attributes

VARIABLES = {b"LAB_TESTVAR": b"labvalue", b"CVMFS_ARCH": b"x86_64"}


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


@pytest.fixture
def shown(opened, tiny) -> Volume:
    return Volume(opened(tiny), View(variables=VARIABLES))


def find(shown: Volume, path: bytes) -> Attributes:
    """Look a path up as the kernel does, component by component."""
    found = shown.getattr(ROOT)
    for name in path.split(b"/")[1:]:
        found = shown.lookup(found.ino, name)
    return found


def switch(shown: Volume, newer) -> None:
    """What the refresher does, without a kernel."""
    found = list(differences(shown.repository.tree, newer.tree))
    shown.remember(found)
    assert shown.switch(newer, found, {directory.path for directory in shown.known_directories()})


def entries(repository, tag="s5"):
    return {entry["path"].encode("utf-8", "surrogateescape"): entry for entry in repository.manifests[tag]["entries"]}


# --- numbers and references -------------------------------------------------------------------------------------------


def test_a_number_lives_as_long_as_it_is_referenced(shown):
    first = shown.lookup(ROOT, b"chunked")
    assert shown.lookup(ROOT, b"chunked").ino == first.ino
    assert shown.known_inodes() == 2
    shown.forget(first.ino, 1)
    assert shown.getattr(first.ino) == first
    shown.forget(first.ino, 1)
    with pytest.raises(StaleNode):
        shown.getattr(first.ino)
    assert shown.known_inodes() == 1
    assert shown.lookup(ROOT, b"chunked").ino != first.ino


def test_a_failed_lookup_counts_nothing(shown):
    with pytest.raises(NotFound, match="no none in it"):
        shown.lookup(ROOT, b"none")
    assert shown.known_inodes() == 1
    file = find(shown, b"/chunked/random_1m")
    with pytest.raises(NotADirectory):
        shown.lookup(file.ino, b"x")
    with pytest.raises(StaleNode):
        shown.lookup(12345, b"x")


def test_listing_and_reference_give_what_lookup_gives(shown):
    parent = find(shown, b"/chunked").ino
    listed = dict(shown.listing(parent)[:])
    for name, attributes in listed.items():
        assert shown.lookup(parent, name) == attributes
    numbers = [attributes.ino for attributes in listed.values()]
    assert len(set(numbers)) == len(numbers)
    [(name, attributes)] = shown.listing(parent).part(0, 1, counted=True)
    assert (name, attributes) == next(iter(listed.items()))
    shown.forget(attributes.ino, 1)
    assert shown.getattr(attributes.ino) == attributes
    shown.forget(attributes.ino, 1)
    with pytest.raises(StaleNode):
        shown.getattr(attributes.ino)


def test_a_listed_number_is_counted_before_it_can_be_forgotten(shown):
    """FORGET comes while a worker packs the listing: what it was about to hand out lives on."""
    parent = find(shown, b"/chunked").ino
    held = shown.lookup(parent, shown.listing(parent)[0][0])
    part = shown.listing(parent).part(0, 2, counted=True)
    shown.forget(held.ino, 1)
    assert shown.getattr(held.ino) == part[0][1] == held
    shown.forget(held.ino, 1)
    with pytest.raises(StaleNode):
        shown.getattr(held.ino)


def test_what_was_withheld_is_as_if_it_had_not_been_counted(shown):
    parent = find(shown, b"/chunked").ino
    part = shown.listing(parent).part(0, 3, counted=True)
    shown.withhold(part[1:])
    assert [attributes for _, attributes in shown.listing(parent)[:3]] == [attributes for _, attributes in part]
    shown.forget(part[0][1].ino, 1)
    with pytest.raises(StaleNode):
        shown.getattr(part[0][1].ino)
    shown.withhold([(b"gone", part[0][1]), (b"", shown.getattr(ROOT))])
    assert shown.getattr(ROOT).ino == ROOT


def test_dots_are_for_file_handles(shown):
    chunked = find(shown, b"/deep/moved00")
    assert shown.lookup(chunked.ino, b".") == chunked
    above = shown.lookup(chunked.ino, b"..")
    assert above == find(shown, b"/deep")
    assert shown.lookup(above.ino, b"..").ino == ROOT
    assert shown.lookup(ROOT, b"..").ino == ROOT
    shown.forget(chunked.ino, 1)
    assert shown.getattr(chunked.ino) == chunked


def test_the_members_of_a_hard_link_group_share_a_number(shown, tiny):
    groups: dict[int, set[int]] = {}
    for path, entry in entries(tiny).items():
        if "hardlink_group" in entry:
            attributes = find(shown, path)
            groups.setdefault(entry["hardlink_group"], set()).add(attributes.ino)
            assert attributes.nlink == entry["nlink"]
    assert len(groups) > 3
    assert all(len(numbers) == 1 for numbers in groups.values())
    assert len(set.union(*groups.values())) == len(groups)


def test_numbers_stay_below_two_to_the_32(shown):
    shown._inodes._next = 2**32 - 3
    listed = [attributes.ino for _, attributes in shown.listing(find(shown, b"/chunked").ino)[:]]
    assert max(listed) < 2**32
    assert len(set(listed)) == len(listed)


# --- listings ---------------------------------------------------------------------------------------------------------


def test_a_listing_gives_numbers_for_what_is_looked_at_only(shown):
    parent = find(shown, b"/names").ino
    listing = shown.listing(parent)
    known = shown.known_inodes()
    assert len(listing) == len(shown.repository.listing("/names")) > 30
    assert shown.known_inodes() == known
    assert len(listing[3:10]) == 7
    assert shown.known_inodes() == known + 7


def test_a_listing_is_a_stable_sequence(shown):
    parent = find(shown, b"/names").ino
    listing = shown.listing(parent)
    everything = listing[:]
    assert listing[:] == everything
    assert [listing[index] for index in range(len(listing))] == everything
    assert list(listing) == everything
    assert listing[-1] == everything[-1]
    assert listing[5:2] == []
    assert listing[35:1000] == everything[35:]
    assert listing[0:10:3] == everything[0:10:3]
    assert listing[1000:] == []
    with pytest.raises(IndexError):
        listing[len(everything)]
    assert [name for name, _ in shown.listing(parent)] == [name for name, _ in everything]


def test_an_empty_directory_and_no_directory(shown, tiny):
    empty = next(
        path
        for path, entry in entries(tiny).items()
        if entry["type"] == "dir" and not any(other.startswith(path + b"/") for other in entries(tiny))
    )
    assert list(shown.listing(find(shown, empty).ino)) == []
    with pytest.raises(NotADirectory):
        shown.listing(find(shown, b"/chunked/random_1m").ino)


def test_hidden_entries_can_be_looked_up_but_are_not_listed(shown, monkeypatch, row):
    hidden, plain = row(b".cvmfs", flags=int(Flag.FILE | Flag.HIDDEN)), row(b"plain")
    monkeypatch.setattr(Directories, "read", lambda *_, **__: {b".cvmfs": hidden, b"plain": plain})
    assert [name for name, _ in shown.listing(ROOT)] == [b"plain"]
    assert stat.S_ISREG(shown.lookup(ROOT, b".cvmfs").mode)


# --- without waiting --------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(opened, tiny, web):
    """A volume behind a web server, and the server; the root catalog is at hand."""
    server = web(tiny.root)
    shown = Volume(opened(tiny, servers=(f"{server.url}/{tiny.fqrn}",)))
    server.requests.clear()
    return shown, server


def test_what_is_absent_is_not_fetched_unless_we_may_wait(remote):
    shown, server = remote
    names = shown.lookup(ROOT, b"names", wait=False).ino
    file = shown.lookup(shown.lookup(ROOT, b"chunked", wait=False).ino, b"random_1m", wait=False).ino
    small = shown.lookup(shown.lookup(ROOT, b"chunked", wait=False).ino, b"random_16383", wait=False).ino
    for ask in (
        lambda: shown.listing(names, wait=False),
        lambda: shown.lookup(names, b"any", wait=False),
        lambda: shown.read(file, 0, 4096, wait=False),
        lambda: shown.read(small, 0, 4096, wait=False),
        lambda: shown.opened(small, wait=False),
    ):
        with pytest.raises(BlockingIOError):
            ask()
    assert server.requests == []


def test_what_was_fetched_once_is_at_hand(remote):
    shown, server = remote
    names = shown.lookup(ROOT, b"names").ino
    listed = shown.listing(names)[:]
    small = find(shown, b"/chunked/random_16383").ino
    data = bytes(shown.read(small, 0, MAX_READ))
    server.requests.clear()
    assert shown.listing(names, wait=False)[:] == listed
    for name, attributes in listed:
        assert shown.lookup(names, name, wait=False) == attributes
    with pytest.raises(NotFound):
        shown.lookup(names, b"none", wait=False)
    assert bytes(shown.read(small, 0, MAX_READ, wait=False)) == data
    shown.getattr(small, wait=False)
    with pytest.raises(NoSuchAttribute):
        shown.getxattr(small, b"security.selinux", wait=False)
    assert server.requests == []


def test_a_listing_overtaken_by_a_revision_does_not_wait_in_the_receive_loop(remote, tiny, opened, tmp_path):
    """The new revision's catalog of that directory is not at hand: a worker goes on with the listing."""
    shown, server = remote
    names = shown.listing(shown.lookup(ROOT, b"names").ino)
    begun = names.part(0, 5)
    newer = opened(tiny, servers=(f"{server.url}/{tiny.fqrn}",), cache_dir=str(tmp_path / "empty"))
    assert shown.switch(newer, [], {directory.path for directory in shown.known_directories()})
    with pytest.raises(BlockingIOError):
        names.part(5, 10, wait=False)
    assert len(names.part(5, 10)) == 5
    assert names.part(5, 10, wait=False) == names[5:10]
    assert names.part(0, 5) == begun


def test_only_the_chunks_that_are_read_are_fetched(remote):
    shown, server = remote
    file = find(shown, b"/chunked/random_1m").ino
    shown.read(file, 500_000, 10)
    assert len(server.requests) == 1
    shown.read(file, 500_000, 10, wait=False)
    with pytest.raises(BlockingIOError):
        shown.read(file, 0, 10, wait=False)


# --- attributes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
def test_attributes_are_those_that_the_original_showed(opened, fixture_repository, fqrn):
    repository = fixture_repository(fqrn)
    shown = Volume(opened(repository), View(variables=VARIABLES))
    for path, entry in entries(repository).items():
        got = find(shown, path)
        assert (got.mode & 0o7777, got.uid, got.gid) == (int(entry["mode"], 8), entry["uid"], entry["gid"])
        assert (got.size, got.mtime, got.mtime_ns) == (entry["size"], entry["mtime"], entry["mtime_ns"])
        assert got.nlink == entry["nlink"]
        assert got.blocks == (entry["size"] + 511) // 512
        assert len(shown.listxattr(got.ino)) == len(entry.get("xattrs", {}))


def test_links_are_expanded_and_as_long_as_what_is_shown(shown, tiny, opened):
    plain = Volume(opened(tiny))
    varied = 0
    for path, entry in entries(tiny).items():
        if entry["type"] == "symlink":
            got = find(shown, path)
            target = entry["target"].encode("utf-8", "surrogateescape")
            assert shown.readlink(got.ino) == target
            assert got.size == len(target)
            varied += plain.readlink(find(plain, path).ino) != target
    assert varied >= 2, "some links depend on the variables"
    with pytest.raises(NotALink):
        shown.readlink(ROOT)


def test_the_owner_may_be_claimed(opened, tiny):
    claimed = Volume(opened(tiny), View(owner=(1234, 5678)))
    for path in (b"", b"/hlgroups/a1", b"/chunked"):
        assert find(claimed, path)[3:5] == (1234, 5678)


def test_devices_have_numbers_and_no_size(shown):
    device = find(shown, b"/specialfiles/blk_7_200")
    assert stat.S_ISBLK(device.mode)
    assert (device.size, device.rdev, device.blocks) == (0, (7 << 8) | 200, 0)


def test_extended_attributes(opened, tiny):
    shown = Volume(
        opened(tiny),
        View(
            magic=MagicAttributes(
                {b"user.fqrn": Magic(lambda _: [b"tiny.example.org"]), b"user.empty": Magic(lambda _: [b""])}
            )
        ),
    )
    file = find(shown, b"/hlgroups/x1").ino
    assert shown.listxattr(file) == [b"user.hl"]
    assert shown.getxattr(file, b"user.hl") == b"shared"
    assert shown.getxattr(ROOT, b"user.fqrn") == b"tiny.example.org"
    assert shown.getxattr(ROOT, b"user.empty") == b""
    for name in (b"user.none", b"security.capability", b"system.posix_acl_access", b""):
        with pytest.raises(NoSuchAttribute):
            shown.getxattr(file, name)


def test_what_was_published_is_given_out_although_it_counts_for_nothing(shown):
    """Listings that ask each file of access lists and labels hear at once that there is no sense in it."""
    file, other = find(shown, b"/hlgroups/x1").ino, find(shown, b"/names").ino
    acl, label = b"system.posix_acl_access", b"security.selinux"
    node = shown._inodes.node(file)
    node.entry = node.entry._replace(xattr=pack_attributes({acl: b"list", label: b"label"}))
    assert (shown.getxattr(file, acl), shown.getxattr(file, label)) == (b"list", b"label")
    for name in (acl, label, b"security.capability", b"system.posix_acl_default"):
        with pytest.raises(AttributeUnsupported):
            shown.getxattr(other, name, wait=False)


def test_attributes_that_cannot_be_read_hide_themselves_only(shown):
    file = find(shown, b"/hlgroups/x1").ino
    node = shown._inodes.node(file)
    node.entry = node.entry._replace(xattr=b"\x09garbage")
    assert shown.listxattr(file) == []
    with pytest.raises(NoSuchAttribute):
        shown.getxattr(file, b"user.hl")
    assert bytes(shown.read(file, 0, 100))


def test_statfs_shows_the_cache_and_the_entries(shown, tiny):
    size = shown.statfs()
    # The directory where a nested catalog begins is counted on both sides.
    assert (size.block_size, size.files, size.files_free) == (512, len(entries(tiny)) + 5, 0)
    assert size.blocks == 4000 * 2**20 // 512
    assert 0 < size.blocks_free < size.blocks


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fqrn", ["tiny.example.org", "tiny-shake128.example.org"])
@pytest.mark.parametrize("name", [b"random_1m", b"text_400k", b"random_16384", b"random_16383"])
def test_reads_at_random_offsets(opened, fixture_repository, fqrn, name):
    repository = opened(fixture_repository(fqrn))
    shown = Volume(repository)
    data = repository.read(b"/chunked/" + name)
    file = find(shown, b"/chunked/" + name).ino
    chance = random.Random(name)
    for _ in range(300):
        offset, size = chance.randrange(len(data) + 100), chance.choice((0, 1, 4096, 131072, MAX_READ, 2**31))
        assert bytes(shown.read(file, offset, size)) == data[offset : offset + min(size, MAX_READ)]


def test_what_has_no_bytes(shown):
    for path in (b"", b"/chunked", b"/specialfiles/fifo"):
        with pytest.raises(IsADirectory):
            shown.read(find(shown, path).ino, 0, 10)


def test_every_reader_thread_has_a_buffer_of_its_own(shown):
    first = find(shown, b"/chunked/random_16383").ino
    second = find(shown, b"/chunked/random_16384").ino
    expected = [bytes(shown.read(number, 0, 1000)) for number in (first, second)]
    mine = shown.read(first, 0, 1000, wait=False)
    before = bytes(mine)
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(bytes(shown.read(second, 0, 1000, wait=False))))
    thread.start()
    thread.join()
    assert [bytes(mine), *theirs] == [before, *theirs] == expected


def test_a_file_is_not_closed_under_a_read(opened, tiny, monkeypatch):
    """Another thread pushes the object out between the look into the table and the system call."""
    reader = Reader(OpenFiles(limit=1))
    shown = Volume(opened(tiny), reader=reader)
    file = find(shown, b"/chunked/random_16383").ino
    expected = bytes(shown.read(file, 0, 1000))
    preadv = os.preadv

    def evict_and_read(fd, buffers, offset):
        reader.files.clear()
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", evict_and_read)
    assert bytes(shown.read(file, 0, 1000)) == expected


def test_one_digest_of_two_lengths_is_two_contents(opened, tiny, tmp_path):
    """The same stored bytes may be the compressed form of one file and the plain form of another."""
    repository = opened(tiny)
    shown = Volume(repository)
    entry = repository.lookup("/chunked/random_16383")
    stored = (tiny.storage / entry.content.path).read_bytes()
    parent = find(shown, b"/chunked").ino
    plain = find(shown, b"/chunked/random_16383").ino
    other = shown.lookup(parent, b"random_16384").ino
    twin = entry._replace(name=b"twin", size=len(stored), flags=entry.flags | 1 << 11)
    shown._inodes.node(other).entry = twin
    assert len(stored) != entry.size
    for _ in range(2):
        assert bytes(shown.read(plain, 0, MAX_READ)) == repository.read("/chunked/random_16383")
        assert bytes(shown.read(other, 0, MAX_READ)) == stored


def test_open_files_are_kept_while_somebody_says_so(opened, tiny):
    shown = Volume(opened(tiny), reader=Reader(OpenFiles(limit=1)))
    file = find(shown, b"/chunked/random_16383").ino
    shown.opened(file)
    shown.opened(file)
    kept = shown._opened[file][0]
    shown.released(file)
    assert file in shown._opened
    shown.released(file)
    assert shown._opened == {}
    shown.released(file)
    assert kept.fd >= 0
    assert not shown.is_direct_io(file)


def test_a_file_whose_chunks_do_not_add_up_is_refused(shown, monkeypatch):
    file = find(shown, b"/chunked/random_1m").ino
    tree = shown.repository.tree
    chunks = tree.chunks
    monkeypatch.setattr(tree, "chunks", lambda path, **_: chunks(path)[1:])
    with pytest.raises(FormatError, match="leave a gap"):
        shown.read(file, 0, 10)


# --- a new revision ---------------------------------------------------------------------------------------------------

PAIRS = [(old, new) for old in ("s1", "s2", "s3", "s4", "s5") for new in ("s1", "s2", "s3", "s4", "s5") if old != new]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_after_a_switch_everything_is_new_and_what_was_open_stays(opened, tiny, old, new):
    before, after = opened(tiny, tag=old), opened(tiny, tag=new)
    shown = Volume(before)
    held = {path: find(shown, path) for path, _ in before.walk()}
    targets = {path: shown.readlink(held[path].ino) for path, entry in before.walk() if entry.is_link}
    switch(shown, after)
    for path, attributes in held.items():
        node = shown._inodes.node(attributes.ino)
        if node.entry.is_regular:
            assert bytes(shown.read(attributes.ino, 0, MAX_READ)) == before.read(path), path
        elif node.entry.is_link:
            assert shown.readlink(attributes.ino) == targets[path]
    now = {}
    for path, entry in after.walk():
        got = now[path] = find(shown, path)
        assert (got.mode, got.mtime, got.uid) == (entry.mode, entry.mtime, entry.uid), path
        if entry.is_regular:
            assert got.size == entry.size, path
            assert bytes(shown.read(got.ino, 0, MAX_READ)) == after.read(path), path
            # One number, one content.
            if path in held and held[path].ino == got.ino:
                assert before.read(path) == after.read(path)
    gone = held.keys() - now.keys()
    for path in gone:
        with pytest.raises((NotFound, NotADirectory)):
            find(shown, path)
    unchanged = {
        path
        for path, entry in before.walk()
        if path in now and not entry.hardlink_group and entry == after.lookup(path)
    }
    assert all(held[path].ino == now[path].ino for path in unchanged)
    assert len(unchanged) > 100


def test_a_tree_that_goes_is_looked_for_once_whatever_its_size(opened, tiny, monkeypatch):
    """The switch holds the lock that every request needs: one look at all numbers, not one for each directory."""
    before, after = opened(tiny, tag="s5"), opened(tiny, tag="s1")
    shown = Volume(before)
    held = {path: find(shown, path) for path, entry in before.walk() if entry.is_directory}
    stays = {path for path, entry in after.walk() if entry.is_directory}
    gone = held.keys() - stays
    passes, detach = [], shown._inodes.detach_below
    monkeypatch.setattr(shown._inodes, "detach_below", lambda paths: (passes.append(set(paths)), detach(paths)))
    switch(shown, after)
    assert len(passes) == 1
    assert len(gone) > 1
    assert gone <= passes[0]
    assert all(shown._inodes.node(held[path].ino).detached == (path in gone) for path in held if path)


def test_a_switch_waits_for_directories_that_nobody_compared(opened, tiny):
    shown = Volume(opened(tiny, tag="s1"))
    newer = opened(tiny, tag="s5")
    find(shown, b"/chunked")
    assert not shown.switch(newer, [], {b""})
    assert shown.repository.number == 2
    assert shown.switch(newer, [], {b""}, force=True)
    assert shown.repository.number == 6


def test_what_was_left_from_an_older_revision_is_not_handed_out(opened, tiny):
    """The kernel holds a file but not its directory, as with an inotify watch: nobody compares that directory."""
    before, after = opened(tiny, tag="s1"), opened(tiny, tag="s5")
    shown = Volume(before)
    changed = [
        d for d in differences(before.tree, after.tree) if d.old and d.new and d.old.is_regular and d.new.is_regular
    ]
    assert changed
    held = {d.path: find(shown, d.path).ino for d in changed}
    for node in list(shown._inodes):
        if node.entry.is_directory and node.ino != ROOT:
            shown.forget(node.ino, node.references)
    assert shown.switch(after, [], {b""})
    for difference in changed:
        got = find(shown, difference.path)
        assert got.size == difference.new.size
        assert bytes(shown.read(got.ino, 0, MAX_READ)) == after.read(difference.path)
        if difference.old.is_chunked:
            with pytest.raises(StaleNode):
                shown.read(held[difference.path], 0, MAX_READ)
        else:
            assert bytes(shown.read(held[difference.path], 0, MAX_READ)) == before.read(difference.path)


@pytest.fixture
def changed_directory(opened, tiny):
    """Two revisions between which a directory below another one changed, and its path."""
    for old, new in PAIRS:
        before, after = opened(tiny, tag=old), opened(tiny, tag=new)
        for path, a, b in differences(before.tree, after.tree):
            if a and b and a.is_directory and b.is_directory and path.count(b"/") > 1 and a[1:6] != b[1:6]:
                return before, after, path
    pytest.fail("the fixture has no such pair")


def test_a_directory_that_was_only_listed_is_shown_as_it_is_now(changed_directory):
    before, after, path = changed_directory
    shown = Volume(before)
    parent = find(shown, path.rpartition(b"/")[0])
    shown.listing(parent.ino)[:]
    shown.forget(parent.ino, 1)
    assert shown.switch(after, [], {b""}, force=True)
    assert find(shown, path).mtime == after.lookup(path).mtime


def test_a_directory_may_be_compared_after_the_switch(changed_directory):
    before, after, path = changed_directory
    shown = Volume(before)
    directory = find(shown, path).ino
    assert shown.switch(after, [], {b""}, force=True)
    shown.follow([d for d in differences(before.tree, after.tree) if d.path == path])
    assert shown.getattr(directory).mtime == after.lookup(path).mtime
    assert find(shown, path).ino == directory


def test_a_reader_that_is_late_never_gets_another_revision_s_chunks(opened, tiny):
    before, after = opened(tiny, tag="s1"), opened(tiny, tag="s5")
    shown = Volume(before)
    path = next(d.path for d in differences(before.tree, after.tree) if d.old and d.old.is_chunked)
    file = find(shown, path).ino
    node = shown._inodes.node(file)
    assert shown.switch(after, [], set(), force=True)
    assert node.pieces is None
    with pytest.raises((StaleNode, NotFound)):
        shown.read(file, 0, 10)


def test_a_listing_that_was_begun_goes_on_with_the_new_revision(opened, tiny):
    before, after = opened(tiny, tag="s1"), opened(tiny, tag="s5")
    shown = Volume(before)
    listing = shown.listing(ROOT)
    first = listing[:5]
    switch(shown, after)
    rest = listing[5:]
    now = {entry.name: entry for entry in after.listing("/")}
    vanished = {entry.name for entry in before.listing("/")} - now.keys()
    assert {name for name, _ in rest} == {entry.name for entry in before.listing("/")} - vanished - {
        n for n, _ in first
    }
    for name, attributes in rest:
        assert attributes == shown.lookup(ROOT, name)
        assert attributes.mtime == now[name].mtime
    assert [name for name, _ in listing[5:]] == [name for name, _ in rest]
    assert len(listing) == 5 + len(rest)


def test_a_listing_of_a_directory_that_is_gone_ends(opened, tiny):
    before, after = opened(tiny, tag="s1"), opened(tiny, tag="s5")
    gone = next(
        d.path
        for d in differences(before.tree, after.tree)
        if d.old and d.old.is_directory and d.new is None and before.listing(d.path)
    )
    shown = Volume(before)
    directory = find(shown, gone).ino
    listing = shown.listing(directory)
    switch(shown, after)
    assert listing[0:] == []
    with pytest.raises((NotFound, NotADirectory)):
        shown.listing(directory)
    with pytest.raises((NotFound, NotADirectory)):
        shown.lookup(directory, b"x")


def test_an_overtaken_lookup_starts_again(opened, tiny, monkeypatch):
    """The revision changes between the look into the directory and the answer."""
    before, after = opened(tiny, tag="s1"), opened(tiny, tag="s5")
    shown = Volume(before)
    old_read = Directories.read

    def read_and_switch(self, path, *, wait):
        found = old_read(self, path, wait=wait)
        if self.repository is before:
            monkeypatch.setattr(Directories, "read", old_read)
            switch(shown, after)
        return found

    monkeypatch.setattr(Directories, "read", read_and_switch)
    name = next(iter({e.name for e in before.listing("/")} - {e.name for e in after.listing("/")}))
    with pytest.raises(NotFound):
        shown.lookup(ROOT, name)
    assert shown.repository is after


@pytest.mark.parametrize(
    ("old", "new", "keeps"),
    [
        ({}, {}, True),
        ({}, {"mtime": 5, "uid": 7, "mode": 0o100755}, True),
        ({}, {"digest": b"\1" * 20}, False),
        ({}, {"size": 11}, False),
        ({}, {"mode": 0o120777}, False),
        ({"mode": 0o120777, "symlink": b"a"}, {"mode": 0o120777, "symlink": b"b"}, False),
        ({"mode": 0o120777, "symlink": b"a"}, {"mode": 0o120777, "symlink": b"a", "mtime": 1}, True),
        ({"flags": int(Flag.FILE | Flag.CHUNKED)}, {"flags": int(Flag.FILE | Flag.CHUNKED)}, False),
        ({"mode": 0o040755}, {"mode": 0o040700, "size": 3}, True),
        ({"mode": 0o040755}, {"mode": 0o100644}, False),
        ({"mode": 0o060644, "size": 1}, {"mode": 0o060644, "size": 2}, False),
    ],
)
def test_when_a_number_may_go_on(row, old, new, keeps):
    first = row(b"f")
    assert keeps_number(first._replace(**old), first._replace(**new)) is keeps
    assert not keeps_number(first, None)
    assert not keeps_number(None, first)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_directories_in_memory_are_bounded_by_their_entries(opened, tiny):
    repository = opened(tiny)
    bounded = Directories(repository, limit=100)
    paths = [path for path, entry in repository.walk() if entry.is_directory]
    for path in paths:
        bounded.read(path, wait=True)
    assert bounded._count == sum(map(len, bounded._held.values())) <= 100
    largest = max(paths, key=lambda path: len(repository.listing(path)))
    assert len(bounded.read(largest, wait=True)) > 100
    assert bounded._largest[0] == largest
    assert largest not in bounded._held


def test_looking_into_several_directories_in_turn_reads_each_once(opened, tiny, monkeypatch):
    """However many entries they have: who looks for each of 100,000 would wait for ever."""
    repository = opened(tiny)
    directories_of = {path: repository.tree.listing(path) for path, entry in repository.walk() if entry.is_directory}
    chosen = sorted(directories_of, key=lambda path: len(directories_of[path]))[-3:]
    bounded = Directories(repository, limit=1)
    listed, listing = [], repository.tree.listing
    monkeypatch.setattr(
        repository.tree, "listing", lambda path, *, wait: listed.append(path) or listing(path, wait=wait)
    )
    for place in range(min(len(directories_of[path]) for path in chosen)):
        for path in chosen:
            row = directories_of[path][place]
            assert bounded.entry(path, row.name, wait=True) == row
            assert bounded.entry(path, b"no such name", wait=True) is None
    assert sorted(listed) == sorted(chosen)


def test_the_default_bound_holds_the_largest_directory_of_a_fixture():
    assert directories.DEFAULT_LIMIT > 1000
    assert volume.ROOT == inodes.ROOT


def test_a_listed_tree_takes_no_more_numbers_than_allowed(shown, monkeypatch):
    monkeypatch.setattr(inodes, "_UNREFERENCED_LIMIT", 50)
    for path, entry in shown.repository.walk():
        if entry.is_directory:
            parent = find(shown, path).ino
            shown.listing(parent)[:]
            for node in list(shown._inodes):
                if node.ino != ROOT and node.references:
                    shown.forget(node.ino, node.references)
    assert shown.known_inodes() <= 51
