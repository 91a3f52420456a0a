"""Random trees, changed at random from revision to revision: every revision reads back as the tree that was published."""

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
from cvfs_server import changes

_CHUNKS = ChunkSizes(4096, 8192, 16384)
_DIRTAB = b"/a/*\n! /a/b\n"
_numbers = itertools.count()


@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 40), min_size=2, max_size=5),
    dirtab=st.booleans(),
    compression=st.sampled_from(["zlib-fast", "none", "zstd"]),
)
@tried(8)
@pytest.mark.timeout(3600)
def test_every_revision_reads_back(  # noqa: PLR0917
    new_repository, random_edits, look, look_through, tmp_path, monkeypatch, seed, sizes, dirtab, compression
):
    # Edits begin after a publish ended: its scan began much more than a tick of the kernel's clock before.
    monkeypatch.setattr(changes, "_CTIME_GRAIN_NS", 0)
    place = f"own{next(_numbers)}"
    own = new_repository(place=place, compression=compression, chunk_sizes=_CHUNKS)
    top = os.fsencode(own.tree)
    if dirtab:
        (own.tree / ".cvmfsdirtab").write_bytes(_DIRTAB)
        (own.tree / "a").mkdir()
    published, edits = {}, random_edits(top, random.Random(seed))
    for number, size in enumerate(sizes):
        edits.run(size)
        own.publish(tag=f"r{number}")
        published[f"r{number}"] = _expected(look(top), dirtab=dirtab)
        with own.open() as newest:
            seen = look_through(newest)
            assert seen == published[f"r{number}"]
            assert _mountpoints(newest, seen) == _marked(seen)
            assert newest.tree.root().revision == number + 2
        assert own.check() == []
    for tag, tree in published.items():
        with own.open(tag) as revision:
            assert look_through(revision) == tree
    shutil.rmtree(tmp_path / place)


def _expected(tree, *, dirtab):
    """The tree with the markers that the dirtab asks for."""
    expected = dict(tree)
    for path, seen in tree.items():
        asked_for = path.count(b"/") == 2 and path.startswith(b"/a/") and path != b"/a/b"
        if dirtab and asked_for and stat.S_ISDIR(seen.mode) and path + b"/.cvmfscatalog" not in tree:
            marker = path + b"/.cvmfscatalog"
            expected[marker] = seen._replace(mode=stat.S_IFREG | 0o644, xattrs=(), together=(marker,))
    return expected


def _marked(tree):
    return {os.path.dirname(path) for path in tree if os.path.basename(path) == b".cvmfscatalog"}


def _mountpoints(repository, tree):
    governing = {path: repository.tree.governing(path).path for path, seen in tree.items() if stat.S_ISDIR(seen.mode)}
    return {path for path, mountpoint in governing.items() if path and path == mountpoint}
