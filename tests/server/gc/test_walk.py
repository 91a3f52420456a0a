"""Trees of catalogs that the original published, against plain SQL: every object is found, and nothing else."""

import pytest
import stored

from cvfs.errors import CorruptObject
from cvfs.format.manifest import parse
from cvfs.format.signature import split_signed
from cvfs.hashes import DIGEST_SIZE
from cvfs.history import History
from cvfs.store.base import Wanted
from cvfs.store.local import LocalStore
from cvfs.store.verified import Verified
from cvfs_server.gc.catalog import CatalogReading
from cvfs_server.gc.condemned import RECORD_SIZE, content_of
from cvfs_server.gc.inventory import Inventory
from cvfs_server.gc.walk import CatalogWalk

FIXTURES = ["tiny.example.org", "tiny-shake128.example.org"]


class Original:
    """A repository of the original's, and inventories of it."""

    def __init__(self, storage, scratch):
        self.storage = storage
        self.store = LocalStore(str(storage))
        self._scratch = scratch
        self._open = []
        manifest = parse(split_signed((storage / ".cvmfspublished").read_bytes()).payload)
        tags = History.parse(b"".join(Verified(self.store).read(Wanted(manifest.history)))).tags
        self.roots = list(dict.fromkeys((manifest.root_catalog, *(tag.root_catalog for tag in tags))))

    def walk(self, *, complete, workers=1, lenient=None, beside=None):
        inventory = Inventory(f"{self._scratch}/{len(self._open)}", RECORD_SIZE if complete else DIGEST_SIZE)
        inventory.start()
        walk = CatalogWalk(
            CatalogReading(self.store, str(self._scratch), inventory, complete), workers, lenient, beside
        )
        self._open.append(walk)
        return walk, inventory

    def close(self):
        for walk in self._open:
            walk.close()


@pytest.fixture(params=FIXTURES)
def original(request, fixture_repository, tmp_path):
    made = Original(fixture_repository(request.param).storage, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_object_of_every_tag(original, workers):
    needed = stored.closure(original.storage, original.roots)
    assert len(needed) > 100
    records, complete = original.walk(complete=True, workers=workers)
    records.plan(original.roots)
    records.finish()
    assert {content_of(record).path for record in complete.records()} == needed
    digests, marks = original.walk(complete=False, workers=workers)
    digests.plan(original.roots)
    digests.finish()
    # External contents are marked too, which does no harm.
    assert {record[:DIGEST_SIZE] for record in complete.records()} <= set(marks.records())
    assert records.catalogs == digests.catalogs > len(original.roots)


def test_what_another_walk_knows_is_left_out(original):
    first, _ = original.walk(complete=False)
    first.plan(original.roots)
    first.finish()
    second, complete = original.walk(complete=True, beside=first)
    second.plan(original.roots)
    second.finish()
    assert (second.catalogs, list(complete.records())) == (0, [])
    assert all(second.knows(root) for root in original.roots)


def test_a_root_is_read_once_and_names_its_predecessor(original):
    walk, _ = original.walk(complete=False)
    facts = walk.read_root(original.roots[0])
    assert facts.previous is not None
    assert walk.read_root(original.roots[0]) == walk.read_root(original.roots[0])
    walk.finish()
    once = walk.catalogs
    walk.plan(original.roots[:1])
    walk.finish()
    assert walk.catalogs == once


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_catalog(original, publication, workers):
    """Told, or the end, as is wanted; in other processes too."""
    copy = publication(original.storage.name)
    original.store = LocalStore(str(copy.storage))
    gone = [place for place in stored.closure(original.storage, original.roots[:1]) if place.endswith("C")]
    gone.remove(original.roots[0].path)
    copy.write(gone[0], b"damaged")
    told = []
    walk, _ = original.walk(complete=False, workers=workers, lenient=told.append)
    walk.plan(original.roots)
    walk.finish()
    assert len(told) == 1
    assert gone[0][8:-1] in told[0]
    strict, _ = original.walk(complete=False, workers=workers)
    strict.plan(original.roots)
    with pytest.raises(CorruptObject, match="nothing was deleted, look at it with check"):
        strict.finish()
