"""The options of every `cvfs-server` verb: where the site lies, and which of its repositories is meant."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cvfs.errors import UsageError
from cvfs_server.settings import configured_repositories
from cvfs_server.site import Site

Function = TypeVar("Function", bound=Callable[..., Any])

ROOT_VARIABLE = "CVFS_ROOT"
WORKERS = click.IntRange(1, 1024)


def site_options(function: Function) -> Function:
    """Adds `--root`; the command receives it as `root`, to be made a site with `site_at`."""
    help_text = f"Directory that stands before /etc, /srv and /var, for use without root  [{ROOT_VARIABLE}]"
    return click.option("--root", metavar="DIR", envvar=ROOT_VARIABLE, default="", help=help_text)(function)


def site_at(root: str) -> Site:
    """The site below a directory."""
    return Site(os.path.abspath(root).rstrip("/")) if root else Site()


def chosen_repository(site: Site, fqrn: str | None) -> str:
    """The repository that is meant; without a name the only one there is."""
    # An empty name is a variable that a script has not set: refused as a name, it must not mean any repository.
    if fqrn is not None:
        return fqrn.rstrip("/")
    names = configured_repositories(site)
    if len(names) != 1:
        raise UsageError(f"which repository? there are {len(names)} here: {' '.join(names) or 'make one with mkfs'}")
    return names[0]


def confirm(question: str, *, force: bool) -> None:
    """Ask before what cannot be undone; anything but "y" ends the command with status 1, and so does a script's silence."""
    if force:
        return
    print(f"{question}  Are you sure (y/N)? ", end="", flush=True)
    answer = sys.stdin.readline() if sys.stdin else ""
    if answer.strip() not in {"y", "Y"}:
        sys.exit(1)
