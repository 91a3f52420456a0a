"""The options that say which repository and how: shared by every command that reads one."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cvfs.client.configuration_sources import PREFIXES, Sources, check_mountable, settings_of, tell_warnings
from cvfs.client.settings import Settings
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
    click.option("--etc", metavar="DIR", help="Configuration tree in place of /etc/cvmfs  [CVFS_ETC]"),
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
    "fuse_binding": "CVFS_FUSE_BINDING",
}
# Options of mount(8) and fstab that ask for nothing beyond what every mount of cvfs does.
_MOUNT_WORDS = frozenset(
    ("ro", "rw", "suid", "nosuid", "dev", "nodev", "auto", "noauto", "user", "users", "nouser")
) | {
    "_netdev",
    "nofail",
    "defaults",
    "allow_other",
    "default_permissions",
    "noatime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "nolazytime",
    "nosymfollow",
    "async",
    "sync",
    "silent",
    "group",
    "owner",
    "comment",
}
# Mount options of the original and what they mean as parameters.
# `users` of a line of fstab says noexec, too, unless exec comes after it: mount(8) passes on what holds.
_SWITCHES = {
    "disable_watchdog": ("CVFS_WATCHDOG", "no"),
    "cvmfs_suid": ("CVMFS_SUID", "yes"),
    "noexec": ("CVFS_NOEXEC", "yes"),
    "exec": ("CVFS_NOEXEC", "no"),
}
_RENAMED = {"log": "CVFS_LOG", "uid": "CVFS_UID", "gid": "CVFS_GID", "fuse_binding": "CVFS_FUSE_BINDING"}


def repository_options(function: Function) -> Function:
    """Add the options to a command; it receives them as keyword arguments for `settings`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def settings(
    repository: str,
    *,
    options: tuple[str, ...] = (),
    etc: str | None = None,
    mounting: bool = False,
    **named: object,
) -> Settings:
    """The settings for a repository named by its fqrn, its short name or its URL.

    Later sources win: files, environment, options. What is left out of the files is told in the log. With `mounting` a
    repository that the site does not allow is refused. Raises UsageError, FormatError.
    """
    configuration = sources(options, etc, **named).configuration(repository)
    tell_warnings(configuration)
    if mounting:
        check_mountable(configuration)
    return settings_of(configuration)


def sources(options: tuple[str, ...] = (), etc: str | None = None, **named: object) -> Sources:
    """What the command line says, as the options gave it. Raises UsageError for words that are not known."""
    words = [word for option in options for word in option.split(",") if word]
    _check_words(words)
    assigned = dict(_SWITCHES[word] if word in _SWITCHES else word.partition("=")[::2] for word in words)
    files = tuple(filter(None, assigned.get("config", "").split(":")))
    given = {_RENAMED.get(name, name): value for name, value in assigned.items()}
    given = {name: value for name, value in given.items() if name.startswith(PREFIXES)}
    given |= {_NAMES[key]: str(value) for key, value in named.items() if value is not None}
    return Sources(given, files, etc or assigned.get("etc") or etc_of_group())


def etc_of_group() -> str | None:
    """The tree that was named before the verb: `cvfs --etc DIR verb`."""
    context = click.get_current_context(silent=True)
    return context.find_root().params.get("etc") if context else None


def without_unknown(options: tuple[str, ...]) -> tuple[str, ...]:
    """What is left when words that are not known do not matter."""
    words = [word for option in options for word in option.split(",")]
    return tuple(word for word in words if _is_known(word))


def _check_words(words: list[str]) -> None:
    for word in words:
        if not _is_known(word):
            raise UsageError(f"-o {word}: unknown option, give CVMFS_* parameters or config=FILE")


def _is_known(word: str) -> bool:
    name = word.split("=", 1)[0]
    own = name in ("config", "etc", *_RENAMED, *_SWITCHES)
    return own or name.startswith((*PREFIXES, "x-", "X-")) or name in _MOUNT_WORDS
