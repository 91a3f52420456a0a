"""What two publishers of one revision may do side by side, and what is a conflict; processes and threads at once."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import Conflict
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.draft import Base, Contribution, build_draft
from cvfs_server.lock import is_free
from cvfs_server.merge import difference, merge
from cvfs_server.publication import PublishOptions, Tally
from cvfs_server.publishers import registered
from cvfs_server.repository import PublishedRepository
from cvfs_server.sources.scan import TreeSource, scan_rules

SHAPE = (
    "d/e/file",
    "d/other",
    "d/e/deep/leaf",
    "n/.cvmfscatalog",
    "n/one",
    "n/two",
    "n/m/.cvmfscatalog",
    "n/m/x",
    "top",
)


@pytest.fixture
def own(new_repository):
    """A repository with a few files; equal times everywhere."""
    own = new_repository(compression="none")
    for name in SHAPE:
        file = own.tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    os.link(own.tree / "d/other", own.tree / "d/same")
    own.publish()
    return own


class Sides:
    """The base, and copies of it for two publishers."""

    def __init__(self, own, tmp_path):
        self.own = own
        self.base = own.manifest().root_catalog
        self.mine, self.theirs = tmp_path / "mine", tmp_path / "theirs"
        for copy in (self.mine, self.theirs):
            subprocess.run(["cp", "-a", str(own.tree), str(copy)], check=True)

    def publish(self, **options):
        """Theirs first, then mine on the same base."""
        self.own.publish(self.theirs)
        return self.own.publish(self.mine, base=self.base, **options)


@pytest.fixture
def sides(own, tmp_path):
    return Sides(own, tmp_path)


def write(name, text="new"):
    return lambda tree: (tree / name).write_text(text)


def make(name):
    return lambda tree: (tree / name).mkdir()


def remove(name):
    return lambda tree: shutil.rmtree(tree / name) if (tree / name).is_dir() else (tree / name).unlink()


def mode(name, bits):
    return lambda tree: (tree / name).chmod(bits)


def link(name, other):
    return lambda tree: os.link(tree / name, tree / other)


def all_of(*edits):
    return lambda tree: [edit(tree) for edit in edits]


def at(edit, *names):
    """An edit after which these names have a time of their own."""
    return lambda tree: (edit(tree), [os.utime(tree / name, ns=(1, 10**18)) for name in names])


CONFLICTS = {
    "both wrote": (write("top", "a"), write("top", "b"), ["/top"]),
    "both wrote, nested": (write("n/m/x", "a"), write("n/m/x", "b"), ["/n/m/x"]),
    "both created": (write("new", "a"), write("new", "b"), ["/new"]),
    "both created other types": (write("new"), make("new"), ["/new"]),
    "written, removed": (write("d/other", "a"), remove("d/other"), ["/d/other"]),
    "removed, written": (remove("top"), write("top", "a"), ["/top"]),
    "directory removed, written below": (remove("d"), write("d/e/deep/leaf", "a"), ["/d/e/deep/leaf"]),
    "written below, directory removed": (write("d/e/deep/leaf", "a"), remove("d"), ["/d/e/deep/leaf"]),
    "created below, directory removed": (write("d/e/new"), remove("d/e"), ["/d/e"]),
    "nested catalog removed, written below": (remove("n"), write("n/m/x", "a"), ["/n/m/x"]),
    "directory replaced, written below": (all_of(remove("d"), write("d")), write("d/e/file", "a"), ["/d/e/file"]),
    "written below, directory replaced": (write("n/one", "a"), all_of(remove("n"), write("n")), ["/n/one"]),
    "type and mode": (all_of(remove("top"), make("top")), mode("top", 0o600), ["/top"]),
    "two modes of a file": (mode("top", 0o600), mode("top", 0o640), ["/top"]),
    "two modes of a directory": (mode("d", 0o700), mode("d", 0o750), ["/d"]),
    "two modes of the root": (mode(".", 0o700), mode(".", 0o750), ["/"]),
    "both linked": (link("d/other", "d/third"), link("d/same", "d/fourth"), ["/d/other"]),
    "several": (all_of(write("top", "a"), write("n/one", "a")), all_of(write("top", "b"), write("n/one", "b")), ["/n/one", "/top"]),
}  # fmt: skip


@pytest.mark.parametrize(("mine", "theirs", "paths"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflicts_name_the_paths(sides, look, look_through, mine, theirs, paths):  # noqa: PLR0917
    mine(sides.mine)
    theirs(sides.theirs)
    with pytest.raises(Conflict) as refused:
        sides.publish(tag="v2")
    named = [path.decode() or "/" for path in refused.value.paths]
    assert set(paths) <= set(named)
    assert all(path in str(refused.value) for path in named)
    with sides.own.open() as newest:
        assert look_through(newest) == look(os.fsencode(sides.theirs))
    assert sides.own.check() == []


UNITED = {
    "one directory": (write("d/a"), write("d/b")),
    "different files": (write("top"), write("n/one")),
    "same file": (at(write("top"), "top"), at(write("top"), "top")),
    "same new file": (at(write("new"), "new"), at(write("new"), "new")),
    "same removal": (remove("n"), remove("n")),
    "nobody": (lambda _tree: None, lambda _tree: None),
    "only here": (write("top"), lambda _tree: None),
    "only there": (lambda _tree: None, write("top")),
    "both made the same directory": (all_of(make("new"), write("new/a")), all_of(make("new"), write("new/b"))),
    "removed here, written beside": (remove("d/e"), write("d/new")),
    "nested removed here, written there": (remove("n"), write("d/e/file")),
    "split here, written below there": (write("d/e/.cvmfscatalog"), write("d/e/deep/leaf")),
    "written below here, split there": (write("d/e/deep/leaf"), write("d/e/.cvmfscatalog")),
    "dissolved here, written below there": (remove("n/.cvmfscatalog"), write("n/m/x")),
    "written below here, dissolved there": (write("n/m/x"), remove("n/.cvmfscatalog")),
    "dissolved by both": (remove("n/m/.cvmfscatalog"), remove("n/m/.cvmfscatalog")),
    "split by both": (write("d/.cvmfscatalog", "a"), write("d/.cvmfscatalog", "b")),
    "split above and below": (write("d/.cvmfscatalog"), write("d/e/deep/.cvmfscatalog")),
    "linked here, removed elsewhere": (link("d/other", "d/third"), remove("d/e")),
    "mode here, written below there": (mode("d", 0o700), write("d/e/file")),
    "mode here, owner there": (mode("d", 0o700), lambda tree: os.chown(tree / "d", 1, 2)),
    "a directory for a file": (all_of(remove("top"), make("top"), write("top/a")), write("d/e/file")),
    "a file for a nested catalog": (all_of(remove("n/m"), write("n/m")), write("n/two")),
}


@pytest.mark.parametrize(("mine", "theirs"), UNITED.values(), ids=UNITED)
def test_side_by_side(sides, look, look_through, mine, theirs):
    mine(sides.mine)
    theirs(sides.theirs)
    report = sides.publish()
    # As if the second publisher had worked on the first one's tree.
    mine_alone, both = look(os.fsencode(sides.mine)), look(os.fsencode(sides.theirs))
    with sides.own.open() as newest:
        seen = look_through(newest)
        base = newest.tree.root().revision
        assert report.revision == base
    before = look(os.fsencode(sides.own.tree))
    for path in before.keys() | mine_alone.keys() | both.keys() | seen.keys():
        versions = [tree.get(path) for tree in (before, mine_alone, both)]
        if versions[0] == versions[1]:
            assert seen.get(path) == versions[2]
        elif versions[0] == versions[2]:
            assert seen.get(path) == versions[1]
        else:
            assert (path in seen) == (path in mine_alone) == (path in both)
    assert sides.own.check() == []


def test_the_tag_of_a_merged_revision_is_what_was_merged(sides, look_through):
    write("d/a")(sides.mine)
    write("n/b")(sides.theirs)
    sides.publish(tag="both")
    with sides.own.open("both") as tagged:
        seen = look_through(tagged)
    assert {b"/d/a", b"/n/b"} <= seen.keys()


def test_many_conflicts_are_counted():
    error = Conflict([b"/%d" % number for number in range(25)])
    assert str(error).startswith("25 paths changed here and")
    assert "/9 and 15 more;" in str(error)
    assert error.exit_status == 18


def test_publishers_in_threads(own, tmp_path):
    trees = [tmp_path / f"tree{number}" for number in range(2)]
    for number, tree in enumerate(trees):
        tree.mkdir()
        (tree / "number").write_text(str(number))
    for turn in range(10):
        for tree in trees:
            (tree / f"file{turn}").write_text(f"{tree} {turn}")
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(own.publish, tree, to=b"/" + tree.name.encode()) for tree in trees]
            revisions = sorted(future.result().revision for future in futures)
        assert revisions == [2 * turn + 3, 2 * turn + 4]
    with own.open() as newest:
        for tree in trees:
            names = {row.name for row in newest.tree.listing(b"/" + tree.name.encode())}
            assert names == {os.fsencode(name) for name in os.listdir(tree)}
        assert newest.tree.find(b"/d/e/file").size
    assert own.check() == []


_PUBLISH = """
import sys
from cvfs_server.ways.tree import publish_tree, TreeOptions
from cvfs_server.site import Site
for turn in range(5):
    with open(f"{sys.argv[3]}/file{turn}", "w") as file:
        file.write(sys.argv[3])
    publish_tree(Site(sys.argv[1]), sys.argv[2], sys.argv[3], None, TreeOptions(to=sys.argv[4].encode()))
"""


def test_publishers_in_processes(own, tmp_path):
    trees = [tmp_path / f"tree{number}" for number in range(2)]
    running = []
    for tree in trees:
        tree.mkdir()
        command = [sys.executable, "-c", _PUBLISH, own.site.root, own.fqrn, str(tree), f"/{tree.name}"]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE))
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, b"")
    with own.open() as newest:
        assert newest.tree.root().revision == 12
        for tree in trees:
            names = {row.name for row in newest.tree.listing(b"/" + tree.name.encode())}
            assert names == {b"file%d" % turn for turn in range(5)}
    assert own.check() == []
    assert not any(Path(own.settings.spool, "tmp").iterdir())


def test_a_base_that_is_still_the_present_revision(own):
    (own.tree / "new").touch()
    report = own.publish(base=ContentHash.parse(str(own.manifest().root_catalog), ObjectKind.CATALOG))
    assert (report.added, report.revision) == (1, 3)


def drafted(own, base, tree):
    """The root of a draft that nobody publishes."""
    with registered(own.settings, "test") as publisher:
        repository = PublishedRepository.open(own.site, own.fqrn, publisher.storage)
        on = Base(repository, repository.tree_of(base, publisher.scratch), publisher)
        contribution = Contribution(TreeSource(os.fsencode(tree), scan_rules(own.settings)))
        return build_draft(on, contribution, Tally(PublishOptions())).root.content


class Asked:
    """Notes which catalogs are opened."""

    def __init__(self, source):
        self.source, self.opened = source, []

    def open_catalog(self, nested, *, wait=True):
        self.opened.append(nested.path)
        return self.source.open_catalog(nested, wait=wait)

    def renew(self, nested):
        self.source.renew(nested)


def revisions(own, scratch, *roots):
    """The catalogs of revisions, and what notes their use."""
    repository = PublishedRepository.open(own.site, own.fqrn)
    scratch.mkdir()
    asked = [Asked(repository.catalogs(str(scratch))) for _ in roots]
    return [
        CatalogTree(root.as_kind(ObjectKind.CATALOG), 0, source) for root, source in zip(roots, asked, strict=True)
    ], asked


def entries(source, path=b""):
    """Everything that a source says, by path."""
    edit, found = source.edit(path), {}
    for entry in edit.entries:
        found[path + b"/" + entry.name] = entry
        if entry.is_directory and entry.whole is None:
            found.update(entries(source, path + b"/" + entry.name))
    return found | {path + b"/" + name: None for name in edit.removed}


def test_only_catalogs_that_both_changed_are_looked_into(own, tmp_path):
    for name in ("k", "l"):
        (own.tree / name).mkdir()
        (own.tree / name / ".cvmfscatalog").touch()
    base = own.publish() and own.manifest().root_catalog
    roots = []
    for name in ("k/mine", "l/theirs"):
        tree = tmp_path / name[2:]
        subprocess.run(["cp", "-a", str(own.tree), str(tree)], check=True)
        (tree / name).touch()
        roots.append(drafted(own, base, tree))
    trees, asked = revisions(own, tmp_path / "scratch", base, *roots)
    found = entries(merge(*trees))
    assert found.keys() == {b"/k"}
    assert found[b"/k"].whole.content == trees[1].governing(b"/k").content
    # The counters of the one that is taken over are all that is needed.
    assert [set(source.opened) for source in asked] == [{b""}, {b"", b"/k"}, {b""}]


def test_a_difference_is_told_in_full(own, tmp_path):
    base = own.manifest().root_catalog
    (own.tree / "n/m/new").touch()
    (own.tree / "new").mkdir()
    (own.tree / "new/.cvmfscatalog").touch()
    (own.tree / "top").unlink()
    own.publish()
    trees, _ = revisions(own, tmp_path / "scratch", base, own.manifest().root_catalog)
    found = entries(difference(*trees))
    assert found.keys() == {b"/n", b"/n/m", b"/n/m/new", b"/new", b"/new/.cvmfscatalog", b"/top"}
    assert found[b"/top"] is None
    assert entries(difference(trees[0], trees[0])) == {}


def test_the_lock_is_not_held_while_revisions_are_merged(sides, monkeypatch):
    free = []

    def noticed(*trees):
        free.append(is_free(f"{sides.own.settings.spool}/publish.lock"))
        return merge(*trees)

    monkeypatch.setattr("cvfs_server.publish.merge", noticed)
    write("d/a")(sides.mine)
    write("d/b")(sides.theirs)
    assert sides.publish().revision == 4
    assert free == [True]


def test_what_is_published_after_that_is_merged_under_the_lock(sides, monkeypatch):
    free, first = [], []

    def noticed(*trees):
        free.append(is_free(f"{sides.own.settings.spool}/publish.lock"))
        if not first:
            first.append(True)
            write("d/c")(sides.theirs)
            sides.own.publish(sides.theirs)
        return merge(*trees)

    monkeypatch.setattr("cvfs_server.publish.merge", noticed)
    write("d/a")(sides.mine)
    write("d/b")(sides.theirs)
    assert sides.publish().revision == 5
    assert free == [True, False]
    with sides.own.open() as newest:
        assert {row.name for row in newest.tree.listing(b"/d")} >= {b"a", b"b", b"c"}
