"""Files that are read together, in this process or in a worker: what is sent, what comes back; knows no directory, no order.

A batch is small enough to be held in memory, except for its last file, which may have any size.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cvfs_server.ingest.content import Content, ContentReader, StorageForm
from cvfs_server.sources.base import Place
from cvfs_server.storage.base import Storage

BATCH_FILES = 256
BATCH_BYTES = 4 * 2**20

Places = list[Place | None]
# What travels between processes: plain values, which are pickled eight times faster. A path is a whole file.
PackedPlaces = list[bytes | Place | None]
PackedContents = list[tuple[object, ...]]


class BatchReader:
    """Reads a batch: file by file or, where storing an object means waiting for a network, many at a time."""

    def __init__(self, storage: Storage, form: StorageForm) -> None:
        self._reader = ContentReader(storage, form)
        self._parallel = storage.parallel

    def read(self, places: Sequence[Place | None]) -> list[Content]:
        """Their contents, their objects being stored. Raises Unpublishable or StoreError."""
        threads = min(self._parallel, len(places))
        if threads <= 1:
            return [self._reader.take(place) for place in places]
        # They end with the batch: a process with threads could not be copied safely.
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._reader.take, places))


def pack_places(places: Places) -> PackedPlaces:
    """For another process."""
    return [place.path if place and not place.part and not place.native else place for place in places]


def unpack_contents(packed: PackedContents) -> list[Content]:
    """What `read_packed` returned in another process."""
    return [Content._make(values) for values in packed]


_worker_reader: BatchReader | None = None


def start_worker(storage: Storage, form: StorageForm) -> None:
    """This process reads batches from now on."""
    global _worker_reader  # noqa: PLW0603  # the state of a worker process
    _worker_reader = BatchReader(storage, form)


def read_packed(packed: PackedPlaces) -> PackedContents:
    """A batch, in a worker. Raises Unpublishable or StoreError."""
    assert _worker_reader is not None
    places = [Place(place) if isinstance(place, bytes) else place for place in packed]
    return [tuple(content) for content in _worker_reader.read(places)]
