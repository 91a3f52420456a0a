"""What a storage says it holds, written down in one pass: name and size of every object; reads none of them.

It lies in files parted by the first byte of the hash, as the references do. Source: FORMAT section 1.2.
"""

import contextlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from cvfs.compression import Compression
from cvfs.errors import StoreFull
from cvfs.store.base import Wanted
from cvfs.store.verified import stored_limit
from cvfs_server.check.references import PARTS

# A deflate stream never shrinks its content by more than this factor, and has a header and a check sum.
_DEFLATE, _DEFLATE_FRAME = 1032, 8
_PREFIX = "data/"


@runtime_checkable
class Listed(Protocol):
    """A store that can name all its objects."""

    def objects(self, since: float = 0) -> Iterator[tuple[str, int]]:
        """Path and stored size of everything below `data/`, in no order."""


def take_inventory(store: Listed, directory: str) -> None:
    """Write down what there is, as files in `directory`, which exists. Raises StoreError."""
    try:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(f"{directory}/{part:02x}", "w", encoding="ascii")) for part in PARTS]
            for path, size in store.objects():
                number, slash, _ = path.removeprefix(_PREFIX).partition("/")
                if slash and path.isascii() and path.isprintable() and number in _NUMBERS:
                    files[_NUMBERS[number]].write(f"{path} {size}\n")
    except OSError as error:
        raise StoreFull(f"cannot list the objects of the storage in {directory}: {error.strerror}") from error


def read_inventory(directory: str, part: int) -> dict[str, int]:
    """Stored size of each object of a part, by its path."""
    with open(f"{directory}/{part:02x}", encoding="ascii") as file:
        lines = (line.rpartition(" ") for line in file)
        return {path: int(size) for path, _, size in lines}


def size_trouble(wanted: Wanted, stored: int) -> str | None:
    """Why an object of that many stored bytes cannot be whole, None if it may be."""
    if wanted.compression is Compression.NONE and wanted.size is not None:
        least = most = wanted.size
    else:
        least, most = _least(wanted), stored_limit(wanted)
    if stored < least:
        return f"its object {wanted.path} has {stored} bytes: at least {least} are needed, it was truncated"
    if stored > most:
        return f"its object {wanted.path} has {stored} bytes: more than the {most} it may have"
    return None


def _least(wanted: Wanted) -> int:
    if wanted.compression is Compression.ZLIB:
        return _DEFLATE_FRAME + (wanted.size or 0) // _DEFLATE
    return 0 if wanted.compression is Compression.NONE else 1


_NUMBERS = {f"{part:02x}": part for part in PARTS}
