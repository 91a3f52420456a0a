"""A tree as a published repository, kept in the work directory for later runs; who reads it is not its matter."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import CVFS_SERVER, called
from benchmarks.model import Failed, Unavailable
from benchmarks.network.link import Connected
from benchmarks.network.serving import HOST
from benchmarks.targets import kernel_caches
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree

FQRN = "bench.example.org"
_DAYS = "3650"
_TTL = "604800"
"""A client that looks for something newer while it is measured would be measured doing that."""


@dataclass(frozen=True, slots=True)
class Site:
    """Below `directory` as below the root of a publisher's machine."""

    directory: Path

    @property
    def storage(self) -> Path:
        """What clients get."""
        return self.directory / "srv/cvmfs" / FQRN

    @property
    def key(self) -> Path:
        """The master key, which clients trust."""
        return self.directory / "etc/cvmfs/keys" / f"{FQRN}.pub"


def published(tree: Tree, surroundings: Surroundings, compression: str) -> Site:
    """The repository, published if it is not there yet. Raises Unavailable."""
    source = surroundings.tree(tree)
    directory = surroundings.work / "sites" / f"{tree.name}-{tree.version}-{compression}"
    # A tree's name may have a dot in it.
    marker = directory.with_name(f"{directory.name}.complete")
    if not marker.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            _publish(source, directory, compression, surroundings.work)
        except Failed as error:
            raise Unavailable(f"{tree.name} cannot be published: {error}") from error
        marker.touch()
    return Site(directory)


def _publish(source: Path, directory: Path, compression: str, work: Path) -> None:
    root = ("--root", directory)
    called([*CVFS_SERVER, "mkfs", *root, "-Z", compression, "--days", _DAYS, "--ttl", _TTL, FQRN], work)
    called([*CVFS_SERVER, "publish", *root, "--from", source, FQRN], work)


def url_of(end: Connected) -> str:
    """What a client is told."""
    return f"http://{HOST}:{end.port}/cvmfs/{FQRN}"


def warmed(site: Site) -> None:
    """The server has everything in memory, as one has that serves many clients."""
    kernel_caches.fill(site.storage)
