"""The table of FORMAT section 9.6, and its corners."""

import pytest

from cvfs.client.variant_symlinks import expand

VARIABLES = {b"TEST_VAR": b"abc", b"EMPTY": b"", b"NESTED": b"$(TEST_VAR)", b"RAW": b"\xff\xfe"}


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/opt/$(TEST_VAR)/x", b"/opt/abc/x"),
        (b"/$(UNSET:-dflt)/y", b"/dflt/y"),
        (b"/$(NOPAREN/z", b"/$(NOPAREN/z"),
        (b"plain/target", b"plain/target"),
        (b"", b""),
        (b"$(TEST_VAR)", b"abc"),
        (b"$(TEST_VAR)$(TEST_VAR)", b"abcabc"),
        (b"a$(UNSET)b", b"ab"),
        (b"$(EMPTY:-default)", b""),
        (b"$(TEST_VAR:-default)", b"abc"),
        (b"$(UNSET:-)", b""),
        (b"$(UNSET:-a:-b)", b"a:-b"),
        (b"$(UNSET:-$(TEST_VAR))", b"$(TEST_VAR)"),
        (b"$(NESTED)", b"$(TEST_VAR)"),
        (b"$HOME/$x/$", b"$HOME/$x/$"),
        (b"$$(TEST_VAR)", b"$abc"),
        (b"\\$(TEST_VAR)", b"\\abc"),
        (b"$()", b""),
        (b"$(TEST_VAR)/$(OPEN", b"abc/$(OPEN"),
        (b")$(TEST_VAR)", b")abc"),
        (b"/$(RAW)/\xe9", b"/\xff\xfe/\xe9"),
        (b"$(test_var)", b""),
    ],
)
def test_expansion(target, shown):
    assert expand(target, VARIABLES) == shown


def test_work_grows_with_the_length_only():
    """A link of the longest kind, full of variables."""
    assert expand(b"$(TEST_VAR)" * 372, VARIABLES) == b"abc" * 372
    assert expand(b"$(" * 2048, VARIABLES) == b"$(" * 2048
