"""Trees with every odd thing: published exactly, or refused by name before anything is switched."""

import os
import random
import socket
import stat
import subprocess
import threading

import pytest
from rights import NOBODY, not_root

from cvfs.errors import Unpublishable
from cvfs.format.dirent import Chunk
from cvfs_server.ways.archive import ArchiveOptions, publish_archive

pytestmark = pytest.mark.system


def refused(own, words, **options):
    before = own.manifest()
    with pytest.raises(Unpublishable, match=words) as caught:
        own.publish(**options)
    assert "\n" not in str(caught.value)
    assert own.manifest() == before


NAMES = [
    b"new\nline",
    b"\xff\xfe invalid \x80",
    b"x" * 255,
    b"\xc3\xbc" * 127,
    b" ",
    b"-rf",
    b"\x01\x1b[31m",
    b"*?[a]",
    b"'\"`$(x)\\",
    b".cvmfs",
    b"...",
]


def test_every_odd_thing_at_once(new_repository, look, look_through, monkeypatch):
    own = new_repository()
    top = os.fsencode(own.tree)
    odd = top + b"/odd"
    os.mkdir(odd)
    for name in NAMES:
        with open(odd + b"/" + name, "wb") as file:
            file.write(name)
        os.mkdir(odd + b"/d" + name[:250])
        os.symlink(name, odd + b"/l" + name[:250])
    os.mkfifo(odd + b"/fifo", 0o640)
    os.mknod(odd + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(odd + b"/disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    monkeypatch.chdir(own.tree / "odd")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        os.symlink(b"x" * 4095, odd + b"/long link")
        os.symlink(b"\xff\x01", odd + b"/odd link")
        for mode in (0, 0o7777, 0o4000):
            with open(odd + b"/mode%o" % mode, "wb"):
                os.chmod(odd + b"/mode%o" % mode, mode)
        for second in (0, -1, -(2**31), 2**33):
            os.utime(odd + b"/mode0", ns=(0, second * 10**9 + 1))
        os.chown(odd + b"/mode7777", 2**32 - 2, 2**31, follow_symlinks=False)
        own.publish()
        with own.open() as opened:
            assert look_through(opened) == look(top)
    assert own.check() == []


def test_sixty_levels_and_more(new_repository, look, look_through):
    own = new_repository()
    place = own.tree
    for level in range(200):
        place = place / f"level{level}"
    place.mkdir(parents=True)
    (place / "file").write_bytes(b"deep")
    for level in (20, 59, 60, 61):
        parts = [f"level{number}" for number in range(level)]
        own.tree.joinpath(*parts, ".cvmfscatalog").touch()
    own.publish()
    with own.open() as opened:
        assert look_through(opened) == look(os.fsencode(own.tree))
    assert own.check() == []


def test_a_path_longer_than_the_kernel_takes_is_refused_by_name(new_repository):
    own = new_repository()
    held = os.open(own.tree, os.O_RDONLY)
    try:
        for _ in range(30):
            os.mkdir("x" * 200, dir_fd=held)
            deeper = os.open("x" * 200, os.O_RDONLY, dir_fd=held)
            os.close(held)
            held = deeper
    finally:
        os.close(held)
    refused(own, "x{200}: File name too long")


def test_unreadable_files_of_a_publisher_who_is_not_root(new_repository):
    own = new_repository()
    for place in (own.tree, own.tree / "d"):
        place.mkdir(exist_ok=True)
        (place / "fine").write_bytes(b"fine")
    (own.tree / "d/secret").write_bytes(b"secret")
    os.chmod(own.tree / "d/secret", 0o600)
    for directory, _, files in os.walk(own.tree.parent):
        for name in (directory, *(os.path.join(directory, file) for file in files)):
            if not name.endswith("secret"):
                os.chown(name, NOBODY, NOBODY)
    for place in own.tree.parents:
        if place.stat().st_uid == 0 and str(place).startswith("/tmp/"):
            os.chmod(place, place.stat().st_mode | 0o055)
    with not_root():
        refused(own, "d/secret: Permission denied; nothing was published", workers=1)
    os.chmod(own.tree / "d/secret", 0o644)
    os.chmod(own.tree / "d", 0)
    os.chown(own.tree / "d", 0, 0)
    with not_root():
        refused(own, "/d: Permission denied", workers=1)


def test_files_that_change_while_they_are_read(new_repository):
    """They come out as they were at one moment, or the publish is refused; never as a mixture."""
    own = new_repository(compression="none", use_chunking=False)
    changing = own.tree / "changing"
    changing.write_bytes(b"a" * 300_000)
    stop = threading.Event()

    def write():
        letters = random.Random(1)
        while not stop.is_set():
            with open(changing, "r+b") as file:
                file.write(bytes([letters.randrange(97, 123)]) * 300_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            try:
                own.publish()
            except Unpublishable as error:
                assert "changing: changed while it was read" in str(error)  # noqa: PT017
                continue
            with own.open() as opened:
                assert len(opened.read(b"/changing")) == 300_000
    finally:
        stop.set()
        writer.join()
    own.publish()
    with own.open() as opened:
        assert opened.read(b"/changing") == changing.read_bytes()
    assert own.check() == []


def test_files_that_vanish(new_repository, monkeypatch):
    own = new_repository()
    (own.tree / "gone").write_bytes(b"x")
    plain = os.open

    def vanish(path, *arguments, **options):
        if isinstance(path, bytes) and path.endswith(b"/gone"):
            os.unlink(path)
        return plain(path, *arguments, **options)

    monkeypatch.setattr(os, "open", vanish)
    refused(own, "gone: No such file or directory")


def test_ten_gigabytes_of_almost_nothing(new_repository):
    own = new_repository(compression="zlib")
    with open(own.tree / "sparse", "wb") as file:
        file.truncate(10 * 2**30)
        file.seek(5 * 2**30 + 12_345)
        file.write(b"something in the middle")
        file.seek(10 * 2**30 - 3)
        file.write(b"end")
    told = []
    report = own.publish(warn=told.append)
    assert ["larger than 1024 megabytes (10240)" in text for text in told] == [True]
    # A chunk of zeros, what is around the two islands.
    assert report.objects < 12
    assert report.bytes_stored < 2**20
    with own.open() as opened:
        entry = opened.lookup(b"/sparse")
        assert entry.size == 10 * 2**30
        chunks = opened.tree.chunks(b"/sparse")
        assert chunks[0] == Chunk(0, 16 * 2**20, chunks[1].digest)
        assert sum(chunk.size for chunk in chunks) == entry.size
        with opened.open_file(b"/sparse") as file:
            file.seek(5 * 2**30 + 12_340)
            assert file.read(40) == bytes(5) + b"something in the middle" + bytes(12)
            file.seek(10 * 2**30 - 6)
            assert file.read() == bytes(3) + b"end"
    assert [finding for finding in own.check(integrity=False) if not finding.is_warning] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_directory_with_more_entries_than_a_catalog_should_have(new_repository):
    """`CVFS_WIDE=200` makes the default limit, in thousands."""
    thousands, told = int(os.environ.get("CVFS_WIDE", "50")), []
    own = new_repository(compression="zlib-fast")
    with open(own.site.configuration(own.fqrn), "a") as configuration:
        configuration.write(f"CVMFS_ROOT_KCATALOG_LIMIT={thousands}\n")
    wide, count = own.tree / "wide", 1000 * thousands
    wide.mkdir()
    for number in range(count):
        os.symlink("target", wide / f"name{number:06}")
    own.publish(warn=told.append)
    assert [text.split(". ")[0] for text in told] == [f"catalog at / has more than {count} entries ({count + 2})"]
    with own.open() as opened:
        assert len(opened.listing(b"/wide")) == count
    os.unlink(wide / "name010000")
    report = own.publish()
    assert (report.added, report.removed) == (0, 1)
    assert own.check(integrity=False) == []


@pytest.mark.parametrize("place", ["storage", "spool", "keys"])
def test_a_tree_that_contains_its_own_repository(new_repository, place):
    own = new_repository()
    inside = {
        "storage": own.storage,
        "spool": own.tree.parent / "site/var/spool/cvmfs" / own.fqrn,
        "keys": own.tree.parent / "site/etc/cvmfs/keys",
    }[place]
    before = own.manifest()
    for top in (inside.parent, inside, own.tree.parent):
        with pytest.raises(Unpublishable, match=r"contains .*, the .* of own\.example\.org itself; publish another"):
            own.publish(top)
    link = own.tree / "link"
    link.symlink_to(inside.parent)
    with pytest.raises(Unpublishable, match="itself; publish another directory"):
        own.publish(link)
    assert own.manifest() == before
    link.unlink()
    own.publish()


def test_odd_things_in_an_archive(new_repository, tmp_path, look, look_through):
    own = new_repository()
    top = os.fsencode(own.tree) + b"/odd"
    os.mkdir(top)
    for name in NAMES:
        with open(top + b"/" + name, "wb") as file:
            file.write(name)
    os.mkfifo(top + b"/fifo")
    os.mknod(top + b"/disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    with open(top + b"/sparse", "wb") as file:
        file.truncate(2**31)
        file.seek(2**30)
        file.write(b"x")
    archive = tmp_path / "odd.tar"
    subprocess.run(["tar", "-C", own.tree, "--sparse", "--format=pax", "-cf", archive, "."], check=True, timeout=600)
    chosen = ArchiveOptions(str(archive), b"", (b"/new_repository",))
    publish_archive(own.site, own.fqrn, chosen)
    (own.tree / "odd/sparse").unlink()
    expected = look(os.fsencode(own.tree))
    with own.open() as opened:
        with opened.open_file(b"/odd/sparse") as file:
            assert file.seek(0, os.SEEK_END) == 2**31
            file.seek(2**30 - 1)
            assert file.read(3) == b"\0x\0"
        found = look_through(_Without(opened, b"/odd/sparse"))
    for path in (b"", b"/odd", b"/new_repository"):
        expected.pop(path, None)
        found.pop(path, None)
    assert found == expected


class _Without:
    """A repository that does not show one file: what it holds is too much for memory."""

    def __init__(self, repository, path):
        self._repository = repository
        self._path = path

    def __getattr__(self, name):
        return getattr(self._repository, name)

    def listing(self, path):
        return [entry for entry in self._repository.listing(path) if path + b"/" + entry.name != self._path]
