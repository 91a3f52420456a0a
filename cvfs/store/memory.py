"""A store in memory: what tests and small tools serve from; it never touches a disk."""

from collections.abc import Iterator

from cvfs.errors import MissingObject, Unreachable


class MemoryStore:
    """Stored bytes by path, as a dictionary gives them; changes of the dictionary are seen at once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def fetch(self, path: str, *, fresh: bool = False, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """See `Store.fetch`; `fresh` means nothing here, there is no cache on the way."""
        del fresh
        if path not in self._files:
            raise MissingObject(f"{path}: not in this memory store")
        data = self._files[path]
        piece = data if span is None else data[span[0] : span[0] + span[1]]
        if span is not None and len(piece) != span[1]:
            raise Unreachable(f"{path}: its {len(data)} bytes end before the part at {span[0]} of {span[1]} bytes does")
        return iter([piece] if piece else [])

    def has(self, path: str) -> bool:
        """See `Store.has`."""
        return path in self._files
