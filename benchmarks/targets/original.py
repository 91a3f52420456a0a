"""A mount by the original client, `cvmfs2`, where it is installed, of the same repositories; it installs nothing."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import environment
from benchmarks.measuring.processes import has_gone
from benchmarks.model import Failed, Link, State, Unavailable
from benchmarks.network.link import connected
from benchmarks.targets import control, kernel_caches
from benchmarks.targets.mounted import MountPlace, emptied, is_mounted, unmount
from benchmarks.targets.site import FQRN, Site, published, url_of, warmed
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree

_PROGRAM = "cvmfs2"
_PATIENCE = 60.0
_PAUSE = 0.05
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
        _prepare(site, area / "cache", state)
        work = self.surroundings.work
        with (
            connected(site.directory, link, area / "server", work) as end,
            _mounted(area, url_of(end), site, work) as pid,
        ):
            yield MountPlace(area / "mnt", pid, end, lambda: control.operations(_socket(area / "cache")))


def configuration(cache: Path, url: str, key: Path) -> str:
    """The file that the original is given; every line is a setting of a client's configuration."""
    return _CONFIGURATION.format(cache=cache, url=url, key=key)


def _prepare(site: Site, cache: Path, state: State) -> None:
    if state is State.COLD:
        emptied(cache)
        warmed(site)
    elif state is State.WARM:
        kernel_caches.fill(cache)
    cache.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _mounted(area: Path, url: str, site: Site, work: Path) -> Iterator[int]:
    """It goes to the background when it is mounted; the number of the process that stays is asked of the mount."""
    mountpoint, settings = area / "mnt", area / "client.conf"
    mountpoint.mkdir(parents=True, exist_ok=True)
    settings.write_text(configuration(area / "cache", url, site.key))
    words = [_PROGRAM, "-o", f"config={settings}", FQRN, str(mountpoint)]
    pid = 0
    try:
        _start(words, work)
        pid = int(os.getxattr(mountpoint, "user.pid"))
        yield pid
    finally:
        unmount(mountpoint)
        _wait_gone(pid)


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


def _wait_gone(pid: int) -> None:
    """Raises Failed: who lives on shares the cache of the next sample."""
    deadline = time.monotonic() + _PATIENCE
    while pid and not has_gone(pid):
        if time.monotonic() > deadline:
            raise Failed(f"{_PROGRAM}: process {pid} has not ended {_PATIENCE:g} s after its mount")
        time.sleep(_PAUSE)


def _socket(cache: Path) -> Path:
    """A private cache is a directory of the repository's name below the base."""
    return next(cache.rglob(f"cvmfs_io.{FQRN}"), cache / f"cvmfs_io.{FQRN}")
