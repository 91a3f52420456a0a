"""Publish a tree of many small files in 50 nested catalogs; measured against `cp -a` and `tar | zstd -3` of the same tree.

Prints one JSON record: seconds and processor seconds, memory in MB, bytes stored, ratios to the ordinary tools. All take turns,
several rounds; the best of each counts, because whatever else the machine does can only slow it down.

    python benchmarks/publish.py --work-dir /somewhere/with/five/gigabytes
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
from measuring import (
    CATALOGS,
    archive_seconds,
    copy_seconds,
    costs,
    in_another_process,
    make_tree,
    setting,
)

from cvfs_server.founding.mkfs import mkfs
from cvfs_server.publication import PublishOptions
from cvfs_server.settings import default_settings
from cvfs_server.site import Site
from cvfs_server.ways.tree import publish_tree

FQRN = "bench.example.org"
COMPRESSIONS = ("zstd", "zlib-fast", "zlib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--compressions", default=",".join(COMPRESSIONS), help="of zlib, zlib-fast, zstd, none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--work-dir", default=None, help="where trees, copies and repositories are put; a gigabyte a round"
    )
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 1))
    parser.add_argument("--markdown", action="store_true", help="a table instead of JSON")
    parser.add_argument("--publish", nargs=2, metavar=("TREE", "SITE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.publish:
        print(json.dumps(publish_once(*chosen.publish, chosen.workers)))
        return
    with tempfile.TemporaryDirectory(prefix="cvfs-bench-", dir=chosen.work_dir) as directory:
        record = measure(Path(directory), chosen)
    print(table(record) if chosen.markdown else json.dumps(record))


def measure(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """One record. Nothing is removed before the end: ext4 is slow to make files for minutes after others were removed."""
    tree = place / "tree"
    size = make_tree(tree, chosen.files)
    copies, archives = [], []
    publishes: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen.compressions.split(",")}
    for number in range(chosen.rounds):
        copies.append(copy_seconds(tree, place / f"copy{number}"))
        archives.append(archive_seconds(tree, place / f"archive{number}"))
        for name, records in publishes.items():
            records.append(publish_anew(tree, place / f"{name}{number}", name, chosen.workers))
    return setting(place) | {
        "benchmark": "publish",
        "files": chosen.files,
        "bytes": size,
        "catalogs": CATALOGS,
        "workers": chosen.workers,
        "cp_seconds": [round(seconds, 2) for seconds in copies],
        "tar_zstd_seconds": [round(seconds, 2) for seconds in archives],
        "tar_zstd_bytes": (place / "archive0").stat().st_size,
        "publish": {name: best(records, min(copies), min(archives)) for name, records in publishes.items()},
    }


def publish_anew(tree: Path, place: Path, compression: str, workers: int) -> dict[str, Any]:
    """A new repository with this tree."""
    site = Site(str(place))
    mkfs(site, dataclasses.replace(default_settings(site, FQRN), compression=compression))
    return in_another_process(__file__, "--workers", str(workers), "--publish", str(tree), str(place))


def publish_once(tree: str, place: str, workers: int) -> dict[str, Any]:
    started = time.monotonic()
    report = publish_tree(Site(place), FQRN, os.fsencode(tree), PublishOptions(workers=workers))
    record = costs(started, workers)
    return record | {
        "entries": report.contents.entries,
        "bytes_read": report.bytes_in,
        "bytes_stored": report.bytes_stored,
    }


def best(records: list[dict[str, Any]], copy: float, archive: float) -> dict[str, Any]:
    """The fastest one, and how it compares."""
    fastest = min(records, key=lambda record: float(record["seconds"]))
    return fastest | {
        "all_seconds": [record["seconds"] for record in records],
        "ratio_to_cp": round(fastest["seconds"] / copy, 2),
        "ratio_to_tar_zstd": round(fastest["seconds"] / archive, 2),
    }


def table(record: dict[str, Any]) -> str:
    """The record as lines for the documentation."""
    lines = [
        "| publish | seconds | to `cp -a` | to `tar \\| zstd -3` | CPU s | stored MB | memory MB |",
        "|---|---|---|---|---|---|---|",
        f"| `cp -a` | {min(record['cp_seconds'])} | 1 | | | {record['bytes'] // 10**6} | |",
        f"| `tar \\| zstd -3` | {min(record['tar_zstd_seconds'])} | | 1 | | {record['tar_zstd_bytes'] // 10**6} | |",
    ]
    for name, one in record["publish"].items():
        figures = (one["seconds"], one["ratio_to_cp"], one["ratio_to_tar_zstd"], one["cpu_seconds"])
        cells = " | ".join(str(figure) for figure in (*figures, one["bytes_stored"] // 10**6, one["memory_all"]))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
