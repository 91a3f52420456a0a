"""Check every object of a repository of many small files in 50 nested catalogs; measured against `cp -a` of the same tree.

Prints one JSON record: seconds and processor seconds of `check -i`, of `check`, and of `check -i` that believes the one before;
ratios to `cp -a`. All take turns, several rounds; the best of each counts.

    python benchmarks/check.py --work-dir /somewhere/with/three/gigabytes
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
from measuring import CATALOGS, copy_seconds, costs, in_another_process, make_tree, setting

from cvfs_server.check.check import CheckOptions, check
from cvfs_server.check.memory import NEVER
from cvfs_server.check.runs import remembering
from cvfs_server.founding.mkfs import mkfs
from cvfs_server.repository import PublishedRepository, reading
from cvfs_server.settings import default_settings
from cvfs_server.site import Site
from cvfs_server.ways.tree import publish_tree

FQRN = "bench.example.org"
# The original needed 17.9 s where `cp -a` of such a tree took 5.1 s.
ORIGINAL_TO_CP = 3.51
VARIANTS = ("integrity", "existence", "believing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--compression", default="zlib", help="zlib, zlib-fast, zstd or none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work-dir", default=None, help="where tree, copies and repository are put")
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 1))
    parser.add_argument("--check", nargs=2, metavar=("SITE", "VARIANT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.check:
        print(json.dumps(check_once(*chosen.check, chosen.workers)))
        return
    with tempfile.TemporaryDirectory(prefix="cvfs-bench-", dir=chosen.work_dir) as directory:
        print(json.dumps(measure(Path(directory), chosen)))


def measure(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """One record."""
    size = make_tree(place / "tree", chosen.files)
    site = Site(str(place / "site"))
    mkfs(site, dataclasses.replace(default_settings(site, FQRN), compression=chosen.compression))
    publish_tree(site, FQRN, os.fsencode(place / "tree"))
    copied: list[float] = []
    records: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for number in range(chosen.rounds):
        copied.append(round(copy_seconds(place / "tree", place / f"copy{number}"), 2))
        for variant, found in records.items():
            arguments = ("--workers", str(chosen.workers), "--check", site.root, variant)
            found.append(in_another_process(__file__, *arguments))
    return {
        "benchmark": "check",
        **setting(place),
        "compression": chosen.compression,
        "files": chosen.files,
        "bytes": size,
        "catalogs": CATALOGS,
        "cp_seconds": copied,
        "original_to_cp": ORIGINAL_TO_CP,
        "check": {variant: best(found, min(copied)) for variant, found in records.items()},
    }


def best(records: list[dict[str, Any]], copy: float) -> dict[str, Any]:
    """The fastest one, and how it compares."""
    fastest = min(records, key=lambda record: float(record["seconds"]))
    seconds = [record["seconds"] for record in records]
    return fastest | {"all_seconds": seconds, "ratio_to_cp": round(fastest["seconds"] / copy, 2)}


def check_once(root: str, variant: str, workers: int) -> dict[str, Any]:
    """One check, which has to find nothing."""
    started = time.monotonic()
    repository = PublishedRepository.open(Site(root), FQRN)
    with reading(repository.settings) as scratch:
        if variant == "existence":
            findings = list(check(repository.storage, repository.manifest, CheckOptions(workers=workers), scratch))
        else:
            since = 0.0 if variant == "believing" else NEVER
            with remembering(repository.settings, since=since) as memory:
                options = CheckOptions(integrity=True, workers=workers, memory=memory)
                findings = list(check(repository.storage, repository.manifest, options, scratch))
    assert not findings, findings[:3]
    return costs(started, workers)


if __name__ == "__main__":
    main()
