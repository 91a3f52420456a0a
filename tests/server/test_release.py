"""The last step: what is on the disk before the pointer is switched, in which order, and what stops it."""

import os
import shutil

import pytest

from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.reflog import Reflog, digest
from cvfs_server.repository import PublishedRepository
from cvfs_server.storage.local import LocalStorage
from cvfs_server.ways.tree import publish_tree as publish


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "file").write_text("one")
    made.publish()
    (made.tree / "file").write_text("two")
    return made


def _logged(own):
    with Reflog.open(str(own.storage / ".cvmfsreflog")) as log:
        return [(reference.content, reference.timestamp) for reference in log.references()]


def test_the_pointer_is_switched_last(own, monkeypatch):
    acts = []
    for name in ("put", "replace", "sync"):
        plain = getattr(LocalStorage, name)

        def watched(storage, *arguments, plain=plain, name=name):
            acts.append(f"{name} {str(arguments[0]).rpartition('/')[2][:5] if arguments else ''}")
            return plain(storage, *arguments)

        monkeypatch.setattr(LocalStorage, name, watched)
    own.publish()
    assert acts[-3:] == ["replace .cvmf", "sync ", "replace .cvmf"]
    assert sum(act.startswith("replace") for act in acts) == 2
    # Everything that was drafted before the lock, and what release adds under it.
    assert acts.count("sync ") == 2


def test_everything_is_there_before_the_pointer_is_switched(own, monkeypatch):
    """The signed manifest is caught on its way: all that it names is in the store already."""
    plain = LocalStorage.replace

    def caught(storage, path, data):
        if path == ".cvmfspublished":
            shutil.copytree(own.storage, own.storage.with_name("caught"))
            with open(own.storage.with_name("caught") / path, "wb") as file:
                file.write(data)
        plain(storage, path, data)

    monkeypatch.setattr(LocalStorage, "replace", caught)
    own.publish()
    own.storage.rename(own.storage.with_name("new"))
    own.storage.with_name("caught").rename(own.storage)
    assert own.check() == []
    with own.open() as repository:
        assert repository.read("/file") == b"two"


def test_the_reflog_grows_and_its_digest_follows(own):
    before = _logged(own)
    own.publish()
    after = _logged(own)
    manifest = own.manifest()
    assert after[: len(before)] == before
    assert {content for content, _ in after[len(before) :]} == {manifest.root_catalog, manifest.history}
    found = digest(str(own.storage / ".cvmfsreflog"), manifest.root_catalog.algorithm)
    assert manifest.reflog == found
    with open(f"{own.settings.spool}/reflog.chksum") as file:
        assert file.read() == str(found)


def test_a_missing_reflog_is_begun_again(own):
    (own.storage / ".cvmfsreflog").unlink()
    before = own.manifest()
    own.publish()
    assert {content for content, _ in _logged(own)} >= {
        before.root_catalog,
        before.history,
        own.manifest().root_catalog,
    }
    assert own.check() == []


def _empty(path):
    path.unlink()
    Reflog.create(str(path), "own.example.org").close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(5000)),
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        _empty,
    ],
    ids=["empty file", "garbage", "cut", "rows lost"],
)
def test_a_damaged_reflog_stops_it(own, damage):
    damage(own.storage / ".cvmfsreflog")
    before = own.manifest()
    with pytest.raises(FormatError, match=rf"^{own.storage}/\.cvmfsreflog: .*check -r puts it right$"):
        own.publish()
    assert own.manifest() == before
    with own.open() as repository:
        assert repository.read("/file") == b"one"


@pytest.mark.parametrize("kind", ["key", "crt"])
def test_a_missing_key_stops_it(own, kind):
    os.unlink(own.site.key(own.fqrn, kind))
    before = own.manifest()
    with pytest.raises(NotFound, match=kind):
        own.publish()
    assert own.manifest() == before


def test_a_broken_key_stops_it(own):
    with open(own.site.key(own.fqrn, "key"), "wb") as file:
        file.write(b"broken")
    before = own.manifest()
    with pytest.raises(UsageError, match="not a private key"):
        own.publish()
    assert own.manifest() == before


def test_tags_after_each_publish(own):
    """trunk, its predecessor, the user's; an automatic one where the user gives none."""
    own.publish(tag="named", message="why")
    publish(own.site, own.fqrn, os.fsencode(own.tree))
    history = PublishedRepository.open(own.site, own.fqrn).history()
    found = {tag.name: (tag.revision, tag.description) for tag in history.tags if not tag.is_automatic}
    assert found == {"trunk": (4, "current HEAD"), "trunk-previous": (3, "default undo target"), "named": (3, "why")}
    assert sorted(tag.revision for tag in history.tags if tag.is_automatic) == [1, 2, 4]
    trunk = history.find("trunk")
    manifest = own.manifest()
    assert (trunk.root_catalog, trunk.size, trunk.timestamp) == (
        manifest.root_catalog,
        manifest.root_size,
        manifest.timestamp,
    )
    assert history.predecessor is not None
