"""Where paths lead through symbolic links, on a tree that is a table."""

import os
import stat
from pathlib import Path

import pytest

from cvfs.client.library.links import MAX_LINKS, Paths
from cvfs.errors import NotADirectory, NotFound, TooManyLinks
from cvfs.format.dirent import DirectoryEntry

HOME = b"/cvmfs/sw.example.org"
# A path to the target of a link, "/" for a directory, "" for a file.
TREE = {
    "": "/",
    "/dir": "/",
    "/dir/file": "",
    "/dir/up": "../file",
    "/dir/self": "self",
    "/dir/here": ".",
    "/dir/deep": "/",
    "/dir/deep/file": "",
    "/file": "",
    "/to_dir": "dir",
    "/to_deep": "to_dir/deep",
    "/to_file": "to_deep/file",
    "/through_parent": "to_deep/../file",
    "/dangling": "dir/none",
    "/below_file": "file/none",
    "/empty": "",
    "/home": "/cvmfs/sw.example.org/dir",
    "/out_and_in": "../sw.example.org/dir/file",
    "/other": "../other.example.org/file",
    "/absolute": "/etc/passwd",
    "/above": "..",
    "/top": "../..",
    "/beyond": "../../../../../cvmfs/sw.example.org/file",
    "/long": "x/" * 2048,
    "/round_a": "round_b",
    "/round_b": "round_a",
}
LINKS = [path for path, what in TREE.items() if what not in ("", "/")]


def lookup(path: bytes) -> DirectoryEntry:
    what = TREE.get(path.decode())
    if what is None:
        raise NotFound(f"{path.decode()}: no such file or directory in the repository")
    mode = {"/": stat.S_IFDIR, "": stat.S_IFREG}.get(what, stat.S_IFLNK) | 0o755
    return DirectoryEntry(path.rpartition(b"/")[2], mode, 0, 0, None, 0, 0, 1, None, 0, what.encode())


@pytest.fixture
def paths() -> Paths:
    return Paths(HOME, lookup, lambda entry: entry.symlink)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("", ""),
        ("/dir/file", "/dir/file"),
        ("/to_dir", "/dir"),
        ("/to_dir/file", "/dir/file"),
        ("/to_deep/file", "/dir/deep/file"),
        ("/to_file", "/dir/deep/file"),
        ("/dir/up", "/file"),
        ("/to_dir/up", "/file"),
        ("/through_parent", "/dir/file"),
        ("/dir/here/here/here/file", "/dir/file"),
        ("/dir/..", ""),
        ("/dir/../file", "/file"),
        ("/to_deep/../file", "/dir/file"),
        ("/home/file", "/dir/file"),
        ("/out_and_in", "/dir/file"),
        ("/beyond", "/file"),
        ("/dir/deep/../../to_dir/deep", "/dir/deep"),
        ("/above/sw.example.org/file", "/file"),
    ],
)
def test_links_are_followed_as_the_kernel_would(paths, path, leads_to):
    found, entry = paths.find(path.encode())
    assert (found.decode(), entry) == (leads_to, lookup(leads_to.encode()))
    assert paths.resolve(path.encode()).decode() == leads_to


@pytest.mark.parametrize("path", LINKS)
def test_a_link_itself(paths, path):
    assert paths.find(path.encode(), follow=False) == (path.encode(), lookup(path.encode()))


def test_only_the_last_link_is_not_followed(paths):
    assert paths.find(b"/to_dir/up", follow=False) == (b"/dir/up", lookup(b"/dir/up"))


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("/none", NotFound, "/none: no such file"),
        ("/dangling", NotFound, "/dir/none: no such file"),
        ("/file/x", NotADirectory, "/file: not a directory, on the way to /file/x"),
        ("/file/..", NotADirectory, "/file: not a directory"),
        ("/below_file", NotADirectory, "/file: not a directory, on the way to /below_file"),
        ("/dir/self", TooManyLinks, "/dir/self: too many levels of symbolic links"),
        ("/round_a/x", TooManyLinks, "/round_a/x: too many levels"),
        (
            "/other",
            NotFound,
            "/other: leads out of the repository, to /cvmfs/other.example.org/file; a mount can follow it",
        ),
        ("/absolute", NotFound, "/absolute: leads out of the repository, to /etc/passwd;"),
        ("/absolute/x/y", NotFound, "leads out of the repository, to /etc/passwd/x/y;"),
        ("/above", NotFound, "leads out of the repository, to /cvmfs;"),
        ("/top", NotFound, "leads out of the repository, to /;"),
        ("/../x", NotFound, "leads out of the repository, to /cvmfs/x;"),
        ("/long", NotFound, "/long: a symbolic link whose target is no path"),
    ],
)
def test_where_there_is_nothing(paths, path, error, says):
    with pytest.raises(error) as caught:
        paths.find(path.encode())
    assert says in str(caught.value)


def test_as_many_links_as_the_kernel_follows(paths, monkeypatch):
    for number in range(MAX_LINKS + 1):
        monkeypatch.setitem(TREE, f"/n{number}", f"n{number + 1}" if number < MAX_LINKS else "")
    assert paths.find(b"/n0")[0] == f"/n{MAX_LINKS}".encode()
    monkeypatch.setitem(TREE, f"/n{MAX_LINKS}", "file")
    with pytest.raises(TooManyLinks):
        paths.find(b"/n0")


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/none/x", "/none/x"),
        ("/to_dir/none/x", "/dir/none/x"),
        ("/dangling", "/dir/none"),
        ("/dangling/x", "/dir/none/x"),
        ("/none/x/../y", "/none/y"),
        ("/none/../to_dir/none", "/dir/none"),
        ("/none/../../sw.example.org/to_dir", "/dir"),
        ("/file/x", "/file/x"),
        ("/file/../to_dir", "/dir"),
    ],
)
def test_what_is_not_there_is_resolved_as_far_as_it_goes(paths, path, leads_to):
    assert paths.resolve(path.encode()).decode() == leads_to


def test_a_path_out_of_the_repository_is_not_resolved(paths):
    with pytest.raises(NotFound, match="leads out"):
        paths.resolve(b"/absolute")


def test_the_kernel_says_the_same(paths, tmp_path):
    """Every link of the table, made for real."""
    home = Path(f"{tmp_path}{HOME.decode()}")
    for path, what in TREE.items():
        place = Path(f"{home}{path}")
        if what == "/":
            place.mkdir(parents=True)
        elif not what:
            place.touch()
        elif len(what) < 4096:
            place.symlink_to(what.replace("/cvmfs", f"{tmp_path}/cvmfs"))
    compared = 0
    for path in LINKS:
        real = os.path.realpath(f"{home}{path}")
        if path in ("/long", "/beyond") or not os.path.exists(real):
            continue
        if not (real + "/").startswith(f"{home}/"):
            with pytest.raises(NotFound, match="leads out"):
                paths.find(path.encode())
        else:
            assert paths.find(path.encode())[0].decode() == real.removeprefix(str(home))
        compared += 1
    assert compared > 10
