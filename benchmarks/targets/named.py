"""Targets by the names that --against takes; it opens none of them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.targets.base import Target
from benchmarks.targets.cvfs_mount import CvfsMount
from benchmarks.targets.local import Given, Local
from benchmarks.targets.original import Original
from benchmarks.targets.surroundings import Surroundings
from cvfs.errors import UsageError

NAMES = ("local", "cvfs", "cvfs-fusepy", "cvmfs2")
DEFAULT = ("local", "cvfs")
_BINDINGS = {"cvfs": "native", "cvfs-fusepy": "fusepy"}
_SETTING = re.compile(r"[A-Z][A-Z0-9_]*=")


def split(words: str) -> list[str]:
    """`local,cvfs:A=1,B=2,cvmfs2` is three names: what looks like a setting belongs to the name before it."""
    names: list[str] = []
    for word in filter(None, words.split(",")):
        if names and _SETTING.match(word):
            names[-1] += f",{word}"
        else:
            names.append(word)
    return names


def targets(names: Sequence[str], directories: Mapping[str, Path], surroundings: Surroundings) -> list[Target]:
    """One of each, in that order; directories that were given but not named come last. Raises UsageError."""
    wanted = list(dict.fromkeys([*names, *directories]))
    return [_target(name, directories, surroundings) for name in wanted]


def _target(name: str, directories: Mapping[str, Path], surroundings: Surroundings) -> Target:
    kind, _, options = name.partition(":")
    if name in directories:
        return Given(surroundings, name, directories[name])
    if name == "local":
        return Local(surroundings)
    if name == "cvmfs2":
        return Original(surroundings)
    if kind in _BINDINGS:
        return CvfsMount(surroundings, name, _BINDINGS[kind], tuple(filter(None, options.split(","))))
    raise UsageError(f"{name}: no such target: {', '.join(NAMES)}, cvfs:KEY=VALUE,…, or a name given by --dir")
