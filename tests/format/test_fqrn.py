"""Names of repositories."""

import pytest

from cvfs.errors import UsageError
from cvfs.format.fqrn import check_fqrn, is_fqrn

GOOD = ["tiny.example.org", "a.b", "0.0", "Soft-Ware_1.example.org", "a.", "x" * 58 + ".y"]
BAD = [
    "",
    ".",
    ".a.b",
    "-a.b",
    "_a.b",
    "nodot",
    "a..b/c",
    "a b.c",
    "a.b\n",
    "\na.b",
    "a.b\0",
    "x" * 59 + ".y",
    "\N{LATIN SMALL LETTER A WITH ACUTE}.b",
    "\N{ARABIC-INDIC DIGIT ONE}.b",
]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name):
    assert is_fqrn(name)
    assert check_fqrn(name) == name


@pytest.mark.parametrize("name", BAD)
def test_bad_names(name):
    assert not is_fqrn(name)
    with pytest.raises(UsageError, match="not a repository name") as refused:
        check_fqrn(name)
    assert "\n" not in str(refused.value)
