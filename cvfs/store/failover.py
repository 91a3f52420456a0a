"""Several stores with the same content as one: the first that answers serves until it fails; it never looks at bytes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cvfs.errors import MissingObject, Unreachable
from cvfs.store.base import Store

_Answer = TypeVar("_Answer")


class Failover:
    """Stores in order of preference.

    Unreachable moves on to the next store for this and all later requests; MissingObject asks the next one for this
    request alone. A stream that breaks after its first piece cannot be begun again here: it moves on as well and raises
    Unreachable, and whoever asked asks again (`Verified` does). Nothing is ever missing as long as a store that might
    have it was out of reach. Who asks for a fresh copy got a bad one: then the next store is asked first, for this
    request alone.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = tuple(stores)
        self._preferred = 0
        self._lock = threading.Lock()

    def fetch(self, path: str, *, fresh: bool = False, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """See `Store.fetch`."""

        def start(store: Store) -> tuple[bytes | None, Iterator[bytes]]:
            pieces = store.fetch(path, fresh=fresh, span=span)
            return next(pieces, None), pieces

        number, (first, rest) = self._first_answer(path, start, skipped=int(fresh))
        if first is None:
            return
        yield first
        try:
            yield from rest
        except Unreachable:
            self._leave(number)
            raise

    def has(self, path: str) -> bool:
        """See `Store.has`."""

        def look(store: Store) -> bool:
            if store.has(path):
                return True
            raise MissingObject(f"{path}: not there")

        try:
            return self._first_answer(path, look)[1]
        except MissingObject:
            return False

    def _first_answer(self, path: str, ask: Callable[[Store], _Answer], skipped: int = 0) -> tuple[int, _Answer]:
        """Number and answer of the first store that has what is asked for, beginning `skipped` behind the preferred."""
        missing: MissingObject | None = None
        broken: Unreachable | None = None
        for number in self._order(skipped):
            try:
                return number, ask(self._stores[number])
            except MissingObject as error:
                missing = error
            except Unreachable as error:
                broken = error
                self._leave(number)
        if broken is None and missing is not None:
            raise missing
        raise Unreachable(
            f"{path}: none of {len(self._stores)} servers has an answer, the last one: {broken}"
        ) from broken

    def _order(self, skipped: int) -> list[int]:
        first, count = self._preferred + skipped, len(self._stores)
        return [(first + step) % count for step in range(count)]

    def _leave(self, number: int) -> None:
        """Prefer the one behind `number`, unless another thread has already moved on from it."""
        with self._lock:
            if self._preferred == number:
                self._preferred = (number + 1) % len(self._stores)
