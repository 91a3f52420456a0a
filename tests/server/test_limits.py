"""Limits of files and catalogs: what is said, what is refused, and when."""

import os

import pytest

from cvfs.errors import Unpublishable
from cvfs_server.limits import Limits
from cvfs_server.settings import configuration_text, load_settings
from cvfs_server.storage.local import LocalStorage
from cvfs_server.ways.archive import ArchiveOptions, publish_archive


@pytest.mark.parametrize(
    ("limit", "size", "exceeded"),
    [(1, 2 * 2**20 - 1, False), (1, 2 * 2**20, True), (0, 2**40, False), (1024, 1024 * 2**20, False)],
)
def test_files(limit, size, exceeded):
    text = Limits(file_mbytes=limit).check_file(b"/a/\xff", size)
    assert bool(text) is exceeded
    if text:
        assert text.startswith(r"file at /a/\xff is larger than 1 megabytes (2). ")
        assert "CVMFS_FILE_MBYTE_LIMIT" in text


@pytest.mark.parametrize(
    ("mountpoint", "entries", "words"),
    [
        (b"", 1000, None),
        (b"", 1001, "catalog at / has more than 1000 entries (1001). .*CVMFS_ROOT_KCATALOG_LIMIT"),
        (b"/a", 2000, None),
        (b"/a", 2001, "catalog at /a has more than 2000 entries (2001). .*CVMFS_NESTED_KCATALOG_LIMIT"),
    ],
)
def test_catalogs(mountpoint, entries, words):
    limits = Limits(root_kentries=1, nested_kentries=2)
    text = limits.check_catalog(mountpoint, entries)
    assert (text is None) == (words is None)
    if words:
        start, parameter = words.split(" .*")
        assert text.startswith(start)
        assert parameter in text
        with pytest.raises(Unpublishable):
            Limits(1, 1, 2, enforce=True).check_catalog(mountpoint, entries)


def test_no_limit():
    assert Limits(0, 0, 0, enforce=True).check_catalog(b"", 10**9) is None


def test_parameters(new_repository):
    own = new_repository()
    path = own.site.configuration(own.fqrn)
    words = "\nCVMFS_FILE_MBYTE_LIMIT=8192\nCVMFS_ROOT_KCATALOG_LIMIT=800000\nCVMFS_NESTED_KCATALOG_LIMIT=7\n"
    with open(path, "a", encoding="utf-8") as file:
        file.write(words + "CVMFS_ENFORCE_LIMITS=true\nCVMFS_IGNORE_XDIR_HARDLINKS=false\n")
    settings = load_settings(own.site, own.fqrn)
    assert settings.limits == Limits(8192, 800_000, 7, enforce=True)
    assert not settings.ignore_xdir_hardlinks
    assert "CVMFS_IGNORE_XDIR_HARDLINKS=false" in configuration_text(settings)


def test_the_original_s_defaults(new_repository):
    own = new_repository()
    assert load_settings(own.site, own.fqrn).limits == Limits(1024, 200, 500, enforce=False)


def limited(own, **limits):
    """The limits in the repository's configuration."""
    names = {"file": "FILE_MBYTE_LIMIT", "root": "ROOT_KCATALOG_LIMIT", "nested": "NESTED_KCATALOG_LIMIT"}
    lines = [f"CVMFS_{names.get(key, 'ENFORCE_LIMITS')}={value}\n" for key, value in limits.items()]
    with open(own.site.configuration(own.fqrn), "a", encoding="utf-8") as file:
        file.writelines(lines)


def many(top, count):
    top.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (top / f"f{number}").symlink_to("x")


def test_a_large_file_is_told_once(new_repository):
    own, told = new_repository(compression="none", use_chunking=False), []
    limited(own, file=1)
    with open(own.tree / "large", "wb") as file:
        file.truncate(3 * 2**20)
    own.publish(warn=told.append)
    assert [text.split(". ")[0] for text in told] == ["file at /large is larger than 1 megabytes (3)"]
    os.utime(own.tree / "large", (5, 5))
    own.publish(warn=told.append)
    assert len(told) == 1


def test_a_large_file_is_refused_before_it_is_read(new_repository, tmp_path):
    own = new_repository(compression="none", use_chunking=False)
    limited(own, file=1, enforce="true")
    with open(own.tree / "large", "wb") as file:
        file.truncate(3 * 2**20)
    before = dict(LocalStorage(own.settings.storage).objects())
    with pytest.raises(
        Unpublishable, match=r"file at /large is larger than 1 megabytes \(3\)\..* Nothing was published"
    ):
        own.publish()
    assert dict(LocalStorage(own.settings.storage).objects()) == before
    assert own.manifest().revision == 1


def test_large_catalogs_are_told(new_repository):
    own, told = new_repository(), []
    limited(own, root=1, nested=1)
    many(own.tree, 1001)
    many(own.tree / "n", 1002)
    (own.tree / "n/.cvmfscatalog").touch()
    own.publish(warn=told.append)
    assert [text.split(". ")[0] for text in told] == [
        "catalog at / has more than 1000 entries (1003)",
        "catalog at /n has more than 1000 entries (1004)",
    ]
    own.publish(warn=told.append)
    # The root is written with every revision; the other one was not touched.
    assert len(told) == 3


def test_large_catalogs_are_refused(new_repository):
    own = new_repository()
    limited(own, nested=1, enforce="true")
    many(own.tree / "n", 1002)
    (own.tree / "n/.cvmfscatalog").touch()
    with pytest.raises(Unpublishable, match=r"catalog at /n has more than 1000 entries .*split it into nested"):
        own.publish()
    assert own.manifest().revision == 1


def test_catalogs_that_are_split_by_themselves_are_not_too_large(new_repository):
    own = new_repository(autocatalogs=True, autocatalogs_max_weight=900, autocatalogs_min_weight=10)
    limited(own, root=1, nested=1, enforce="true")
    for number in range(4):
        many(own.tree / f"d{number}", 400)
    own.publish()
    assert own.manifest().revision == 2
    assert own.check() == []


def test_hard_links_across_directories(new_repository, tmp_path, look_through):
    own = new_repository(ignore_xdir_hardlinks=False)
    (own.tree / "d").mkdir()
    (own.tree / "a").touch()
    os.link(own.tree / "a", own.tree / "b")
    own.publish()
    os.link(own.tree / "a", own.tree / "d/c")
    with pytest.raises(Unpublishable, match="hardlinks across directories; set CVMFS_IGNORE_XDIR_HARDLINKS=true"):
        own.publish()
    limited(own)
    with open(own.site.configuration(own.fqrn), "a", encoding="utf-8") as file:
        file.write("CVMFS_IGNORE_XDIR_HARDLINKS=true\n")
    own.publish()
    assert own.check() == []


def test_limits_hold_for_archives(new_repository, tmp_path):
    import tarfile

    own, told = new_repository(), []
    limited(own, file=1, enforce="true")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(3 * 2**20)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "large", "large")
    with pytest.raises(Unpublishable, match="file at /sw/large is larger"):
        publish_archive(own.site, own.fqrn, ArchiveOptions(str(tmp_path / "a.tar"), b"/sw"))
    assert told == []
