"""Trees are made once, the same each time, and what cannot be had is said; accounts know what is in them."""

import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from benchmarks.model import Unavailable
from benchmarks.trees import account, c_project, commands, large, recorded, software
from benchmarks.trees.base import Tree, made
from benchmarks.trees.named import TREES


def contents(top):
    """Of all entries: path, mode, bytes."""
    return {
        str(path.relative_to(top)): (stat.filemode(path.stat().st_mode), path.is_file() and path.read_bytes())
        for path in top.rglob("*")
    }


@pytest.mark.parametrize(
    "make", [large.of_megabytes(2), c_project.make, commands.make], ids=["large", "c-project", "commands"]
)
def test_a_tree_is_the_same_each_time(make, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for tree in (first, second):
        tree.mkdir()
        make(tree)
    assert contents(first)
    assert contents(first) == contents(second)


def test_half_of_a_large_file_can_be_compressed(tmp_path):
    large.of_megabytes(1)(tmp_path)
    data = (tmp_path / "data" / "large").read_bytes()
    assert len(data) == 1 << 20
    assert 0.6 < len(zlib.compress(data, 1)) / len(data) < 0.9


def test_every_header_is_included_somewhere_and_exists(tmp_path):
    c_project.make(tmp_path)
    headers = {path.name for path in tmp_path.glob("include/*/*.h")}
    assert len(headers) == c_project.HEADERS
    sources = [path.read_text() for path in tmp_path.glob("src/*.c")]
    assert len(sources) == c_project.SOURCES + 1
    assert all(any(header in source for header in headers) for source in sources if "int main" not in source)


def test_a_tree_is_made_once(tmp_path):
    calls = []

    def make(path):
        calls.append(path)
        (path / "file").write_text("1")

    tree = Tree("tree", "", make)
    assert made(tree, tmp_path) == made(tree, tmp_path) == tmp_path / "tree"
    assert calls == [tmp_path / "tree"]
    made(Tree("tree", "", make, version=2), tmp_path)
    assert len(calls) == 2


def test_what_was_interrupted_is_made_anew(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "half").touch()
    made(Tree("tree", "", lambda path: (path / "whole").touch()), tmp_path)
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["whole"]


def test_what_cannot_be_made_is_unavailable_and_not_kept(tmp_path):
    def fail(_):
        raise OSError(28, "No space left on device")

    tree = Tree("tree", "", fail)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"tree: .*No space left"):
            made(tree, tmp_path)


def test_an_account_says_what_is_there(tmp_path):
    def make(tree):
        (tree / "directory").mkdir()
        (tree / "directory" / "file").write_bytes(b"12345")
        (tree / "one").write_bytes(b"1")
        (tree / "link").symlink_to("nowhere")
        with open(os.fsencode(tree) + b"/\xff", "wb"):
            pass

    known = account.read(made(Tree("tree", "", make), tmp_path))
    assert known == account.Account(
        files=["directory/file", "one", "\udcff"],
        links=["link"],
        directories=["directory"],
        bytes=6,
        larger=1,
        digests={"directory/file": zlib.crc32(b"12345"), "one": zlib.crc32(b"1")},
    )
    assert len(known.paths) == 5


# --- software ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small standard library in place of this interpreter's."""
    directory = tmp_path / "python3"
    for path in ("json/__init__.py", "test/test_json.py", "site-packages/other/__init__.py", "config-3-x/libpython.a"):
        (directory / path).parent.mkdir(parents=True)
        (directory / path).write_text("")
    monkeypatch.setattr(software.sysconfig, "get_path", lambda _: str(directory))
    return directory


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.mark.usefixtures("library")
def test_an_interpreter_is_laid_with_its_library_and_nothing_of_others(tree):
    software.lay_interpreter(tree)
    assert [path.name for path in (tree / software.LIBRARY).iterdir()] == ["json"]
    program = tree / "bin" / "python3"
    assert os.access(program, os.X_OK)
    assert program.read_bytes() == Path(sys.executable).resolve().read_bytes()


@pytest.mark.usefixtures("library")
def test_a_package_that_is_installed_is_copied(tree):
    software.with_installed("pytest")(tree)
    packages = tree / software.PACKAGES
    assert (packages / "pytest" / "__init__.py").is_file()
    assert (packages / "pytest" / ".cvmfscatalog").is_file()
    assert (tree / software.LIBRARY / ".cvmfscatalog").is_file()
    assert list((tree / software.LIBRARY / "json").glob("__pycache__/*.pyc"))
    assert not list(packages.glob("*.dist-info/.cvmfscatalog"))


class Pip:
    """Stands in for subprocess.run."""

    def __init__(self, status=0, said="", error=None):
        self.status, self.said, self.error, self.commands = status, said, error, []

    def __call__(self, command, **_):
        self.commands.append(command)
        if self.error:
            raise self.error
        return subprocess.CompletedProcess(command, self.status, "", self.said)


def test_packages_come_as_wheels(tree, monkeypatch):
    pip = Pip()
    monkeypatch.setattr(software.subprocess, "run", pip)
    software.install(tree, ["one", "two"])
    (command,) = pip.commands
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert command[-3:] == [str(tree / software.PACKAGES), "one", "two"]


@pytest.mark.parametrize(
    ("pip", "why"),
    [
        (Pip(1, "WARNING: slow\nERROR: No matching distribution found for one\n"), "ERROR: No matching distribution"),
        (Pip(1, ""), "exit status 1"),
        (Pip(error=subprocess.TimeoutExpired("pip", 1)), "not done in"),
    ],
    ids=["refused", "silent", "late"],
)
def test_packages_that_cannot_be_had_make_the_tree_unavailable(tmp_path, monkeypatch, pip, why):
    monkeypatch.setattr(software.subprocess, "run", pip)
    with pytest.raises(Unavailable, match=f"pip install one: {why}"):
        made(Tree("tree", "", lambda tree: software.install(tree, ["one"])), tmp_path)


def test_a_program_that_fails_is_not_recorded(tree):
    with pytest.raises(Unavailable, match="exit status 3"):
        recorded.record(tree, [sys.executable, "-c", "import sys; sys.exit(3)"], {})


def test_names_of_trees_are_their_keys():
    assert all(name == tree.name for name, tree in TREES.items())
