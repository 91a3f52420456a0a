"""A repository with a past: what each revision showed, what the storage holds, what by rights it should hold."""

import os
from pathlib import Path

import pytest
import stored

from cvfs.chunking import ChunkSizes
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.reflog import Reflog
from cvfs_server.gc.collect import GcOptions, collect
from cvfs_server.gc.preserved import Keeping
from cvfs_server.repository import PublishedRepository


class Past:
    """A repository, and its trees as they were."""

    def __init__(self, own, look, look_through, scratch):
        self.own = own
        self._look = look
        self._look_through = look_through
        self._scratch = scratch
        self.shown = {}
        self.roots = {}

    def write(self, name, data):
        place = self.own.tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return place

    def note(self, tag=""):
        """The tree as it is was published: what it looks like, by the names of tags."""
        self.shown["trunk-previous"] = self.shown.get("trunk")
        self.shown["trunk"] = self._look(os.fsencode(self.own.tree))
        if tag:
            self.shown[tag] = self.shown["trunk"]

    def publish(self, tag="", workers=1):
        """A revision of the tree as it is; its root hash is remembered under the tag or the hash itself."""
        report = self.own.publish(tag=tag, workers=workers)
        self.note(tag)
        self.roots[tag or report.root_hash] = ContentHash.parse(report.root_hash, ObjectKind.CATALOG)
        return self.roots[tag or report.root_hash]

    def collect(self, revisions=None, since=None, **options):
        """Garbage collection in this process; by default nothing but the present revision and the tags are kept."""
        revisions = 0 if revisions is None and since is None else revisions
        options = {"workers": 1, "patience": 20, **options}
        return collect(self.own.site, self.own.fqrn, GcOptions(Keeping(revisions, since), **options))

    def objects(self):
        """The places of all objects of the storage."""
        return stored.objects(self.own.storage)

    def references(self):
        """What the reflog lists."""
        copy = self._scratch / "reflog"
        copy.write_bytes((self.own.storage / ".cvmfsreflog").read_bytes())
        with Reflog.open(str(copy)) as log:
            return {reference.content for reference in log.references()}

    def closure(self, *roots):
        """The places of everything below root catalogs."""
        return stored.closure(self.own.storage, roots)

    def documents(self):
        """The places of what the reflog lists besides root catalogs."""
        return {content.path for content in self.references() if content.kind is not ObjectKind.CATALOG}

    def assert_sound(self):
        """Nothing is wrong with any revision that has a name, and each shows what it showed."""
        assert [finding for finding in self.own.check(all_tags=True) if not finding.is_warning] == []
        for name in [tag.name for tag in self.history().tags]:
            if self.shown.get(name):
                with self.own.open(tag=name) as repository:
                    assert self._look_through(repository) == self.shown[name], name

    def history(self):
        """The tags."""
        return PublishedRepository.open(self.own.site, self.own.fqrn).history()

    def area(self, name):
        """A file of the spool area's gc directory."""
        return Path(self.own.settings.spool) / "gc" / name


@pytest.fixture
def new_past(new_repository, look, look_through, tmp_path):
    """Makes a repository without a past; settings by name."""

    def make(**settings):
        chosen = {"auto_tag": False, "chunk_sizes": ChunkSizes(4096, 8192, 16384), **settings}
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return Past(new_repository(**chosen), look, look_through, scratch)

    return make


@pytest.fixture
def past(new_past):
    """Five revisions; the second has the tag `kept`. Nested catalogs, chunks, contents that come and go and come again."""
    made = new_past()
    made.write("nested/.cvmfscatalog", b"")
    made.write("nested/same", b"the same in all revisions")
    for number in range(5):
        made.write("changing", b"revision %d" % number)
        made.write("nested/changing", b"nested, revision %d" % number)
        made.write("large", bytes([number]) * 5000 + os.urandom(60_000))
        made.write(f"only{number}", b"only in revision %d" % number)
        if number:
            (made.own.tree / f"only{number - 1}").unlink()
        made.publish("kept" if number == 1 else "")
    return made
