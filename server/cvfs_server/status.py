"""The status file of a repository: when it was last collected and checked, for monitoring. Source: FORMAT section 8.4."""

import json

from cvfs.errors import MissingObject
from cvfs.store.base import fetch_document
from cvfs_server.storage.base import Storage

STATUS = ".cvmfs_status.json"


def read_status(storage: Storage) -> dict[str, str]:
    """What the file says; nothing if it is not there or makes no sense. Raises Unreachable."""
    try:
        found = json.loads(fetch_document(storage, STATUS))
    except (MissingObject, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def update_status(storage: Storage, **values: str) -> None:
    """Change some of it; the caller holds `switching`. Raises StoreFull."""
    text = json.dumps(read_status(storage) | values)
    storage.replace(STATUS, text.encode() + b"\n")
