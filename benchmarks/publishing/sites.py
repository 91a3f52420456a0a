"""Repositories to be published into, each with a whole site of its own below one directory; measures nothing."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.commands import CVFS_SERVER, environment
from benchmarks.model import Failed, Sample
from benchmarks.publishing.programs import run, with_figures
from benchmarks.publishing.tools import duplicate
from benchmarks.targets import site as targets
from benchmarks.targets.site import FQRN
from benchmarks.targets.surroundings import Surroundings
from benchmarks.trees.base import Tree

_CONFIGURATION = Path("etc/cvmfs/repositories.d", FQRN)
_REPORTED = ("entries", "catalogs", "added", "modified", "objects", "bytes_in", "bytes_stored")


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

    def create(self, compression: str) -> "Site":
        """An empty first revision; a publish adds no tags but those of the newest revision and the one before."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._run("mkfs", "--no-autotags", "--compression", compression)
        return self

    def publish(self, *options: str) -> Sample:
        """`cvfs-server publish`, with what it says of itself."""
        return self._reported("publish", *options)

    def ingest(self, archive: Path) -> Sample:
        """`cvfs-server ingest` of an archive into the top of the tree."""
        return self._reported("ingest", "--tar_file", str(archive), "--base_dir", "/")

    def check(self, *options: str) -> Sample:
        """`cvfs-server check`, which has to find nothing."""
        return self._run("check", *options)[0]

    def collect(self, *options: str) -> Sample:
        """`cvfs-server gc` of all revisions but the newest; `files` is how many the storage then has."""
        collected = self._run("gc", "--force", "--revisions", "0", *options)[0]
        return with_figures(collected, files=_count(self.storage))

    @contextmanager
    def in_transaction(self) -> Iterator[float]:
        """Edited at `self.transaction`; gives how many seconds it took to open. Nothing of it is mounted afterwards."""
        opening, _ = self._run("transaction")
        try:
            yield opening.seconds
        finally:
            self._run("umount")

    def copy_to(self, root: Path) -> "Site":
        """The same site at another place."""
        duplicate(self.root, root, self.work_dir)
        for name in ("server.conf", "client.conf"):
            path = root / _CONFIGURATION / name
            if path.exists():
                path.write_text(path.read_text().replace(f"{self.root}/", f"{root}/"))
        return Site(root, self.work_dir)

    def _run(self, verb: str, *options: str) -> tuple[Sample, str]:
        """And what it printed."""
        words = [*CVFS_SERVER, verb, "--root", str(self.root), *options, FQRN]
        ran, figures = run(words, self.root, environment(self.work_dir))
        return Sample(ran.seconds, ran.cpu_seconds, figures=figures), ran.printed

    def _reported(self, verb: str, *options: str) -> Sample:
        sample, printed = self._run(verb, "--json", *options)
        try:
            report = json.loads(printed)
            return with_figures(sample, **{name: report[name] for name in _REPORTED}, publish_seconds=report["seconds"])
        except (ValueError, KeyError) as error:
            raise Failed(f"{verb}: no report: {error!r}") from error


def published(tree: Tree, work_dir: Path, compression: str) -> Site:
    """Where the tree is published, kept for later runs; others read it, too: nothing is to change it. Raises Unavailable."""
    return Site(targets.published(tree, Surroundings(work_dir), compression).directory, work_dir)


def _count(directory: Path) -> int:
    """Files below it."""
    return sum(len(files) for _, _, files in os.walk(directory))
