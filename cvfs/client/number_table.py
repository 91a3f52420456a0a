"""Values by inode number, in pages: numbers are given out in order, so this takes a fifth of a dictionary's memory."""

from collections.abc import Iterator
from typing import Generic, TypeVar

_BITS = 6
_MASK = (1 << _BITS) - 1

Value = TypeVar("Value")


class NumberTable(Generic[Value]):
    """A mapping from numbers to values, none of which is None; a page goes with its last value.

    Changes need a lock around them; who only looks needs none.
    """

    __slots__ = ("_count", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, list[Value | None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> _BITS)
        return page is not None and page[number & _MASK] is not None

    def get(self, number: int) -> Value | None:
        """The value of a number, if it has one."""
        page = self._pages.get(number >> _BITS)
        return None if page is None else page[number & _MASK]

    def put(self, number: int, value: Value) -> None:
        """Give a number that has none a value."""
        page = self._pages.get(number >> _BITS)
        if page is None:
            page = self._pages[number >> _BITS] = [None] * (_MASK + 1)
        page[number & _MASK] = value
        self._count += 1

    def remove(self, number: int) -> None:
        """Take the value of a number that has one."""
        page = self._pages[number >> _BITS]
        page[number & _MASK] = None
        self._count -= 1
        if page.count(None) > _MASK:
            del self._pages[number >> _BITS]

    def __iter__(self) -> Iterator[Value]:
        """The values, about in the order in which they came."""
        return (value for page in self._pages.values() for value in page if value is not None)
