"""Resident memory of a mount: idle, after `find` over 100,000 entries, after a million look-ups; and the time to mount.

Prints one JSON record: memory in MB (of the mount's process, as in VmRSS), seconds. Needs root and /dev/fuse.

    python benchmarks/memory.py
"""

import argparse
import contextlib
import dataclasses
import functools
import http.server
import json
import os
import platform
import resource
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvfs_server.founding.mkfs import mkfs
from cvfs_server.publication import PublishOptions
from cvfs_server.settings import default_settings
from cvfs_server.site import Site
from cvfs_server.ways.tree import publish_tree as publish

FQRN = "bench.example.org"
CATALOGS = 20
DIRECTORIES = 50
CVFS = (sys.executable, "-c", "import sys; from cvfs_tools.cvfs_command import main; main(prog_name='cvfs')")
ATTEMPTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--lookups", type=int, default=1_000_000)
    parser.add_argument("--work-dir", default=None)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cvfs-bench-", dir=chosen.work_dir) as directory:
        print(json.dumps(measure(Path(directory), chosen)))


def measure(place: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """One record: the mount that is measured has its root catalog in the cache, as after any reboot but the first."""
    tree, storage = place / "tree", place / "site/srv/cvmfs"
    entries = make_tree(tree, chosen.entries)
    release(place)
    with serving(storage) as url:
        first = mount_seconds(place, url)
        again = [mount_seconds(place, url) for _ in range(ATTEMPTS)]
        with mounted(place, url) as (mountpoint, pid):
            idle = memory(pid)
            found = subprocess.run(["find", mountpoint, "-size", "+1c"], check=True, capture_output=True).stdout
            after_find = memory(pid)
            seconds = look_up(mountpoint, tree, chosen.lookups)
            after_lookups, peak = memory(pid), memory(pid, "VmHWM")
    return {
        "benchmark": "memory",
        "commit": output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
        "machine": machine(),
        "entries": entries,
        "found": len(found.splitlines()),
        "lookups": chosen.lookups,
        "lookup_seconds": round(seconds, 1),
        "idle": idle,
        "after_find": after_find,
        "after_lookups": after_lookups,
        "peak": peak,
        "mount_seconds_empty_cache": round(first[0], 2),
        "mount_seconds": sorted(round(seconds, 2) for seconds, _ in again),
        "mount_processor_seconds": sorted(round(seconds, 2) for _, seconds in again),
    }


def make_tree(tree: Path, entries: int) -> int:
    """Small files in directories of equal size, in nested catalogs; the number of entries."""
    count = 0
    for catalog in range(CATALOGS):
        for number in range(DIRECTORIES):
            directory = tree / f"package{catalog:02}" / f"module{number:02}"
            directory.mkdir(parents=True)
            for name in range(entries // (CATALOGS * DIRECTORIES) - 1):
                (directory / f"file_number_{name}.py").write_bytes(b"# %d\n" % (count % 1000))
                count += 1
        (tree / f"package{catalog:02}/.cvmfscatalog").touch()
    return count + CATALOGS * (DIRECTORIES + 2)


def release(place: Path) -> None:
    """In another process: what publishing leaves in memory is nobody's matter here."""
    pid = os.fork()
    if pid == 0:
        site = Site(str(place / "site"))
        mkfs(site, dataclasses.replace(default_settings(site, FQRN), compression="zlib-fast"))
        publish(site, FQRN, os.fsencode(place / "tree"), PublishOptions())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@contextlib.contextmanager
def serving(storage: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(storage))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{FQRN}"
        server.shutdown()


@contextlib.contextmanager
def mounted(place: Path, url: str) -> Iterator[tuple[str, int]]:
    """Mount point and process."""
    mountpoint = place / "mnt"
    mountpoint.mkdir(exist_ok=True)
    key = Site(str(place / "site")).key(FQRN, "pub")
    command = [*CVFS, "mount", url, str(mountpoint), "-k", key, "-c", str(place / "cache")]
    # An installed program has its bytecode, whatever this environment says of writing any.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept |= {"PYTHONPATH": ":".join(sys.path), "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    subprocess.run(command, check=True, env=kept)
    pid = int(os.getxattr(mountpoint, "user.pid"))
    descriptor = os.pidfd_open(pid)
    try:
        yield str(mountpoint), pid
    finally:
        subprocess.run(["umount", "-l", mountpoint], check=True)
        ended = select.select([descriptor], [], [], 30)[0]
        os.close(descriptor)
        assert ended, "the mount does not end"


def mount_seconds(place: Path, url: str) -> tuple[float, float]:
    """From the command to its return, by when the kernel can use the mount; the processor's share of both processes."""
    started, before = time.monotonic(), processor_seconds()
    with mounted(place, url) as (_, pid):
        return time.monotonic() - started, processor_seconds() - before + processor_seconds_of(pid)


def processor_seconds() -> float:
    """Of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def processor_seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def look_up(mountpoint: str, tree: Path, count: int) -> float:
    """Half of the names exist; the others do not, and are all different."""
    names = [str(path.relative_to(tree)) for path in tree.glob("*/*/*")]
    started = time.monotonic()
    for number in range(count // 2):
        name = names[number % len(names)]
        os.stat(f"{mountpoint}/{name}")
        assert not os.path.exists(f"{mountpoint}/{name}.{number}")
    return time.monotonic() - started


def memory(pid: int, field: str = "VmRSS") -> float:
    """In MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000, 1)


def machine() -> str:
    """What a figure means nothing without."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = processors[0].partition(":")[2].strip() if processors else platform.machine()
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def output(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
