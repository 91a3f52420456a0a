"""Objects of a storage that no revision ever named: what failed publishes left behind. Deletes nothing.

The reflog knows nothing of them, so the storage is listed as a whole.
"""

import re

from cvfs.errors import FormatError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.gc.condemned import RECORD_SIZE, record_of
from cvfs_server.gc.inventory import PARTS, Inventory
from cvfs_server.storage.base import Storage

_PLACE = re.compile(r"data/([0-9a-f]{2})/([0-9a-f]{38}[a-z0-9-]*)([A-Z]?)")
_KINDS = {kind.value: kind for kind in ObjectKind}
_AT_ONCE = 4096


def add_orphans(storage: Storage, before: float, candidates: Inventory, scratch: str) -> None:
    """Every object that is older than the Unix time `before`: the caller leaves out what is kept. Raises StoreError."""
    old, young = (Inventory(f"{scratch}/{name}", RECORD_SIZE) for name in ("stored", "young"))
    # In this order: what appears meanwhile is in neither, or is young.
    _list(storage, 0, old)
    _list(storage, before, young)
    for number in range(PARTS):
        candidates.add(old.part(number) - young.part(number))


def _list(storage: Storage, since: float, found: Inventory) -> None:
    found.start()
    records: list[bytes] = []
    for place, _ in storage.objects(since):
        content = content_at(place)
        if content:
            records.append(record_of(content.digest, content.algorithm, content.kind))
        if len(records) >= _AT_ONCE:
            found.add(records)
            records.clear()
    found.add(records)


def content_at(place: str) -> ContentHash | None:
    """The object that lies at a place; what has no such name is nobody's business."""
    parts = _PLACE.fullmatch(place)
    if not parts or parts[3] not in _KINDS:
        return None
    try:
        return ContentHash.parse(parts[1] + parts[2], _KINDS[parts[3]])
    except FormatError:
        return None
