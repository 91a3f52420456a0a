"""Paths of a repository, against what pathlib says of the same tree on disk."""

import os
import pickle
import stat
from pathlib import Path, PurePosixPath

import pytest

import cvfs
from cvfs import RepositoryPath
from cvfs.errors import IsADirectory, NotADirectory, NotALink, NotFound, TooManyLinks, UsageError

FQRN = "own.example.org"
FILES = {
    "README": "read me\n",
    "bin/tool": "#!/bin/sh\n",
    "bin/.hidden": "",
    "lib/v1/data.tar.gz": "1",
    "lib/v1/x.py": "x",
    "lib/v2/x.py": "xx",
    "lib/v2/deep/er/y.py": "y",
    "odd/[1].txt": "odd",
    "odd/a b.txt": "odd",
    "odd/ü.txt": "odd",
}
LINKS = {
    "lib/latest": "v2",
    "tool": "bin/tool",
    "nowhere": "none",
    "loop": "loop",
    "lib/v2/back": "..",
    "outside": "/etc/passwd",
    "home": f"/cvmfs/{FQRN}/lib",
}


@pytest.fixture(scope="module")
def tree(make_repository, tmp_path_factory):
    """A repository that was published from a tree, which is there still."""
    repository = make_repository(tmp_path_factory.mktemp("paths"), FQRN)
    for name, text in FILES.items():
        (repository.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.tree / name).write_text(text)
    for name, target in LINKS.items():
        (repository.tree / name).symlink_to(target)
    (repository.tree / "bin" / "tool").chmod(0o755)
    (repository.tree / "lib" / "v2" / ".cvmfscatalog").touch()
    Path(os.fsdecode(os.fsencode(repository.tree) + b"/odd/\xff")).write_bytes(b"\xff")
    repository.publish()
    return repository


@pytest.fixture(scope="module")
def reader(tree):
    with cvfs.open_repository(tree.url, public_key=tree.public_key) as opened:
        yield opened


def relative(paths, top) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in paths if path.name != ".cvmfscatalog")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/a", "/a/b.tar.gz", "/a/.b", "/a/b.", "/ü/\udcff"])
def test_names_are_those_of_pathlib(reader, path):
    ours, theirs = reader.path(path), PurePosixPath(path)
    for attribute in ("name", "stem", "suffix", "suffixes", "parts"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert str(ours) == ours.as_posix() == str(theirs)
    assert [str(parent) for parent in ours.parents] == [str(parent) for parent in theirs.parents]
    assert str(ours.parent) == str(theirs.parent)
    assert ours.is_absolute()


def test_making_paths_of_others(reader):
    path = reader.root / "lib" / "v1/x.py"
    assert (
        path
        == reader.path("lib", "v1", b"x.py")
        == reader.root.joinpath("lib", "v1/x.py")
        == reader.path("//lib//v1/x.py")
    )
    assert str(path.with_name("y.py")) == "/lib/v1/y.py"
    assert str(path.with_suffix(".txt")) == "/lib/v1/x.txt"
    assert str(path.with_stem("z")) == "/lib/v1/z.py"
    assert str(path / "/bin") == "/bin"
    assert path.relative_to("/lib") == path.relative_to(reader.root / "lib") == PurePosixPath("v1/x.py")
    assert path.is_relative_to(reader.root / "lib")
    assert not path.is_relative_to("/bin")
    assert path.match("v1/*.py")
    with pytest.raises(ValueError, match="not in the subpath"):
        path.relative_to("/bin")
    assert path.as_uri() == f"cvmfs://{FQRN}/lib/v1/x.py"


def test_paths_are_values(reader, tree):
    first, second = reader.root / "a", reader.root / "b"
    assert (first == reader.path("a"), first == second, first == "/a") == (True, False, False)
    assert first < second <= reader.path("b")
    assert {first, reader.path("/a"), second} == {first, second}
    assert pickle.loads(pickle.dumps(first)) == first
    assert repr(first) == f"RepositoryPath({tree.url!r}, '/a')"
    with pytest.raises(TypeError):
        _ = first < "/b"
    with cvfs.open_repository(tree.url, public_key=tree.public_key, tag="trunk") as other:
        assert other.root != reader.root


# --- what is there ----------------------------------------------------------------------------------------------------

EVERYTHING = [
    "",
    *FILES,
    *LINKS,
    "bin",
    "lib",
    "lib/latest/x.py",
    "lib/latest/deep",
    "none",
    "README/x",
    "tool/x",
    "home/v1",
]


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name not in ("outside", "home", "home/v1")])
def test_kinds_are_those_of_pathlib(reader, tree, name):
    ours, theirs = reader.root / name, tree.tree / name
    for ask in ("exists", "is_file", "is_dir", "is_symlink"):
        assert getattr(ours, ask)() == getattr(theirs, ask)(), ask
    assert ours.exists(follow_symlinks=False) == os.path.lexists(theirs)
    if theirs.exists():
        mine, real = ours.stat(), theirs.stat()
        assert (mine.st_mode, mine.st_mtime_ns) == (real.st_mode, real.st_mtime_ns)
        assert stat.S_ISDIR(mine.st_mode) or (mine.st_size, mine.st_nlink) == (real.st_size, real.st_nlink)
        assert str(ours.resolve()) == "/" + str(theirs.resolve().relative_to(tree.tree)).lstrip(".")


def test_links(reader):
    link = reader.root / "lib" / "latest"
    assert link.readlink() == PurePosixPath("v2")
    assert stat.S_ISLNK(link.lstat().st_mode)
    assert link.lstat().st_size == 2
    assert (link / "x.py").resolve() == reader.path("/lib/v2/x.py")
    assert link.samefile(reader.path("lib/v2"))
    assert not link.samefile("/lib/v1")
    assert reader.path("/home/v1/x.py").read_text() == "x"
    assert reader.path("/lib/v2/back/../bin/tool").resolve() == reader.path("/bin/tool")
    with pytest.raises(NotALink):
        reader.path("README").readlink()


def test_links_out_of_the_repository_lead_nowhere_and_say_so(reader):
    outside = reader.path("outside")
    assert (outside.exists(), outside.is_file(), outside.is_symlink()) == (False, False, True)
    assert outside.readlink() == PurePosixPath("/etc/passwd")
    for ask in (outside.stat, outside.read_bytes, outside.open, outside.resolve):
        with pytest.raises(FileNotFoundError, match="leads out of the repository, to /etc/passwd"):
            ask()


def test_resolving_what_is_not_there(reader):
    assert str(reader.path("lib/latest/none/x").resolve()) == "/lib/v2/none/x"
    with pytest.raises(NotFound):
        reader.path("lib/latest/none").resolve(strict=True)
    with pytest.raises(TooManyLinks):
        reader.path("loop").resolve()


def test_failures_are_those_of_a_file_system(reader):
    for name, error, code in (
        ("none", FileNotFoundError, 2),
        ("README/x", NotADirectoryError, 20),
        ("loop", OSError, 40),
    ):
        for ask in ("stat", "read_bytes", "read_text", "open"):
            with pytest.raises(error) as caught:
                getattr(reader.root / name, ask)()
            assert caught.value.errno == code
    with pytest.raises(IsADirectory):
        reader.path("lib").read_text()
    with pytest.raises(NotADirectory):
        list(reader.path("README").iterdir())


def test_contents(reader):
    assert reader.path("README").read_text() == "read me\n"
    assert reader.path("tool").read_bytes() == b"#!/bin/sh\n"
    with reader.path("README").open() as file:
        assert list(file) == ["read me\n"]
    with reader.path("README").open("rb") as file:
        assert file.read(4) == b"read"


# --- listings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "lib", "lib/latest", "bin", "odd"])
def test_listings(reader, tree, name):
    ours = list((reader.root / name).iterdir())
    assert relative(ours, reader.root) == relative((tree.tree / name).iterdir(), tree.tree)
    assert ours == sorted(ours)
    assert all(path.repository is reader for path in ours)


PATTERNS = [
    "*",
    "*/*",
    "**/*",
    "**/*.py",
    "lib/**/x.py",
    "lib/*/x.py",
    "lib/latest/*",
    "lib/latest/x.py",
    "b*/[!.]*",
    "odd/[[]1].txt",
    "odd/?.txt",
    "none/*",
    "README/*",
    "*.md",
    "lib/v[12]/**/*.py",
    "**/deep/**/*",
    "bin/.*",
    "./bin/tool",
    "lib/*/",
    "bin/*/",
    "none/",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(reader, tree, pattern):
    theirs = {path for path in tree.tree.glob(pattern) if path != tree.tree}
    # On disk nothing is mounted below /cvmfs.
    ours = [path for path in reader.root.glob(pattern) if path != reader.root and path.parts[1:-1] != ("home",)]
    assert relative(ours, reader.root) == relative(theirs, tree.tree)
    assert len(ours) == len(set(ours))


def test_a_pattern_that_ends_with_any_number_of_directories(reader):
    assert relative(reader.root.glob("lib/**"), reader.root) == [
        "lib",
        "lib/v1",
        "lib/v2",
        "lib/v2/deep",
        "lib/v2/deep/er",
    ]


@pytest.mark.parametrize("start", ["lib", "lib/latest", "bin", "none", "README"])
def test_patterns_below(reader, tree, start):
    ours, theirs = (reader.root / start).rglob("*.py"), (tree.tree / start).rglob("*.py")
    assert relative(ours, reader.root) == relative(theirs, tree.tree)


@pytest.mark.parametrize("pattern", ["", "/lib/*", "."])
def test_patterns_that_make_no_sense(reader, pattern):
    with pytest.raises(UsageError, match="a relative pattern is needed"):
        list(reader.root.glob(pattern))


def test_the_first_answer_comes_before_the_rest_is_looked_at(reader, monkeypatch):
    looked = []
    repository, listing = reader.repository, reader.repository.listing
    monkeypatch.setattr(repository, "listing", lambda path: looked.append(path) or listing(path))
    found = reader.root.rglob("*.md*")
    assert next(reader.root.rglob("tool")) == reader.path("tool")
    assert looked == [b""]
    assert list(found) == []
    assert looked.count(b"/lib/v2/deep/er") == 1


@pytest.mark.parametrize("top_down", [True, False])
def test_walking(reader, tree, top_down):
    theirs = {
        os.path.relpath(where, tree.tree): (set(inside), set(files) - {".cvmfscatalog"})
        for where, inside, files in os.walk(tree.tree)
    }
    ours = list(reader.root.walk(top_down))
    linked = {name.rpartition("/")[2] for name in LINKS}
    assert len(ours) == len(theirs)
    for path, inside, files in ours:
        real = theirs[str(path.relative_to("/"))]
        # Links to directories are names of directories to os.walk, and not descended into by either.
        assert set(inside) == real[0] - linked
        assert set(inside) | set(files) - {".cvmfscatalog"} == real[0] | real[1]
    order = [str(path) for path, _, _ in ours]
    assert order.index("/lib") < order.index("/lib/v2") if top_down else order.index("/lib") > order.index("/lib/v2")


def test_a_walk_leaves_out_what_is_taken_from_it(reader):
    seen = []
    for path, inside, _ in reader.root.walk():
        seen.append(str(path))
        inside[:] = [name for name in inside if name != "lib"]
    assert seen == ["/", "/bin", "/odd"]


def test_a_walk_is_told_of_what_cannot_be_read(reader):
    with pytest.raises(NotFound):
        list(reader.path("none").walk())


def test_names_that_are_no_text(reader):
    odd = next(path for path in reader.path("odd").iterdir() if "\udcff" in path.name)
    assert odd.read_bytes() == b"\xff"
    assert os.fsencode(odd.name) == b"\xff"
    assert RepositoryPath(reader, str(odd)) == reader.path(b"/odd/\xff") == pickle.loads(pickle.dumps(odd))
