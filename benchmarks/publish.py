"""Publish a tree of many small files, and again with ten of them changed; measured against `cp -a` of the same tree.

Prints one JSON record: seconds, entries per second, memory in MB (publisher, largest worker), ratio to `cp -a` in the same run.

    python benchmarks/publish.py --compression zstd
"""

import argparse
import dataclasses
import json
import os
import platform
import random
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from cvfs_server.mkfs import mkfs
from cvfs_server.publish import PublishOptions
from cvfs_server.publish_tree import publish_tree as publish
from cvfs_server.settings import default_settings
from cvfs_server.site import Site

FQRN = "bench.example.org"
CATALOGS = 50
DIRECTORIES = 40
MEAN_SIZE = 4110
CHANGED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--compression", default="zlib", help="zlib, zlib-fast, zstd or none")
    parser.add_argument("--work-dir", default=None, help="where tree, copy and repository are put; a gigabyte or two")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--publish", metavar="DIR", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.publish:
        print(json.dumps(publish_once(Path(chosen.publish), chosen.workers)))
        return
    with tempfile.TemporaryDirectory(prefix="cvfs-bench-", dir=chosen.work_dir) as directory:
        print(json.dumps(measure(Path(directory), chosen)))


def measure(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """One record. Each step begins with nothing left to be written by the one before."""
    size = make_tree(place / "tree", chosen.files)
    site = Site(str(place / "site"))
    mkfs(site, dataclasses.replace(default_settings(site, FQRN), compression=chosen.compression))
    copied = [copy(place, "copy")]
    first = in_another_process(place, chosen)
    copied.append(copy(place, "another copy"))
    change(place / "tree", chosen.files)
    again = in_another_process(place, chosen)
    # Whatever else the machine does can only slow a copy down.
    cp = min(copied)
    return {
        "benchmark": "publish",
        "commit": output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
        "machine": machine(place),
        "compression": chosen.compression,
        "files": chosen.files,
        "bytes": size,
        "catalogs": CATALOGS,
        "cp_seconds": [round(seconds, 2) for seconds in copied],
        "publish": first | {"ratio_to_cp": round(first["seconds"] / cp, 2)},
        "publish_ten_changed": again | {"ratio_to_cp": round(again["seconds"] / cp, 2)},
    }


def make_tree(tree: Path, files: int) -> int:
    """Sources of Python's library in pieces of any length, in directories of equal size; the number of bytes."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(path.read_bytes() for path in library)
    choose, size = random.Random(1), 0
    for number in range(files):
        place = path_of(tree, number)
        if number < CATALOGS * DIRECTORIES:
            place.parent.mkdir(parents=True)
        length = min(int(choose.expovariate(1 / MEAN_SIZE)), 100_000)
        start = choose.randrange(len(text) - length)
        place.write_bytes(b"# %d\n" % number + text[start : start + length])
        size += length + len(b"# %d\n" % number)
    for catalog in {path_of(tree, number).parents[1] for number in range(min(files, CATALOGS))}:
        (catalog / ".cvmfscatalog").touch()
    return size


def path_of(tree: Path, number: int) -> Path:
    """Neighbours in number lie in different catalogs."""
    rest, catalog = divmod(number, CATALOGS)
    name, directory = divmod(rest, DIRECTORIES)
    return tree / f"package{catalog:02}" / f"module{directory:02}" / f"file{name}.py"


def change(tree: Path, files: int) -> None:
    """Ten files, in ten catalogs."""
    for number in range(min(CHANGED, files)):
        with path_of(tree, number).open("ab") as file:
            file.write(b"changed\n")


def copy(place: Path, name: str) -> float:
    """Nothing is removed before the end: ext4 is slow to make files for seconds after others were removed."""
    os.sync()
    started = time.monotonic()
    subprocess.run(["cp", "-a", place / "tree", place / name], check=True)
    return time.monotonic() - started


def in_another_process(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Memory is counted by process."""
    os.sync()
    workers = ["--workers", str(chosen.workers)] if chosen.workers else []
    command = [sys.executable, __file__, "--publish", str(place), *workers]
    done = subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def publish_once(place: Path, workers: int | None) -> dict[str, Any]:
    tree = os.fsencode(place / "tree")
    started = time.monotonic()
    report = publish(Site(str(place / "site")), FQRN, tree, PublishOptions(workers=workers))
    seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 2),
        "entries_per_second": int(report.contents.entries / seconds),
        "bytes_read": report.bytes_in,
        "bytes_stored": report.bytes_stored,
        "cpu_seconds": round(
            sum(processor_seconds(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)), 2
        ),
        "memory_publisher": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "memory_largest_worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def processor_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def machine(place: Path) -> str:
    """What a figure means nothing without."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = processors[0].partition(":")[2].strip() if processors else platform.machine()
    kind = output("stat", "-f", "-c", "%T", str(place))
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {kind}"


def output(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
