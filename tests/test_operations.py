"""The page for administrators names every parameter of our own, and none that nobody obeys."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
_NAME = re.compile(r"\bCVFS_[A-Z_]+[A-Z]\b")


def parameters():
    sources = [path for top in ("cvfs", "server", "tools") for path in (PROJECT / top).rglob("*.py")]
    return {name for path in sources for name in _NAME.findall(path.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def page():
    return (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_table_of_our_own_parameters_is_whole_and_in_order(page):
    rows = re.findall(r"^\| `(CVFS_[A-Z_]+)` \|", page, re.MULTILINE)
    assert rows == sorted(parameters())


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/operations.md", "docs/decisions.md"])
def test_pages_name_no_other_parameter(name):
    assert set(_NAME.findall((PROJECT / name).read_text(encoding="utf-8"))) <= parameters()
