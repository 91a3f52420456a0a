"""The options that say which repository and how: shared by every command that reads one."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from cvfs.client.settings import Settings, parse_configuration, settings_from
from cvfs.client.settings.cache import DEFAULT_CACHE_BASE
from cvfs.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option("-k", "--public-key", metavar="FILE", help="Master public key; several with ':'  [CVMFS_PUBLIC_KEY]"),
    click.option("-w", "--url", metavar="URL", help="Server URL, several with ';'  [CVMFS_SERVER_URL]"),
    click.option("-p", "--proxy", metavar="URL", help="HTTP proxy, or DIRECT  [CVMFS_HTTP_PROXY]"),
    click.option("-c", "--cache", metavar="DIR", help="Cache directory  [CVMFS_CACHE_DIR]"),
    click.option("-q", "--quota", metavar="MB", type=int, help="Cache limit, -1 for none  [CVMFS_QUOTA_LIMIT]"),
    click.option("-t", "--tag", metavar="NAME", help="A tag instead of the newest revision  [CVMFS_REPOSITORY_TAG]"),
    click.option(
        "--root-hash", metavar="HASH", help="A root catalog instead of the newest revision  [CVMFS_ROOT_HASH]"
    ),
    click.option(
        "-o", "options", metavar="KEY=VALUE[,…]", multiple=True, help="CVMFS_* parameters; config=FILE[:FILE]"
    ),
)
_NAMES = {
    "public_key": "CVMFS_PUBLIC_KEY",
    "url": "CVMFS_SERVER_URL",
    "proxy": "CVMFS_HTTP_PROXY",
    "cache": "CVMFS_CACHE_DIR",
    "quota": "CVMFS_QUOTA_LIMIT",
    "tag": "CVMFS_REPOSITORY_TAG",
    "root_hash": "CVMFS_ROOT_HASH",
}
# Options of mount(8) and fstab that ask for nothing beyond what every mount of cvfs does.
_MOUNT_WORDS = frozenset(
    ("ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "auto", "noauto", "user", "users", "nouser")
) | {
    "_netdev",
    "nofail",
    "defaults",
    "allow_other",
    "default_permissions",
    "noatime",
    "nodiratime",
    "relatime",
    "async",
}


def repository_options(function: Function) -> Function:
    """Add the options to a command; it receives them as keyword arguments for `settings`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def settings(repository: str, *, options: tuple[str, ...] = (), **named: object) -> Settings:
    """The settings for a repository named by its fqrn or by its URL. Later sources win: files, environment, options."""
    words = [word for option in options for word in option.split(",") if word]
    assigned = dict(word.split("=", 1) for word in words if "=" in word)
    parameters = _files(assigned.pop("config", ""))
    parameters |= {name: value for name, value in os.environ.items() if name.startswith(("CVMFS_", "CVFS_"))}
    parameters |= {name: value for name, value in assigned.items() if name.startswith(("CVMFS_", "CVFS_"))}
    parameters |= {_NAMES[key]: str(value) for key, value in named.items() if value is not None}
    _check_words(words)
    if "://" in repository:
        parameters["CVMFS_SERVER_URL"] = repository
        repository = repository.partition(";")[0].rstrip("/").rpartition("/")[2]
    return settings_from(repository, _with_places(parameters))


def _files(names: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in filter(None, names.split(":")):
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError as error:
            raise UsageError(f"-o config={name}: {error.strerror}") from error
        found |= parse_configuration(text, name)
    return found


def _check_words(words: list[str]) -> None:
    for word in words:
        name = word.split("=", 1)[0]
        known = (
            name.startswith(("CVMFS_", "CVFS_", "x-"))
            or name in _MOUNT_WORDS
            or name in ("config", "log", "uid", "gid")
        )
        if not known:
            raise UsageError(f"-o {word}: unknown option, give CVMFS_* parameters or config=FILE")


def _with_places(parameters: Mapping[str, str]) -> dict[str, str]:
    """Without root the cache lies in the user's own place, not in /var/lib."""
    found = dict(parameters)
    if os.geteuid() != 0:
        cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        found.setdefault("CVMFS_CACHE_BASE", os.path.join(cache_home, "cvfs"))
    found.setdefault("CVMFS_CACHE_BASE", DEFAULT_CACHE_BASE)
    return found
