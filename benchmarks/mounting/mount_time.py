"""From the command that mounts until its mount can be listed, with an empty cache and with a full one; it reads no file."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import environment
from benchmarks.measuring.processes import taken
from benchmarks.model import Failed, Key, Link, Sample, State, Take, Unavailable
from benchmarks.network.link import connected
from benchmarks.publishing.programs import run
from benchmarks.targets.base import Target
from benchmarks.targets.cvfs_mount import CvfsMount
from benchmarks.targets.mounted import emptied, trust_beside, unmount, wait_gone
from benchmarks.targets.original import Original
from benchmarks.targets.site import published, url_of, warmed
from benchmarks.trees.base import Tree

_PATIENCE = 60.0
_WITH_DOTS = 3
"""What `ls -a` shows at least of a directory that is not empty."""


@dataclass(frozen=True, slots=True)
class MountTime:
    """COLD: the cache is empty. WARM: it has what an earlier mount left, as after every reboot but the first."""

    state: State
    tree: Tree
    targets: Sequence[Target]
    work_dir: Path

    @property
    def key(self) -> Key:
        return Key("mount", self.state)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Mapping[str, Take | Unavailable]]:
        yield {target.name: self._ready(target) for target in self.targets}

    def _ready(self, target: Target) -> Take | Unavailable:
        if not isinstance(target, CvfsMount | Original):
            return Unavailable("it is there already: nobody mounts it here")
        try:
            target.hold(self.tree)
            # Bytecode and, if it is to be full, the cache come from a mount that nobody counts.
            self._once(target)
        except (Unavailable, Failed, OSError) as error:
            return Unavailable(str(error))
        return lambda: self._once(target)

    def _once(self, target: CvfsMount | Original) -> Sample:
        area = self.work_dir / "clients" / "mount-time" / "".join(filter(str.isalnum, target.name))
        cache, mountpoint = area / "cache", area / "mnt"
        if self.state is State.COLD:
            emptied(cache, trust_beside(cache))
        for place in (cache, mountpoint):
            place.mkdir(parents=True, exist_ok=True)
        compression = target.compression if isinstance(target, CvfsMount) else "zlib"
        site = published(self.tree, target.surroundings, compression)
        warmed(site)
        with connected(site.directory, Link(), area / "server", self.work_dir) as end:
            words = target.words(url_of(end), mountpoint, site, cache)
            try:
                return _mounted(words, mountpoint, self.work_dir)
            finally:
                _end(mountpoint)


def _mounted(words: Sequence[str], mountpoint: Path, work_dir: Path) -> Sample:
    """The command returns when the mount is there; it can be used when it has been listed."""
    mounting, _ = run(words, work_dir, environment(work_dir), _PATIENCE)
    listing, _ = run(["ls", "-a", str(mountpoint)], work_dir, patience=_PATIENCE)
    if len(listing.printed.split()) < _WITH_DOTS:
        raise Failed(f"{mountpoint}: nothing is in it")
    client = taken(_client(mountpoint))
    figures = {
        "command_seconds": mounting.seconds,
        "client_cpu_seconds": client.cpu_seconds,
        "resident": float(client.resident),
    }
    cpu_seconds = mounting.cpu_seconds + client.cpu_seconds
    return Sample(mounting.seconds + listing.seconds, cpu_seconds, figures=figures)


def _client(mountpoint: Path) -> int:
    return int(os.getxattr(mountpoint, "user.pid"))


def _end(mountpoint: Path) -> None:
    """The next mount uses the same cache: this one has to be gone."""
    try:
        pid = _client(mountpoint)
    except OSError:
        unmount(mountpoint)
        return
    unmount(mountpoint)
    wait_gone(pid)
