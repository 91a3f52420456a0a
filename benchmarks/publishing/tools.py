"""The ordinary tools that publishers are measured beside; each takes as long as whoever knows nothing better waits."""

import shlex
import subprocess
from pathlib import Path

from benchmarks.model import Sample
from benchmarks.publishing.programs import run


def copy(tree: Path, target: Path) -> Sample:
    """`cp -a`."""
    return run(["cp", "-a", str(tree), str(target)]).sample()


def archive(tree: Path, target: Path) -> Sample:
    """`tar | zstd -3`."""
    pipe = f"tar -cf - -C {shlex.quote(str(tree))} . | zstd -3 -q -o {shlex.quote(str(target))}"
    return run(["bash", "-o", "pipefail", "-c", pipe]).sample(bytes_stored=target.stat().st_size)


def extract(tar: Path, target: Path) -> Sample:
    """`tar -x`."""
    target.mkdir()
    return run(["tar", "-xf", str(tar), "-C", str(target)]).sample()


def find(tree: Path) -> Sample:
    """`find` that asks for the attributes of everything."""
    return run(["find", str(tree), "-size", "+99999999c"]).sample()


def remove(tree: Path) -> Sample:
    """`rm -r`."""
    return run(["rm", "-r", str(tree)]).sample()


def read_once(tree: Path) -> None:
    """From then on all contestants find the tree in the kernel's memory, the first one, too."""
    with subprocess.Popen(["tar", "-cf", "-", "-C", tree, "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["cat"], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)


def pack(tree: Path, target: Path) -> Path:
    """The tree as an archive."""
    subprocess.run(["tar", "-cf", target, "-C", tree, "."], check=True)
    return target
