"""Which storage a repository is in, by its settings; opens nothing yet."""

from cvfs_server.settings import RepositorySettings
from cvfs_server.storage.base import Storage
from cvfs_server.storage.local import LocalStorage


def storage_of(settings: RepositorySettings) -> Storage:
    """Where the repository's files are written. Works as a copy in other processes."""
    return LocalStorage(settings.storage)
