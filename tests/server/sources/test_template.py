"""A published sub-tree at another path: exact, nested where it was nested, and nothing is read."""

import os

import pytest

from cvfs.chunking import ChunkSizes
from cvfs.errors import NotADirectory, NotFound, UsageError
from cvfs_server.draft import Contribution
from cvfs_server.publish import publish
from cvfs_server.sources.template import Template


@pytest.fixture
def own(new_repository):
    """A repository with one of everything below /from, and a nested catalog in it."""
    own = new_repository(chunk_sizes=ChunkSizes(4096, 8192, 16384))
    top = own.tree / "from"
    (top / "nested/deeper").mkdir(parents=True)
    (top / "nested/.cvmfscatalog").touch()
    (top / "nested/deeper/file").write_bytes(b"text")
    (top / "large").write_bytes(os.urandom(60000))
    os.link(top / "large", top / "larger")
    os.setxattr(top / "large", "user.test", b"value")
    (top / "link").symlink_to("nested/deeper")
    os.mkfifo(top / "fifo")
    os.chown(top / "nested", 1, 2)
    os.utime(top, ns=(5, 10**18 + 7))
    (own.tree / "else").mkdir()
    (own.tree / "file").touch()
    own.publish()
    return own


def copy(own, origin, target):
    """Publish a copy."""
    return publish(own.site, own.fqrn, lambda base: Contribution(Template.open(base.tree, origin, target)))


@pytest.mark.parametrize("target", [b"/to", b"/else/to", b"/from.old/", b"/\xff\n"])
def test_copies_are_exact(own, look_through, target):
    report = copy(own, b"/from", target)
    assert (report.bytes_in, report.objects) == (0, 0)
    target = target.rstrip(b"/")
    with own.open() as newest:
        seen = look_through(newest)
        origin = {path[5:]: entry for path, entry in seen.items() if (path + b"/").startswith(b"/from/")}
        copied = {path[len(target) :]: entry for path, entry in seen.items() if (path + b"/").startswith(target + b"/")}
        # The top has another name, and so it says that it has another name beside it.
        assert copied.pop(b"")._replace(together=()) == origin.pop(b"")._replace(together=())
        for path, entry in copied.items():
            names = tuple(name.replace(target, b"/from", 1) for name in entry.together)
            assert entry._replace(together=names) == origin.pop(path)
        assert origin == {}
        assert newest.tree.governing(target + b"/nested/deeper").path == target + b"/nested"
        assert newest.tree.find(target).linkcount == newest.tree.find(b"/from").linkcount
    assert own.check() == []


def test_nothing_else_changes(own, look_through):
    with own.open() as before:
        expected = look_through(before)
    copy(own, b"/from/nested/", b"/else/copy")
    with own.open() as newest:
        seen = look_through(newest)
        assert {path: entry for path, entry in seen.items() if not path.startswith(b"/else/copy")} == expected
        assert newest.tree.governing(b"/else/copy").path == b"/else/copy"
    assert own.check() == []


@pytest.mark.parametrize(
    ("origin", "target", "error"),
    [
        (b"/none", b"/to", NotFound),
        (b"/file", b"/to", NotADirectory),
        (b"/from", b"/from", UsageError),
        (b"/from", b"/from/to", UsageError),
        (b"/from", b"/else", UsageError),
        (b"/from", b"/file", UsageError),
        (b"/from", b"/file/to", NotADirectory),
        (b"/from", b"/none/to", NotFound),
        (b"/", b"/to", UsageError),
        (b"/from", b"/", UsageError),
        (b"from", b"/to", UsageError),
        (b"/from", b"to", UsageError),
        (b"/from/../from", b"/to", UsageError),
        (b"/from", b"//to", UsageError),
        (b"/from", b"", UsageError),
    ],
)
def test_what_cannot_be_copied(own, origin, target, error):
    revision = own.manifest().revision
    with pytest.raises(error):
        copy(own, origin, target)
    assert own.manifest().revision == revision
