"""`make demo`: publishes a real experiment's software, serves it, mounts it, runs from the mount, and reports what happened.

Everything lies in `demo-area/` and is left there to look at, except the mount and the server.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.model import Unavailable
from benchmarks.trees import software
from benchmarks.trees.named import EXPERIMENT as PACKAGES

AREA = Path(__file__).resolve().parent.parent / "demo-area"
FQRN = "demo.cvfs.example"
ANALYSIS = Path(__file__).with_name("demo_analysis.py")
BIN = Path(sys.executable).parent
SERVER_START_PATIENCE = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, default=200, help="events to generate")
    parser.add_argument("--compression", default="zlib", help="zlib, zlib-fast or zstd")
    chosen = parser.parse_args()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("demo: /dev/fuse is missing or not allowed here: load the fuse module, or run where FUSE may be used")
        return 1
    say("1. Install a software stack with pip into a tree: " + " ".join(PACKAGES))
    try:
        tree = software_tree(AREA / "tree")
    except Unavailable as error:
        print(f"demo: {error}")
        return 1
    say("2. Create a repository and publish the tree")
    fresh(AREA / "site")
    command("cvfs-server", "mkfs", "-Z", chosen.compression, FQRN)
    publishing = json.loads(
        command("cvfs-server", "publish", "--json", "--from", str(tree), "-a", "v1", "-m", "demo", FQRN)
    )
    with server() as url:
        say(f"3. Mount it from {url} and generate {chosen.events} events with the interpreter from the mount")
        runs = [run_from_mount(url, chosen.events, name) for name in ("cold", "warm")]
        report(publishing, runs)
    return 0


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def software_tree(tree: Path) -> Path:
    """A Python interpreter with its library and the packages, as an experiment would lay it out; made once."""
    done = tree / ".complete"
    if done.exists():
        print(f"   {tree} is there already")
        return tree
    fresh(tree)
    software.with_packages(*PACKAGES)(tree)
    shutil.copy2(ANALYSIS, tree / "bin" / "analysis.py")
    done.touch()
    return tree


def fresh(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def command(*words: str) -> str:
    """Run one of our commands the way a user would, show it, return what it printed."""
    print("   $ " + " ".join(words), flush=True)
    environment = {**os.environ, "CVFS_ROOT": str(AREA / "site")}
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"demo: {words[0]} {words[1]} failed with exit status {done.returncode}")
    return done.stdout


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The embedded HTTP server, in a process of its own; yields the repository's URL."""
    environment = {**os.environ, "CVFS_ROOT": str(AREA / "site")}
    words = [str(BIN / "cvfs-server"), "serve", "--port", "0"]
    print("   $ cvfs-server serve --port 0 &", flush=True)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        base = process.stdout.readline().split()[-1].rstrip("/")
        yield f"{base}/{FQRN}"
    finally:
        process.terminate()
        process.wait(timeout=SERVER_START_PATIENCE)


def run_from_mount(url: str, events: int, name: str) -> Mapping[str, float]:
    """Mount with the cache as the last run left it, run the program from the mount, unmount."""
    mountpoint, cache = AREA / "cvmfs" / FQRN, AREA / "cache"
    if name == "cold":
        # The repository was made anew with new keys: what an earlier demo remembers of it does not count.
        for directory in (cache, cache.with_name("cache.trust")):
            shutil.rmtree(directory, ignore_errors=True)
    mountpoint.mkdir(parents=True, exist_ok=True)
    key = AREA / "site" / "etc" / "cvmfs" / "keys" / f"{FQRN}.pub"
    command("cvfs", "mount", url, str(mountpoint), "-k", str(key), "-c", str(cache))
    try:
        seconds = run_program(mountpoint, events)
        state = json.loads(command("cvfs", "stat", "--json", str(mountpoint)))
    finally:
        command("cvfs", "umount", str(mountpoint))
    return {
        "seconds": seconds,
        "fetched": state["fetched"],
        "received": state["received"],
        "opened": state["objects_opened"],
    }


def run_program(mountpoint: Path, events: int) -> float:
    """Start the analysis with interpreter, library and packages from the mount; nothing of this machine's Python."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(AREA),
        "PYTHONHOME": str(mountpoint),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": str(mountpoint / "lib"),
    }
    words = [str(mountpoint / "bin" / "python3"), str(mountpoint / "bin" / "analysis.py"), str(events), str(AREA)]
    started = time.monotonic()
    subprocess.run(words, env=environment, check=True, cwd=AREA)
    return time.monotonic() - started


def report(publishing: Mapping[str, float], runs: list[Mapping[str, float]]) -> None:
    say("What happened")
    entries, seconds = publishing["entries"], publishing["seconds"]
    rows = [
        ("entries published", f"{entries:,.0f} in {publishing['catalogs']:.0f} catalogs"),
        ("bytes in the tree", megabytes(publishing["bytes_in"])),
        ("stored, compressed and deduplicated", megabytes(publishing["bytes_stored"])),
        ("publish rate", f"{entries / seconds:,.0f} entries/s, {publishing['bytes_in'] / seconds / 1e6:,.0f} MB/s"),
    ]
    for name, run in zip(("cold run", "warm run"), runs, strict=True):
        hits = 1 - min(1.0, run["fetched"] / max(1, run["opened"]))
        rows.append((f"{name}: time", f"{run['seconds']:.1f} s"))
        rows.append((f"{name}: fetched", f"{run['fetched']:,.0f} objects, {megabytes(run['received'])}"))
        rows.append((f"{name}: cache hits", f"{hits:.0%} of {run['opened']:,.0f} objects opened"))
    for name, value in rows:
        print(f"   {name:<38} {value}")


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
