"""The contests of publishers by name, in the sizes of the quick set and of the full one; it makes nothing.

| contest | contestants |
|---|---|
| publish | `cp -a`, `tar | zstd -3`, `cvfs zlib`, `cvfs zlib-fast`, `cvfs zstd` |
| publish-incremental | `find`, `cvfs transaction`, `cvfs --from` |
| ingest | `tar -x`, `cvfs zlib`, `cvfs zlib-fast`, `cvfs zstd` |
| check | `cp -a`, `cp -a of the storage`, `cvfs check`, `cvfs check -i`, `cvfs check -i --skip-verified` |
| gc | `rm -r of the storage`, `cvfs gc`, `cvfs gc -d` |
| replicate | `cvfs` |

Figures of samples: `peak`, bytes of memory of all processes together; of publishes `entries`, `catalogs`, `added`, `modified`,
`objects`, `bytes_in`, `bytes_stored`, `publish_seconds` (without the start of the program), of a transaction
`transaction_seconds` (until it was open); of collections `files` that are left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Contest, Key
from benchmarks.publishing import works
from benchmarks.publishing.contests import Contestants, PublishingContest, Workplace


@dataclass(frozen=True, slots=True)
class Work:
    """One contest. `prepare` is given its size in files; `quick` says that it belongs to the quick set."""

    about: str
    prepare: Callable[[Workplace, int], Contestants]
    files: int = 100_000
    quick_files: int = 5_000
    quick: bool = False


PUBLISHING: Mapping[str, Work] = {
    "publish": Work("a tree of small files in 50 nested catalogs, into a new repository", works.publish, quick=True),
    "publish-incremental": Work(
        "ten changed files in ten catalogs of a large repository", works.publish_incremental, 1_000_000, 50_000
    ),
    "ingest": Work("the same small files out of a tar archive, into a new repository", works.ingest),
    "check": Work("everything that is published of the small files", works.check),
    "gc": Work("the revision before the newest, half of whose files are gone", works.gc),
    "replicate": Work("what a stratum 1 does", works.replicate),
}


def contest(name: str, work_dir: Path, *, quick: bool = False) -> Contest:
    """The contest of that name, as large as the full set has it; that of the quick set has another. Raises KeyError."""
    work = PUBLISHING[name]
    files = work.quick_files if quick else work.files
    return PublishingContest(
        Key(f"{name}-small" if quick else name), work_dir, lambda place: work.prepare(place, files)
    )
