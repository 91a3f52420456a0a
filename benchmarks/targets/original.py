"""A mount by the original client, `cvmfs2`, where it is installed, of the same repositories; it installs nothing."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import environment
from benchmarks.model import Failed, Link, State, Unavailable
from benchmarks.network.link import connected
from benchmarks.targets import control
from benchmarks.targets.mounted import MountPlace, is_mounted, prepare, unmount, wait_gone
from benchmarks.targets.site import FQRN, Site, published, url_of
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree

_PROGRAM = "cvmfs2"
_PATIENCE = 60.0
_CONFIGURATION = """\
CVMFS_CACHE_BASE={cache}
CVMFS_SHARED_CACHE=no
CVMFS_RELOAD_SOCKETS={cache}
CVMFS_SERVER_URL={url}
CVMFS_HTTP_PROXY=DIRECT
CVMFS_PUBLIC_KEY={key}
CVMFS_QUOTA_LIMIT=20000
"""


@dataclass(frozen=True, slots=True)
class Original:
    """As it comes, with a private cache. Its repositories are compressed by zlib, which it can read."""

    surroundings: Surroundings
    name: str = "cvmfs2"

    def hold(self, tree: Tree) -> None:
        """Published by cvfs. Raises Unavailable where there is no original."""
        if shutil.which(_PROGRAM) is None:
            raise Unavailable(f"{_PROGRAM} is not installed here")
        published(tree, self.surroundings, "zlib")

    @contextlib.contextmanager
    def place(self, tree: Tree, state: State, link: Link) -> Iterator[MountPlace]:
        """The cache is this target's alone, one for each tree."""
        site = published(tree, self.surroundings, "zlib")
        area = self.surroundings.work / "clients" / self.name / f"{tree.name}-{tree.version}"
        prepare(site, area / "cache", state)
        work = self.surroundings.work
        with (
            connected(site.directory, link, area / "server", work) as end,
            _mounted(self.words(url_of(end), area / "mnt", site, area / "cache"), work) as pid,
        ):
            yield MountPlace(area / "mnt", pid, end, lambda: control.operations(_socket(area / "cache")))

    def words(self, url: str, mountpoint: Path, site: Site, cache: Path) -> list[str]:
        """The command that mounts; what it is configured with lies beside its cache from now on."""
        settings = cache.with_name("client.conf")
        settings.write_text(configuration(cache, url, site.key))
        return [_PROGRAM, "-o", f"config={settings}", FQRN, str(mountpoint)]


def configuration(cache: Path, url: str, key: Path) -> str:
    """The file that the original is given; every line is a setting of a client's configuration."""
    return _CONFIGURATION.format(cache=cache, url=url, key=key)


@contextlib.contextmanager
def _mounted(words: list[str], work: Path) -> Iterator[int]:
    """It goes to the background when it is mounted; the number of the process that stays is asked of the mount."""
    mountpoint, pid = Path(words[-1]), 0
    mountpoint.mkdir(parents=True, exist_ok=True)
    try:
        _start(words, work)
        pid = int(os.getxattr(mountpoint, "user.pid"))
        yield pid
    finally:
        unmount(mountpoint)
        if pid:
            wait_gone(pid)


def _start(words: list[str], work: Path) -> None:
    try:
        subprocess.run(
            words,
            env=environment(work),
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"{_PROGRAM}: the mount did not come to be: {error}") from error
    if not is_mounted(Path(words[-1])):
        raise Failed(f"{_PROGRAM}: nothing is mounted at {words[-1]}")


def _socket(cache: Path) -> Path:
    """A private cache is a directory of the repository's name below the base."""
    return next(cache.rglob(f"cvmfs_io.{FQRN}"), cache / f"cvmfs_io.{FQRN}")
