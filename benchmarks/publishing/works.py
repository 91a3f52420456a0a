"""What publishers are asked to do: each work says who does it, and makes ready what they need."""

import time
from collections.abc import Callable

from benchmarks.model import Sample, Unavailable
from benchmarks.publishing import tools
from benchmarks.publishing.contests import Contestants, Workplace
from benchmarks.publishing.programs import with_figures
from benchmarks.publishing.sites import Site, published
from benchmarks.trees.packages import change, names, sources

COMPRESSIONS = ("zlib", "zlib-fast", "zstd")
CHANGED = 10
"""Files, each in a catalog of its own."""


def publish(place: Workplace, files: int) -> Contestants:
    """A tree of small files into a new repository."""
    tree = place.tree(sources(files))
    tools.read_once(tree, place.work_dir)

    def publishing(compression: str) -> Callable[[], Sample]:
        return lambda: Site(place.new("site"), place.work_dir).create(compression).publish("--from", str(tree))

    return {
        "cp -a": lambda: tools.copy(tree, place.new("copy")),
        "tar | zstd -3": lambda: tools.archive(tree, place.new("archive")),
        **{f"cvfs {compression}": publishing(compression) for compression in COMPRESSIONS},
    }


def ingest(place: Workplace, files: int) -> Contestants:
    """The same files as an archive."""
    archive = tools.pack(place.tree(sources(files)), place.scratch / "tree.tar", place.work_dir)

    def ingesting(compression: str) -> Callable[[], Sample]:
        return lambda: Site(place.new("site"), place.work_dir).create(compression).ingest(archive)

    return {
        "tar -x": lambda: tools.extract(archive, place.new("tree")),
        **{f"cvfs {compression}": ingesting(compression) for compression in COMPRESSIONS},
    }


def publish_incremental(place: Workplace, files: int) -> Contestants:
    """A few changed files in a large repository: by a transaction, which knows what was changed; by a look at all."""
    tree = place.tree(names(files))
    # A look at all goes by what the last one saw: in a repository where only looks are published.
    looked, edited = (published(names(files), place.work_dir, "zlib-fast").copy_to(place.new("site")) for _ in range(2))

    def look() -> Sample:
        change(tree, CHANGED, f"look {time.time_ns()}")
        return looked.publish("--from", str(tree))

    def transaction() -> Sample:
        with edited.in_transaction() as seconds:
            change(edited.transaction, CHANGED, f"transaction {time.time_ns()}")
            return with_figures(edited.publish(), transaction_seconds=seconds)

    return {"find": lambda: tools.find(tree), "cvfs transaction": transaction, "cvfs --from": look}


def check(place: Workplace, files: int) -> Contestants:
    """Everything that is published of a tree of small files."""
    tree = place.tree(sources(files))
    site = published(sources(files), place.work_dir, "zlib").copy_to(place.new("site"))
    # Reads everything once, and remembers what is sound.
    site.check("--integrity")
    return {
        "cp -a": lambda: tools.copy(tree, place.new("copy")),
        "cp -a of the storage": lambda: tools.copy(site.storage, place.new("copy")),
        "cvfs check": site.check,
        "cvfs check -i": lambda: site.check("--integrity"),
        "cvfs check -i --skip-verified": lambda: site.check("--integrity", "--skip-verified", "1"),
    }


def gc(place: Workplace, files: int) -> Contestants:
    """A repository whose newest revision has half of the files of the one before."""
    half = Site(place.new("site"), place.work_dir).create("zlib")
    # Twice: the revision before the newest has a tag, which keeps it.
    for tree in (sources(files), sources(files // 2), sources(files // 2)):
        half.publish("--from", str(place.tree(tree)))

    def collecting(*options: str) -> Callable[[], Sample]:
        return lambda: half.copy_to(place.new("site")).collect(*options)

    def removing() -> Sample:
        return tools.remove(half.copy_to(place.new("site")).storage)

    return {"rm -r of the storage": removing, "cvfs gc": collecting(), "cvfs gc -d": collecting("--dry-run")}


def replicate(_place: Workplace, files: int) -> Contestants:
    """What a stratum 1 does."""
    del files
    return {"cvfs": Unavailable("this version of cvfs-server has no verb that replicates")}
