"""A published tree with nothing in it, for what needs one and does not look."""

from types import SimpleNamespace

from cvfs.errors import NotFound


class Nothing:
    """The little of a `CatalogTree` that a first publish asks for."""

    def governing(self, _path):
        return SimpleNamespace(path=b"")

    def listing(self, _path):
        return []

    def find(self, path):
        raise NotFound(f"{path!r}")
