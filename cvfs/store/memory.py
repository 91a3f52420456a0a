"""A store in memory: what tests and small tools serve from; it never touches a disk."""

from collections.abc import Iterator

from cvfs.errors import MissingObject, Unreachable


class MemoryStore:
    """Stored bytes by path, as a dictionary gives them; changes of the dictionary are seen at once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def fetch(
        self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None, patience: float | None = None
    ) -> Iterator[bytes]:
        """See `Store.fetch`; neither cache nor network is on the way."""
        del fresh, patience
        if path not in self._files:
            raise MissingObject(f"{path}: not in this memory store")
        data = self._files[path]
        piece = data if span is None else data[span[0] : span[0] + span[1]]
        if span is not None and len(piece) != span[1]:
            raise Unreachable(f"{path}: its {len(data)} bytes end before the part at {span[0]} of {span[1]} bytes does")
        return iter([piece] if piece else [])

    def has(self, path: str, *, patience: float | None = None) -> bool:
        """See `Store.has`."""
        del patience
        return path in self._files
