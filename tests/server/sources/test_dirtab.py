"""`.cvmfsdirtab`: which directories its patterns mean, and which files make no sense."""

import pytest

from cvfs.errors import Unpublishable
from cvfs_server.sources.dirtab import parse


@pytest.mark.parametrize(
    ("text", "path", "matches"),
    [
        (b"", b"/a", False),
        (b"/a", b"/a", True),
        (b"/a/", b"/a", True),
        (b"/a", b"/a/b", False),
        (b"/a", b"/b/a", False),
        (b"  /a \t\r\n", b"/a", True),
        (b"# /a\n\n/b", b"/a", False),
        (b"/a b", b"/a b", True),
        # Neither sign of inclusions crosses a slash.
        (b"/a/*", b"/a/b", True),
        (b"/a/*", b"/a/b/c", False),
        (b"/a/*", b"/a", False),
        (b"/*/c", b"/a/c", True),
        (b"/*/c", b"/a/b/c", False),
        (b"/a?", b"/ab", True),
        (b"/a?", b"/a", False),
        (b"/a?b", b"/a/b", False),
        (b"/a*", b"/a\nb", True),
        (b"/a*", b"/a\xff", True),
        # In exclusions they do.
        (b"/a/*\n!*skip", b"/a/skip", False),
        (b"/a/*/*\n! /a/*skip", b"/a/b/skip", False),
        (b"/a/*\n!/a/?kip", b"/a/skip", False),
        (b"/a/*\n!/a/?kip", b"/a/sskip", True),
        (b"!/a\n/*", b"/a", False),
        (b"!/a\n/*", b"/b", True),
        # Escapes, and what means something elsewhere but not here.
        (rb"/a\*", b"/a*", True),
        (rb"/a\*", b"/ab", False),
        (rb"/a\?", b"/a?", True),
        (rb"/a\\", rb"/a" + b"\\", True),
        (rb"/a\b", rb"/a" + b"\\b", True),
        (b"/[ab]", b"/a", False),
        (b"/[ab]", b"/[ab]", True),
        (b"/a.c", b"/abc", False),
        (b"/(a|b)+$", b"/a", False),
    ],
)
def test_matching(text, path, matches):
    assert parse(text).matches(path) is matches


@pytest.mark.parametrize("text", [b"a", b"*", b"/a\nb/c", b"/a\n!/a", b"! /a\n /a "])
def test_a_senseless_file_is_refused_as_a_whole(text):
    with pytest.raises(Unpublishable, match="cvmfsdirtab"):
        parse(text)
