"""A mount by cvfs, native or by fusepy, with any settings; each sample has a mount of its own unless it is to be hot."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import CVFS, environment
from benchmarks.model import Link, State, Unavailable
from benchmarks.network.link import connected
from benchmarks.targets import control
from benchmarks.targets.mounted import MountPlace, prepare, serving
from benchmarks.targets.site import FQRN, Site, published, url_of
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree

_QUOTA = "20000"


@dataclass(frozen=True, slots=True)
class CvfsMount:
    """`options` are settings as after -o; compression is that of the repository."""

    surroundings: Surroundings
    name: str = "cvfs"
    binding: str = "native"
    options: tuple[str, ...] = ()
    compression: str = "zlib"

    def hold(self, tree: Tree) -> None:
        """Published."""
        published(tree, self.surroundings, self.compression)

    @contextlib.contextmanager
    def place(self, tree: Tree, state: State, link: Link) -> Iterator[MountPlace]:
        """The cache is this target's alone, one for each tree. Raises Unavailable where nothing can be mounted."""
        if not Path("/dev/fuse").exists():
            raise Unavailable("there is no /dev/fuse here")
        site = published(tree, self.surroundings, self.compression)
        cache = self._area(tree) / "cache"
        prepare(site, cache, state)
        work, mountpoint = self.surroundings.work, self._area(tree) / "mnt"
        with contextlib.ExitStack() as stack:
            end = stack.enter_context(connected(site.directory, link, self._area(tree) / "server", work))
            words = self.words(url_of(end), mountpoint, site, cache, "-f", "-q", _QUOTA)
            pid = stack.enter_context(serving(words, mountpoint, environment(work), self._area(tree) / "client.log"))
            yield MountPlace(mountpoint, pid, end, lambda: control.state(cache / f"cvmfs_io.{FQRN}")["requests"])

    def _area(self, tree: Tree) -> Path:
        """Names of targets hold settings, which may hold anything. A tree of another version is another repository."""
        name = "".join(letter if letter.isalnum() or letter in "-_.=" else "_" for letter in self.name)
        return self.surroundings.work / "clients" / name / f"{tree.name}-{tree.version}"

    def words(self, url: str, mountpoint: Path, site: Site, cache: Path, *more: str) -> list[str]:
        """The command that mounts, with more options."""
        words = [*CVFS, "mount", url, str(mountpoint), "-k", str(site.key), "-c", str(cache), *more]
        words += ["--fuse-binding", self.binding, "-p", "DIRECT"]
        for option in self.options:
            words += ["-o", option]
        return words
