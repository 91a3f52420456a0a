"""A tree put below a path of the repository: the rest stays, with its catalogs, counters and hard links."""

import os
import stat

import pytest

from cvfs.errors import NotFound, Unpublishable


@pytest.fixture
def own(new_repository):
    made = new_repository()
    for place in ("a/b/c", "x/y"):
        (made.tree / place).mkdir(parents=True)
    for place in ("a/.cvmfscatalog", "a/b/f", "a/b/c/g", "x/h", "x/y/.cvmfscatalog", "x/y/i"):
        (made.tree / place).write_text(place)
    os.link(made.tree / "a/b/f", made.tree / "a/b/link")
    made.publish()
    return made


@pytest.fixture
def part(tmp_path):
    top = tmp_path / "part"
    (top / "new").mkdir(parents=True)
    (top / "new/file").write_text("of the part")
    return top


@pytest.mark.parametrize("to", [b"/a/b/new", b"/a/new", b"/new", b"/made/on/the/way", b"/x/y/z"])
def test_everything_else_stays(own, part, to):
    with own.open() as repository:
        before = _seen(repository)
    report = own.publish(part, to=to)
    assert (report.removed, report.bytes_in) == (0, len("of the part"))
    with own.open() as repository:
        after = _seen(repository)
        assert repository.read(to + b"/new/file") == b"of the part"
    assert {path: row for path, row in after.items() if not _is_about(path, to)} == {
        path: row for path, row in before.items() if not _is_about(path, to)
    }
    assert own.check() == []


@pytest.mark.parametrize("to", [b"/a", b"/a/b", b"/x/y", b"/x"])
def test_what_was_there_is_replaced(own, part, to):
    own.publish(part, to=to)
    with own.open() as repository:
        assert [entry.name for entry in repository.listing(to)] == [b"new"]
        assert own.check() == []
    with own.open() as repository:
        assert repository.exists(b"/x/h" if to != b"/x" else b"/a/b/f")


def test_a_part_may_begin_a_catalog(own, part):
    (part / ".cvmfscatalog").touch()
    own.publish(part, to=b"/a/b/c")
    with own.open() as repository:
        assert repository.tree.governing(b"/a/b/c").path == b"/a/b/c"
    assert own.check() == []
    (part / ".cvmfscatalog").unlink()
    own.publish(part, to=b"/a/b/c")
    with own.open() as repository:
        assert repository.tree.governing(b"/a/b/c").path == b"/a"
    assert own.check() == []


def test_nothing_is_put_below_a_file(own, part):
    with pytest.raises(Unpublishable, match="/x/h: is published, and is no directory"):
        own.publish(part, to=b"/x/h/z")
    with own.open() as repository, pytest.raises(NotFound):
        repository.lookup(b"/x/h/z")


def test_the_same_part_again_is_not_read(own, part):
    own.publish(part, to=b"/new")
    os.utime(part / "new/file", ns=(0, 10**18))
    again = own.publish(part, to=b"/new", trust_mtime=True)
    assert again.bytes_in == len("of the part")
    assert own.publish(part, to=b"/new", trust_mtime=True).bytes_in == 0


def _seen(repository):
    """Attributes of every entry; those of directories without what follows from their content."""
    found = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        for row in repository.tree.listing(path):
            place = path + b"/" + row.name
            if stat.S_ISDIR(row.mode):
                pending.append(place)
            found[place] = row._replace(hardlinks=0, flags=row.flags) if stat.S_ISDIR(row.mode) else row
    return found


def _is_about(path, to):
    return path == to or path.startswith(to + b"/") or to.startswith(path + b"/")
