"""What a site wants of its virtual machines, as a document for cloud-init; nothing is written, no image is touched.

All that makes a client of a stock image comes in the document: configuration, keys, the program, how repositories are
mounted, and the site's own hooks before and after.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cvfs.client.local_file import read_local
from cvfs.errors import UsageError
from cvfs_tools.running import one_line
from cvfs_tools.setup.cloud_config import CloudConfig
from cvfs_tools.setup.plan import Command, File, Lines
from cvfs_tools.setup.site_files import Site, assignment, site_files

MOST_USER_DATA = 16384
"""Bytes that every cloud takes; EC2 takes no more."""

_CONTEXT = "/var/lib/cvfs/context"
_ENVIRONMENT = "/opt/cvfs"
_MAX_FILE = 2**20
_PARAMETER = re.compile(r"((?:CVMFS|CVFS)_[A-Z0-9_]+)=([^\x00-\x1f\x7f]*)")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Installation:
    """How the program comes to the machine: by pip into an environment of its own, or it is there already.

    `requirement` is what pip understands: a name, a version, the URL or path of a wheel; None if nothing is to be installed.
    With `wheels`, a directory or the URL of one, pip asks nobody else.
    """

    requirement: str | None = "cvfs"
    wheels: str | None = None
    python: str = "python3"

    def commands(self) -> tuple[Command, ...]:
        """What to run for it."""
        if self.requirement is None:
            return ()
        pip = (f"{_ENVIRONMENT}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        only = ("--no-index", "--find-links", self.wheels) if self.wheels else ()
        return (
            (self.python, "-m", "venv", _ENVIRONMENT),
            (*pip, *only, self.requirement),
            ("ln", "-sf", f"{_ENVIRONMENT}/bin/cvfs", f"{_ENVIRONMENT}/bin/cvfs-server", "/usr/local/bin/"),
        )

    def packages(self) -> tuple[str, ...]:
        """What the image may lack for it. Who names another Python names its package, too."""
        return ("python3-venv",) if self.requirement is not None and self.python == "python3" else ()


@dataclass(frozen=True, slots=True)
class Contextualisation:
    """What a site wants. Hooks are scripts by name: `prologs` run before anything of cvfs, `epilogs` when it is mounted.

    `set_up` are more options for `cvfs setup` on the machine.
    """

    site: Site
    style: str = "parent"
    parameters: Mapping[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    installation: Installation = Installation()
    packages: tuple[str, ...] = ()
    prologs: tuple[tuple[str, bytes], ...] = ()
    epilogs: tuple[tuple[str, bytes], ...] = ()
    set_up: tuple[str, ...] = ()

    def document(self) -> str:
        """The `#cloud-config` document: user-data, vendor-data or a part of either. Raises UsageError."""
        if not self.site.repositories:
            raise UsageError(
                "no repository is named: say which ones the machines are to mount, for instance sw.example.org"
            )
        prologs = tuple(_hooks("prolog", self.prologs))
        epilogs = tuple(_hooks("epilog", self.epilogs))
        files = (*self._configuration(), *self.files, *prologs, *epilogs)
        _refuse_twice(file.place for file in files)
        commands: tuple[str | Command, ...] = (
            # cloud-init goes on after a command that fails; nothing here makes sense without the one before.
            "set -e",
            *((file.place,) for file in prologs),
            *self.installation.commands(),
            ("cvfs", "setup", f"--{self.style}", *self.set_up),
            ("cvfs", "probe"),
            *((file.place,) for file in epilogs),
        )
        title = f"{', '.join(self.site.repositories)} below /cvmfs, by `cvfs setup --cloud-init --{self.style}`"
        return CloudConfig(title, files, self._packages(), commands).serialise()

    def _configuration(self) -> tuple[File, ...]:
        """What `cvfs setup` would write, were it run there."""
        steps = site_files(self.site).steps
        lines = [line for step in steps if isinstance(step, Lines) for line in step.lines]
        lines += [assignment(name, value) for name, value in self.parameters.items()]
        common = File(f"{self.site.etc}/default.local", b"".join(line + b"\n" for line in lines))
        return (common, *(step for step in steps if isinstance(step, File)))

    def _packages(self) -> tuple[str, ...]:
        wanted = (*self.installation.packages(), *(("autofs",) if self.style == "autofs" else ()), *self.packages)
        return tuple(dict.fromkeys(wanted))


def other_file(placed: str) -> File:
    """A file of the site's for a place on the machine, from `PLACE=FILE`. Raises UsageError."""
    place, separator, path = placed.partition("=")
    if not separator or not place.startswith("/") or os.path.normpath(place) != place:
        raise UsageError(f"{placed!r}: not of the form PLACE=FILE, with an absolute path on the machine for PLACE")
    return File(place, read_local(path, _MAX_FILE))


def hook(path: str) -> tuple[str, bytes]:
    """A script of the site's: name and content. Raises UsageError if it does not say what runs it."""
    script = read_local(path, _MAX_FILE)
    if not script.startswith(b"#!"):
        raise UsageError(f"{path}: does not begin with #! and the program that runs it, as in #!/bin/sh")
    return os.path.basename(path), script


def _hooks(kind: str, scripts: tuple[tuple[str, bytes], ...]) -> Iterable[File]:
    """In their order. Only root may read them: hooks often hold what nobody else should know."""
    for number, (name, script) in enumerate(scripts, 1):
        if not _FILE_NAME.fullmatch(name):
            raise UsageError(f"{one_line(name)}: a hook's file name has letters, digits, '-', '_' and '.': rename it")
        yield File(f"{_CONTEXT}/{kind}-{number:02}-{name}", script, 0o700)


def _refuse_twice(paths: Iterable[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise UsageError(f"{path} is given twice: the machine would keep the last one")
        seen.add(path)


def parameters(given: Iterable[str]) -> dict[str, str]:
    """Parameters of the client from `KEY=VALUE` each. Raises UsageError."""
    return dict(_parameter(one) for one in given)


def _parameter(given: str) -> tuple[str, str]:
    found = _PARAMETER.fullmatch(given)
    if found is None:
        raise UsageError(f"{one_line(given)!r}: not of the form CVMFS_NAME=value, or with CVFS_, in one line")
    return found[1], found[2]
