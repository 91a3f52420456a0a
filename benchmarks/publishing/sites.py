"""Repositories to be published into, each with a whole site of its own below one directory; measures nothing."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.commands import CVFS_SERVER, environment
from benchmarks.model import Sample
from benchmarks.publishing.programs import Ran, run

FQRN = "bench.example.org"
_CONFIGURATION = Path("etc/cvmfs/repositories.d", FQRN)
_COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class Site:
    """One repository. `work_dir` is where interpreters keep bytecode. Its verbs raise Failed."""

    root: Path
    work_dir: Path

    @property
    def storage(self) -> Path:
        """The published files."""
        return self.root / "srv/cvmfs" / FQRN

    @property
    def transaction(self) -> Path:
        """Where the open transaction is edited."""
        return self.root / "cvmfs" / FQRN

    @property
    def public_key(self) -> Path:
        """What clients trust."""
        return self.root / "etc/cvmfs/keys" / f"{FQRN}.pub"

    def create(self, compression: str) -> "Site":
        """An empty first revision; no tags of itself, so that nothing old is kept by name."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._run("mkfs", "--no-autotags", "--compression", compression)
        return self

    def publish(self, *options: str) -> Sample:
        """`cvfs-server publish`, with what it says of itself."""
        return _with_report(self._run("publish", "--json", *options))

    def ingest(self, archive: Path) -> Sample:
        """`cvfs-server ingest` of an archive into the top of the tree."""
        return _with_report(self._run("ingest", "--json", "--tar_file", str(archive), "--base_dir", "/"))

    def check(self, *options: str) -> Sample:
        """`cvfs-server check`, which has to find nothing."""
        return self._run("check", *options).sample()

    def collect(self, *options: str) -> Sample:
        """`cvfs-server gc` of all revisions but the newest."""
        return self._run("gc", "--force", "--revisions", "0", *options).sample(files=_count(self.storage))

    @contextmanager
    def in_transaction(self) -> Iterator[Path]:
        """Where it is edited; nothing of it is mounted afterwards."""
        self._run("transaction")
        try:
            yield self.transaction
        finally:
            self._run("umount")

    def copy_to(self, root: Path) -> "Site":
        """The same site at another place."""
        subprocess.run(["cp", "-a", self.root, root], check=True)
        for name in ("server.conf", "client.conf"):
            path = root / _CONFIGURATION / name
            if path.exists():
                path.write_text(path.read_text().replace(f"{self.root}/", f"{root}/"))
        return Site(root, self.work_dir)

    def _run(self, verb: str, *options: str) -> Ran:
        return run([*CVFS_SERVER, verb, "--root", str(self.root), *options, FQRN], environment(self.work_dir))


def kept(root: Path, work_dir: Path, tree: Path, compression: str) -> Site:
    """A site where the tree is published, kept for later runs; what an interrupted run left is made anew."""
    site, marker = Site(root, work_dir), root.with_name(f"{root.name}{_COMPLETE}")
    if marker.exists() and marker.stat().st_mtime >= tree.stat().st_mtime:
        return site
    shutil.rmtree(root, ignore_errors=True)
    site.create(compression).publish("--from", str(tree))
    os.sync()
    marker.touch()
    return site


def _with_report(ran: Ran) -> Sample:
    report: Mapping[str, Any] = json.loads(ran.output)
    names = ("entries", "catalogs", "added", "modified", "objects", "bytes_in", "bytes_stored")
    return ran.sample(**{name: float(report[name]) for name in names}, publish_seconds=float(report["seconds"]))


def _count(directory: Path) -> int:
    """Files below it."""
    return sum(len(files) for _, _, files in os.walk(directory))
