"""cvfs: software delivery for science, wire-compatible with CernVM-FS.

The public API is `cvfs.open_repository`, what it returns, and `cvfs.errors`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvfs import errors
    from cvfs.client.library.opening import open_repository
    from cvfs.client.library.paths import RepositoryPath
    from cvfs.client.library.reader import RepositoryReader

__version__ = "0.1.0"
__all__ = ["RepositoryPath", "RepositoryReader", "__version__", "errors", "open_repository"]

_HOMES = {
    "open_repository": "cvfs.client.library.opening",
    "RepositoryPath": "cvfs.client.library.paths",
    "RepositoryReader": "cvfs.client.library.reader",
}


def __getattr__(name: str) -> object:
    """The public names, loaded when somebody asks: every command imports this package, few of them read a repository."""
    if name != "errors" and name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    if name == "errors":
        return importlib.import_module("cvfs.errors")
    return getattr(importlib.import_module(_HOMES[name]), name)
