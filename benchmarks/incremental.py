"""Ten changed files, in ten catalogs, in a repository of a million entries: with the change set known, and by a look at all.

Prints one JSON record: seconds, processor seconds, memory in MB; `find` over the same tree is the measure of looking at all.

    python benchmarks/incremental.py --work-dir /somewhere/with/ten/gigabytes
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from measuring import change, costs, find_seconds, in_another_process, make_many, path_of, setting

from cvfs_server.draft import Contribution
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.publish import publish
from cvfs_server.settings import default_settings
from cvfs_server.site import Site
from cvfs_server.sources.base import DirectoryEdit, Place, ScannedEntry
from cvfs_server.ways.tree import publish_tree

FQRN = "bench.example.org"
CHANGED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--compressions", default="zlib,zlib-fast", help="of zlib, zlib-fast, zstd, none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work-dir", default=None, help="where tree and repositories are put")
    parser.add_argument("--known", nargs=2, metavar=("TREE", "SITE"), help=argparse.SUPPRESS)
    parser.add_argument("--look", nargs=2, metavar=("TREE", "SITE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.known or chosen.look:
        print(json.dumps(publish_known(*chosen.known) if chosen.known else publish_all(*chosen.look)))
        return
    with tempfile.TemporaryDirectory(prefix="cvfs-bench-", dir=chosen.work_dir) as directory:
        print(json.dumps(measure(Path(directory), chosen)))


def measure(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """One record."""
    tree = place / "tree"
    make_many(tree, chosen.entries)
    # Files that were changed just before the first publish would have to be read again.
    time.sleep(3)
    record: dict[str, Any] = setting(place) | {
        "benchmark": "incremental",
        "entries": chosen.entries,
        "changed": CHANGED,
    }
    for compression in chosen.compressions.split(","):
        site = Site(str(place / compression))
        mkfs(site, dataclasses.replace(default_settings(site, FQRN), compression=compression))
        record[compression] = rounds(tree, site, chosen.rounds)
    find = min(find_seconds(tree) for _ in range(chosen.rounds))
    return record | {"find_seconds": round(find, 2)}


def rounds(tree: Path, site: Site, count: int) -> dict[str, Any]:
    """The first publish, then ten files at a time: a look at all must come first, it goes by the last look."""
    record = {"first": in_another_process(__file__, "--look", str(tree), site.root)}
    for how in ("look", "known"):
        records = []
        for _ in range(count):
            change(tree, CHANGED)
            records.append(in_another_process(__file__, f"--{how}", str(tree), site.root))
        record[how] = min(records, key=lambda one: float(one["seconds"]))
        record[how]["all_seconds"] = [one["seconds"] for one in records]
    return record


class Changed:
    """Files of a tree that are known to have changed, with the directories above them. A `Source`."""

    def __init__(self, tree: bytes, paths: list[bytes]) -> None:
        self._tree = tree
        self._below: dict[bytes, set[bytes]] = {}
        for path in paths:
            names = path.split(b"/")
            for level in range(1, len(names)):
                self._below.setdefault(b"/".join(names[:level]), set()).add(names[level])

    def root(self) -> None:
        """As it is published."""

    def edit(self, path: bytes) -> DirectoryEdit:
        entries = [self._entry(path + b"/" + name, name) for name in sorted(self._below[path])]
        return DirectoryEdit(entries, complete=False)

    def place(self, path: bytes) -> Place:
        return Place(self._tree + path)

    def attributes(self, _path: bytes) -> None:
        """None are used here."""

    def _entry(self, path: bytes, name: bytes) -> ScannedEntry:
        status = os.lstat(self._tree + path)
        mtime = divmod(status.st_mtime_ns, 10**9)
        return ScannedEntry(
            name, status.st_mode, status.st_size, *mtime, status.st_uid, status.st_gid, status.st_ctime_ns
        )


def publish_known(tree: str, root: str) -> dict[str, Any]:
    started = time.monotonic()
    named = [path_of(Path(), number) for number in range(CHANGED)]
    source = Changed(os.fsencode(tree), [b"/" + os.fsencode(path) for path in named])
    return figures(publish(Site(root), FQRN, lambda _base: Contribution(source)), started)


def publish_all(tree: str, root: str) -> dict[str, Any]:
    started = time.monotonic()
    return figures(publish_tree(Site(root), FQRN, os.fsencode(tree), PublishOptions()), started)


def figures(report: PublishReport, started: float) -> dict[str, Any]:
    record = costs(started, max(2, os.cpu_count() or 1))
    return record | {"revision": report.revision, "changed": report.modified, "bytes_read": report.bytes_in}


if __name__ == "__main__":
    main()
