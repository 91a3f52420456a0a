"""The ordinary tools that publishers are measured beside; each takes as long as whoever knows nothing better waits."""

import shlex
from pathlib import Path

from benchmarks.measuring.commands import called
from benchmarks.model import Sample
from benchmarks.publishing.programs import sample, with_figures


def copy(tree: Path, target: Path) -> Sample:
    """`cp -a`."""
    return sample(["cp", "-a", str(tree), str(target)], target.parent)


def archive(tree: Path, target: Path) -> Sample:
    """`tar | zstd -3`."""
    pipe = f"tar -cf - -C {shlex.quote(str(tree))} . | zstd -3 -q -o {shlex.quote(str(target))}"
    archived = sample(["bash", "-o", "pipefail", "-c", pipe], target.parent)
    return with_figures(archived, bytes_stored=target.stat().st_size)


def extract(tar: Path, target: Path) -> Sample:
    """`tar -x`."""
    target.mkdir()
    return sample(["tar", "-xf", str(tar), "-C", str(target)], target.parent)


def find(tree: Path) -> Sample:
    """`find` that asks for the attributes of everything."""
    return sample(["find", str(tree), "-size", "+99999999c"], tree.parent)


def remove(tree: Path) -> Sample:
    """`rm -r`."""
    return sample(["rm", "-r", str(tree)], tree.parent)


def read_once(tree: Path, work: Path) -> None:
    """From then on all contestants find the tree in the kernel's memory, the first one, too. Raises Failed."""
    called(["bash", "-o", "pipefail", "-c", 'tar -cf - -C "$1" . | tail -c 1', "bash", tree], work)


def pack(tree: Path, target: Path, work: Path) -> Path:
    """The tree as an archive. Raises Failed."""
    called(["tar", "-cf", target, "-C", tree, "."], work)
    return target


def duplicate(tree: Path, target: Path, work: Path) -> Path:
    """The same once more, which nobody counts. Raises Failed."""
    called(["cp", "-a", tree, target], work)
    return target
