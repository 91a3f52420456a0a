"""Random edits told as partial ones, as an overlay or an archive tells them: what is published is the tree they lead to."""

import itertools
import os
import random
import shutil
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_trees import tried

from cvfs.chunking import ChunkSizes
from cvfs_server.draft import Contribution
from cvfs_server.publication import PublishOptions
from cvfs_server.publish import publish
from cvfs_server.sources.base import DirectoryEdit
from cvfs_server.sources.scan import ScanRules, TreeSource

_CHUNKS = ChunkSizes(4096, 8192, 16384)
_numbers = itertools.count()


class Partial(TreeSource):
    """Says of a tree only what differs from an earlier look at it."""

    def __init__(self, top, before, after):
        super().__init__(top, ScanRules())
        self._before, self._after = before, after
        self._touched = {b""}
        for path in set(before) | set(after):
            if self._differs(path):
                self._touched |= {path[: path.rfind(b"/", 0, end)] for end in _ends(path)} | {path}

    def edit(self, path):
        entries = [entry for entry in super().edit(path).entries if path + b"/" + entry.name in self._touched]
        here = path.count(b"/") + 1
        gone = [old for old in self._before if old.startswith(path + b"/") and old.count(b"/") == here]
        removed = tuple(old.rpartition(b"/")[2] for old in gone if old not in self._after)
        is_new = not stat.S_ISDIR(self._before[path].mode) if path in self._before else True
        return DirectoryEdit(entries, removed, complete=is_new)

    def _differs(self, path):
        old, new = self._before.get(path), self._after.get(path)
        if old is None or new is None:
            return True
        # A name that is gone from a group leaves the others untouched, and nobody mentions them.
        return old._replace(together=()) != new._replace(together=()) or not set(new.together) <= set(old.together)


def _ends(path):
    return [index + 1 for index, byte in enumerate(path) if byte == ord("/")]


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6))
@tried(8)
@pytest.mark.timeout(3600)
def test_partial_edits_lead_to_the_same_tree(  # noqa: PLR0917
    new_repository, random_edits, look, look_through, tmp_path, seed, sizes
):
    place = f"own{next(_numbers)}"
    own = new_repository(place=place, compression="zlib-fast", chunk_sizes=_CHUNKS)
    top = os.fsencode(own.tree)
    edits = random_edits(top, random.Random(seed))
    before = look(top)
    own.publish()
    for size in sizes:
        edits.run(size)
        after = look(top)
        source = Partial(top, before, after)
        publish(own.site, own.fqrn, lambda _base, source=source: Contribution(source), PublishOptions(workers=2))
        with own.open() as newest:
            assert look_through(newest) == after
        assert own.check() == []
        before = after
    shutil.rmtree(tmp_path / place)
