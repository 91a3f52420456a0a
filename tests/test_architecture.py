"""The page about the house names every module, and nothing that is not there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PAGE = PROJECT / "docs" / "architecture.md"
# One file of these directories is one module of the house.
MODULES = ("cvfs", "server/cvfs_server", "tools", "benchmarks")
PARTS = ("cvfs", "server", "tools", "tests", "benchmarks", "docs")


def modules():
    found = (path for top in MODULES for path in (PROJECT / top).rglob("*.py"))
    return sorted({path.stem for path in found if path.stem not in ("__init__", "__main__", "base", "local", "named")})


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def house(page):
    return page.split("```")[1]


@pytest.fixture(scope="module")
def words(house):
    return set(re.findall(r"[a-z][a-z0-9_]*", house))


def is_there(name):
    return (PROJECT / name).exists() or any(found for part in PARTS for found in (PROJECT / part).glob(f"**/{name}"))


def test_there_is_a_house():
    assert len(modules()) > 100


@pytest.mark.parametrize("name", modules())
def test_every_module_is_named(words, name):
    assert name in words, f"docs/architecture.md does not say where {name}.py belongs"


def test_every_file_that_is_named_exists(page):
    named = set(re.findall(r"[\w/]*\b\w+\.py\b", page))
    assert len(named) > 40
    assert [name for name in sorted(named) if not is_there(name)] == []


def test_every_directory_of_the_house_exists(house):
    named = set(re.findall(r"^ *([\w/]+)/(?= )", house, re.MULTILINE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not is_there(name)] == []
