"""Magic extended attributes by name: who may read them, where they are listed, how long values are paged.

It computes no value itself. Source: FORMAT section 9.7.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.client.inodes import Node
from cvfs.client.reading import Reader
from cvfs.client.repository import Repository
from cvfs.errors import NoSuchAttribute
from cvfs.format.dirent import DirectoryEntry

CONTROL_ATTRIBUTE = b"user.cvfs.control"
PAGE = 40_000
"""Characters of a page, about: a page ends behind the item that reaches it."""


class Subject(NamedTuple):
    """What an attribute is asked of. With `wait` false a value that is not at hand raises BlockingIOError."""

    repository: Repository
    reader: Reader
    node: Node
    wait: bool

    @property
    def entry(self) -> DirectoryEntry:
        """The catalog's row."""
        return self.node.entry


Value = Callable[[Subject], Sequence[bytes]]
"""The pages of a value. Raises NoSuchAttribute for an entry that has none of this name."""


def anything(_entry: DirectoryEntry) -> bool:
    """Every entry has it."""
    return True


def nothing(_entry: DirectoryEntry) -> bool:
    """It can be read, but is never listed."""
    return False


class Magic(NamedTuple):
    """One attribute: its value, and for which entries its name may be listed."""

    value: Value
    listed: Callable[[DirectoryEntry], bool] = anything


@dataclass(frozen=True, slots=True)
class MagicAttributes:
    """All of them by name. `protected` ones are for root's group and `privileged` groups only.

    `visibility` says where names are listed: `rootonly`, `always` or `never`; they can be read wherever they apply.
    """

    by_name: Mapping[bytes, Magic] = field(default_factory=dict)
    visibility: str = "rootonly"
    protected: frozenset[bytes] = frozenset()
    privileged: frozenset[int] = frozenset()

    def get(self, name: bytes, group: int, subject: Subject) -> bytes:
        """The value, or the page that the name asks for; `name` is one of `by_name`, or that with a page."""
        base, human, page = split_page(name)
        magic = self.by_name.get(base)
        if magic is None or (base in self.protected and group != 0 and group not in self.privileged):
            raise NoSuchAttribute(f"no attribute {name!r}")
        return choose_page(magic.value(subject), human=human, page=page)

    def names(self, entry: DirectoryEntry, *, is_root: bool) -> list[bytes]:
        """The names to be listed for an entry, each of them twice, as the original does."""
        if self.visibility == "never" or (self.visibility == "rootonly" and not is_root):
            return []
        names = sorted(name for name, magic in self.by_name.items() if magic.listed(entry))
        return names + names


def split_page(name: bytes) -> tuple[bytes, bool, int | None]:
    """Name without its page, whether a human reads, the page (None: how many there are).

    `name~2` is page 2 as it is, `name@2` with a heading, `name~?` and `name@?` tell of the pages.
    """
    for mark in (b"~", b"@"):
        base, found, page = name.partition(mark)
        if found:
            if page != b"?" and not (page.isdigit() and len(page) < 10):
                raise NoSuchAttribute(f"no attribute {name!r}")
            return base, mark == b"@", None if page == b"?" else int(page)
    return name, False, 0


def choose_page(pages: Sequence[bytes], *, human: bool, page: int | None) -> bytes:
    """One page, or what is to be known of all of them. Raises NoSuchAttribute if a program asks for one too many."""
    if human:
        return _told(pages, page)
    if page is None:
        return b"num_pages, %d" % len(pages)
    if page >= len(pages):
        raise NoSuchAttribute(f"page {page} of {len(pages)}")
    return pages[page]


def _told(pages: Sequence[bytes], page: int | None) -> bytes:
    if page is None:
        return (
            b"Access xattr with xattr~<page_num> (machine-readable mode) or  xattr@<page_num> (human-readable mode).\n"
            b"Pages available: %d" % len(pages)
        )
    if page >= len(pages):
        return (
            b"Page requested does not exists. There are %d pages available.\n"
            b"Access them with xattr~<page_num> (machine-readable mode) or xattr@<page_num> (human-readable mode).\n"
            b"Use xattr@? or xattr~? to get extra info about the attribute" % len(pages)
        )
    return (
        b"# Access page at idx: %d. Total num pages: %d (access other pages: xattr~<page_num>, starting  with 0; "
        b"number of pages available: xattr~?)\n" % (page, len(pages)) + pages[page]
    )


def in_pages(items: Sequence[bytes], heading: bytes = b"") -> list[bytes]:
    """Items that stay whole, as many on a page as fit, each page with the heading."""
    pages, page = [], heading
    for item in items:
        page += item
        if len(page) > PAGE:
            pages.append(page)
            page = heading
    return [*pages, page] if len(page) > len(heading) else pages
