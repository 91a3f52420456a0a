"""Names, pages and permissions of magic attributes; the values themselves are others' matter."""

import pytest

from cvfs.client.magic.attributes import (
    PAGE,
    Magic,
    MagicAttributes,
    choose_page,
    in_pages,
    nothing,
    split_page,
)
from cvfs.errors import NoSuchAttribute


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"user.a", (b"user.a", False, 0)),
        (b"user.a~0", (b"user.a", False, 0)),
        (b"user.a~12", (b"user.a", False, 12)),
        (b"user.a@3", (b"user.a", True, 3)),
        (b"user.a~?", (b"user.a", False, None)),
        (b"user.a@?", (b"user.a", True, None)),
    ],
)
def test_a_name_may_ask_for_a_page(name, expected):
    assert split_page(name) == expected


@pytest.mark.parametrize("name", [b"user.a~", b"user.a~x", b"user.a@-1", b"user.a~1~2", b"a~9999999999", b"a~\xb2"])
def test_what_is_no_page_is_no_attribute(name):
    with pytest.raises(NoSuchAttribute):
        split_page(name)


HEADING = (
    b"# Access page at idx: 1. Total num pages: 2 (access other pages: xattr~<page_num>, starting  with 0; "
    b"number of pages available: xattr~?)\n"
)


@pytest.mark.parametrize(
    ("human", "page", "expected"),
    [
        (False, 0, b"first"),
        (False, 1, b"second"),
        (False, None, b"num_pages, 2"),
        (True, 1, HEADING + b"second"),
    ],
)
def test_pages_are_numbered_from_zero(human, page, expected):
    assert choose_page([b"first", b"second"], human=human, page=page) == expected


def test_a_page_too_many_is_an_error_for_programs_and_a_text_for_humans():
    with pytest.raises(NoSuchAttribute):
        choose_page([b"first"], human=False, page=1)
    with pytest.raises(NoSuchAttribute):
        choose_page([], human=False, page=0)
    text = choose_page([b"first"], human=True, page=1)
    assert text.startswith(b"Page requested does not exists. There are 1 pages available.\n")
    assert choose_page([b"first"], human=True, page=None).endswith(b"\nPages available: 1")


def test_pages_end_behind_the_item_that_fills_them():
    items = [b"%05d" % number + b"x" * 995 for number in range(100)]
    pages = in_pages(items, b"heading\n")
    assert [page.count(b"heading\n") for page in pages] == [1] * 3
    assert b"".join(page.removeprefix(b"heading\n") for page in pages) == b"".join(items)
    assert PAGE < len(pages[0]) < PAGE + 1000
    assert in_pages([], b"heading\n") == []
    assert in_pages([b"x" * (PAGE + 1)]) == [b"x" * (PAGE + 1)]


def magic(**changes) -> MagicAttributes:
    plain = Magic(lambda _: [b"value"])
    return MagicAttributes(
        {b"user.a": plain, b"user.b": plain, b"user.own": Magic(lambda _: [b"x"], nothing)}, **changes
    )


@pytest.mark.parametrize(
    ("visibility", "on_root", "elsewhere"),
    [
        ("rootonly", [b"user.a", b"user.b"] * 2, []),
        ("always", [b"user.a", b"user.b"] * 2, [b"user.a", b"user.b"] * 2),
        ("never", [], []),
    ],
)
def test_where_names_are_listed(row, visibility, on_root, elsewhere):
    """Twice each, as the original lists them."""
    shown = magic(visibility=visibility)
    assert shown.names(row(b""), is_root=True) == on_root
    assert shown.names(row(b"x"), is_root=False) == elsewhere
    assert shown.get(b"user.own", 0, None) == b"x"


@pytest.mark.parametrize(("group", "allowed"), [(0, True), (1001, True), (1002, False)])
@pytest.mark.parametrize("name", [b"user.a", b"user.a~0", b"user.a@?"])
def test_protected_attributes_are_for_privileged_groups(group, allowed, name):
    shown = magic(protected=frozenset({b"user.a"}), privileged=frozenset({1001}))
    assert shown.get(b"user.b", group, None) == b"value"
    if allowed:
        assert shown.get(name, group, None)
    else:
        with pytest.raises(NoSuchAttribute):
            shown.get(name, group, None)


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(NoSuchAttribute):
        magic().get(b"user.c", 0, None)
