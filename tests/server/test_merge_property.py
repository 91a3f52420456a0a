"""Two publishers at once: what both changed from one revision is merged as on plain trees, or refused, by every rule."""

import itertools
import os
import random
import shutil
import stat
import subprocess

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from random_trees import tried

from cvfs.errors import Conflict
from cvfs.hashes import ContentHash, ObjectKind

_MARKERS = (b".cvmfscatalog", b".cvmfsautocatalog")
_numbers = itertools.count()


@given(seed=st.integers(0, 2**32), before=st.integers(0, 40), here=st.integers(0, 12), there=st.integers(0, 12))
@tried(10)
@pytest.mark.timeout(3600)
def test_two_publishers_of_one_revision(  # noqa: PLR0917
    new_repository, random_edits, look, look_through, tmp_path, seed, before, here, there
):
    place, chance = f"own{next(_numbers)}", random.Random(seed)
    own = new_repository(place=place, compression="none")
    random_edits(os.fsencode(own.tree), chance).run(before)
    base = own.publish()
    mine, theirs = tmp_path / place / "mine", tmp_path / place / "theirs"
    for copy, count in ((mine, here), (theirs, there)):
        subprocess.run(["cp", "-a", str(own.tree), str(copy)], check=True)
        random_edits(os.fsencode(copy), chance).run(count)
    first = own.publish(theirs)
    trees = [look(os.fsencode(tree)) for tree in (own.tree, mine, theirs)]
    merged, conflicts = _merged(*trees)
    event("conflict" if conflicts else "merged")
    if conflicts:
        with pytest.raises(Conflict) as refused:
            own.publish(mine, base=_root(base))
        assert set(refused.value.paths) & conflicts
        merged, revision = trees[2], first.revision
    else:
        revision = own.publish(mine, base=_root(base)).revision
        assert revision == first.revision + 1
    with own.open() as newest:
        assert newest.tree.root().revision == revision
        seen = look_through(newest)
        assert seen == merged
        assert _mountpoints(newest, seen) == _marked(seen)
    assert own.check() == []
    shutil.rmtree(tmp_path / place)


def _root(report):
    return ContentHash.parse(report.root_hash, ObjectKind.CATALOG)


def _merged(base, mine, theirs):
    """The three plain trees merged path by path, and the paths at which that cannot be done."""
    merged, conflicts = {}, set()
    for path in base.keys() | mine.keys() | theirs.keys():
        try:
            seen = _decided(path, base.get(path), mine.get(path), theirs.get(path))
        except ValueError:
            conflicts.add(path)
            continue
        if seen:
            merged[path] = seen
    for path in merged:
        if path and not _is_directory(merged.get(os.path.dirname(path).rstrip(b"/"))):
            conflicts.add(path)
    return merged, conflicts


def _decided(path, base, mine, theirs):
    if _is_directory(mine) and _is_directory(theirs):
        return _attributes(base if _is_directory(base) else None, mine, theirs)
    if mine in (base, theirs):
        return theirs
    if theirs == base:
        return mine
    alone = mine and theirs and len(mine.together) == len(theirs.together) == 1
    if alone and os.path.basename(path) in _MARKERS:
        return mine if mine.mtime_ns > theirs.mtime_ns else theirs
    raise ValueError(path)


def _attributes(base, mine, theirs):
    times = mine.mtime_ns, theirs.mtime_ns
    merged = theirs._replace(mtime_ns=max(times))
    if base and base.mtime_ns in times:
        merged = theirs._replace(mtime_ns=times[1] if times[0] == base.mtime_ns else times[0])
    for column in ("mode", "uid", "gid", "xattrs"):
        versions = {getattr(mine, column), getattr(theirs, column)}
        if len(versions) == 2:
            if base is None or getattr(base, column) not in versions:
                raise ValueError(column)
            versions.remove(getattr(base, column))
        merged = merged._replace(**{column: versions.pop()})
    return merged


def _is_directory(seen):
    return seen is not None and stat.S_ISDIR(seen.mode)


def _marked(tree):
    return {os.path.dirname(path) for path in tree if os.path.basename(path) == b".cvmfscatalog"}


def _mountpoints(repository, tree):
    governing = {path: repository.tree.governing(path).path for path, seen in tree.items() if stat.S_ISDIR(seen.mode)}
    return {path for path, mountpoint in governing.items() if path and path == mountpoint}
