"""What the benchmarks share: trees to be published, ordinary tools as a measure, processes whose costs are counted."""

import json
import os
import platform
import random
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CATALOGS = 50
DIRECTORIES = 40
MEAN_SIZE = 4110
_MARKER = ".cvmfscatalog"


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
        (catalog / _MARKER).touch()
    return size


def make_many(tree: Path, files: int) -> None:
    """The same directories with any number of files, whose contents are few: what counts is the names."""
    for number in range(files):
        place = path_of(tree, number)
        if number < CATALOGS * DIRECTORIES:
            place.parent.mkdir(parents=True)
        place.write_bytes(b"# %d\n" % (number % 1000))
    for catalog in tree.iterdir():
        (catalog / _MARKER).touch()


def path_of(tree: Path, number: int) -> Path:
    """Neighbours in number lie in different catalogs."""
    rest, catalog = divmod(number, CATALOGS)
    name, directory = divmod(rest, DIRECTORIES)
    return tree / f"package{catalog:02}" / f"module{directory:02}" / f"file{name}.py"


def change(tree: Path, count: int) -> list[Path]:
    """So many files get longer, each in another catalog; returns them."""
    changed = [path_of(tree, number) for number in range(count)]
    for path in changed:
        with path.open("ab") as file:
            file.write(b"changed\n")
    return changed


def copy_seconds(tree: Path, target: Path) -> float:
    """What `cp -a` takes."""
    return _seconds(lambda: subprocess.run(["cp", "-a", tree, target], check=True))


def archive_seconds(tree: Path, target: Path) -> float:
    """What `tar | zstd -3` takes."""
    command = f'tar -cf - -C "{tree}" . | zstd -3 -q -o "{target}"'
    return _seconds(lambda: subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True))


def find_seconds(tree: Path) -> float:
    """What it takes to ask for the attributes of everything in a tree."""
    return _seconds(lambda: subprocess.run(["find", tree, "-size", "+99999999c"], check=True))


def _seconds(work: Callable[[], object]) -> float:
    """Nothing waits to be written when the work begins."""
    os.sync()
    started = time.monotonic()
    work()
    return time.monotonic() - started


def in_another_process(script: str, *arguments: str) -> dict[str, Any]:
    """The record that a script prints. A process of its own, because memory is counted by process."""
    os.sync()
    command = [sys.executable, script, *arguments]
    environment = os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))}
    started = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    seconds = time.monotonic() - started
    record: dict[str, Any] = json.loads(done.stdout)
    return record | {"process_seconds": round(seconds, 2)}


def costs(started: float, workers: int) -> dict[str, float | int]:
    """Of this process and those that it started and that ended: seconds since `started`, processor seconds, memory in MB.

    The memory of all is counted as if nothing were shared and all peaks came at once.
    """
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    publisher, worker = own.ru_maxrss // 1024, children.ru_maxrss // 1024
    return {
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 2),
        "memory_publisher": publisher,
        "memory_largest_worker": worker,
        "memory_all": publisher + workers * worker,
    }


def setting(place: Path) -> dict[str, str]:
    """What a figure means nothing without: commit and machine."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = processors[0].partition(":")[2].strip() if processors else platform.machine()
    kind = _output("stat", "-f", "-c", "%T", str(place))
    return {
        "commit": _output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
        "machine": f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {kind}",
    }


def _output(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
