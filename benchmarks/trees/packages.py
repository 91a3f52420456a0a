"""Trees to be published: packages of many small files, each package a nested catalog; publishes nothing."""

import random
import sysconfig
from pathlib import Path

from benchmarks.trees.base import Tree

CATALOGS = 50
_DIRECTORIES = 40
_MEAN_SIZE = 4110
_LARGEST = 100_000
_MARKER = ".cvmfscatalog"


def sources(files: int) -> Tree:
    """So many files of 4 kB on the average, pieces of Python's library: they compress as sources do."""
    return Tree(
        f"sources-{files}", f"{files} small files in {CATALOGS} nested catalogs", lambda top: _sources(top, files)
    )


def names(files: int) -> Tree:
    """So many files of a few bytes, a thousand different ones: what counts is the names."""
    return Tree(f"names-{files}", f"{files} names in {CATALOGS} nested catalogs", lambda top: _names(top, files))


def path_of(number: int) -> Path:
    """Of a file, below the top. Neighbours in number lie in different catalogs."""
    rest, catalog = divmod(number, CATALOGS)
    name, directory = divmod(rest, _DIRECTORIES)
    return Path(f"package{catalog:02}", f"module{directory:02}", f"file{name}.py")


def change(top: Path, count: int, word: str) -> None:
    """So many files get other contents, each in another catalog; they may be changed again and again."""
    for number in range(count):
        (top / path_of(number)).write_text(f"# {number} {word}\n")


def _sources(top: Path, files: int) -> None:
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(path.read_bytes() for path in library)
    choose = random.Random(1)
    _make_directories(top, files)
    for number in range(files):
        length = min(int(choose.expovariate(1 / _MEAN_SIZE)), _LARGEST)
        start = choose.randrange(len(text) - length)
        (top / path_of(number)).write_bytes(b"# %d\n" % number + text[start : start + length])


def _names(top: Path, files: int) -> None:
    _make_directories(top, files)
    for number in range(files):
        (top / path_of(number)).write_bytes(b"# %d\n" % (number % 1000))


def _make_directories(top: Path, files: int) -> None:
    for number in range(min(files, CATALOGS * _DIRECTORIES)):
        (top / path_of(number)).parent.mkdir(parents=True)
    for catalog in top.iterdir():
        (catalog / _MARKER).touch()
