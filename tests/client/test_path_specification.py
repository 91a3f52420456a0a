"""Which paths a list of patterns means."""

import pytest

from cvfs.client.path_specification import PathSpecification
from cvfs.errors import UsageError


def _parse(*lines):
    return PathSpecification.parse("\n".join(lines).encode(), "dirtab")


@pytest.mark.parametrize(
    ("lines", "path", "takes", "enters"),
    [
        ((), b"/a/b", True, True),
        ((), b"", True, True),
        (("/a",), b"", False, True),
        (("/a",), b"/a", True, True),
        (("/a/",), b"/a/b/c", True, True),
        (("/a",), b"/ab", False, False),
        (("/a/b/c",), b"/a", False, True),
        (("/a/b/c",), b"/a/b", False, True),
        (("/a/b/c",), b"/a/x", False, False),
        (("/a/*/c",), b"/a/x/c/d", True, True),
        (("/a/*/c",), b"/a/x/d", False, False),
        (("/a/v5*",), b"/a/v51/bin", True, True),
        (("/a/v5*",), b"/a/v4", False, False),
        (("/a/v?",), b"/a/v12", False, False),
        (("/a/v\\*",), b"/a/vx", False, False),
        (("/a/v\\*",), b"/a/v*", True, True),
        (("/a", "/b"), b"/b/c", True, True),
        (("/a", "!/a/tmp"), b"/a/tmp/x", False, False),
        (("/a", "! /a/tmp"), b"/a/tmp", False, False),
        (("/a", "!/a/tmp"), b"/a/tmpx", True, True),
        (("/a", "!*.svn"), b"/a/b/.svn/x", False, False),
        (("!/a",), b"/b", True, True),
        (("!/a",), b"/a/b", False, False),
        (("# a", "", "  /a  "), b"/a", True, True),
        (("/",), b"/a/b", True, True),
        (("/a.b",), b"/axb", False, False),
        (("/\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),), b"/a", False, False),
    ],
)
def test_what_is_meant(lines, path, takes, enters):
    lines = [line if not line.startswith("!*") else "!/" + line[1:] for line in lines]
    specification = _parse(*lines)
    assert (specification.takes(path), specification.enters(path)) == (takes, enters)


@pytest.mark.parametrize("line", ["a", "!a", "*", "! "])
def test_relative_patterns_are_refused_with_their_place(line):
    with pytest.raises(UsageError, match="dirtab:2"):
        _parse("/fine", line)
