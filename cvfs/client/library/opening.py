"""Opens a repository for a program, by its name or by its URL; nothing is mounted, and root is not needed."""

import os
from collections.abc import Mapping

from cvfs.client.library.reader import RepositoryReader
from cvfs.client.library.request import Request
from cvfs.errors import UsageError

_PREFIXES = ("CVMFS_", "CVFS_")
Place = str | os.PathLike[str]


def open_repository(
    name_or_url: str,
    *,
    public_key: Place | None = None,
    url: str | None = None,
    proxy: str | None = None,
    cache: Place | None = None,
    tag: str | None = None,
    root_hash: str | None = None,
    etc: Place | None = None,
    parameters: Mapping[str, str | float] | None = None,
) -> RepositoryReader:
    """A repository to be read, its newest revision unless a `tag` or `root_hash` says otherwise. To be closed, or in `with`.

    By its name (`sw.example.org`, or `sw` in the default domain) it is configured as for every command of cvfs: by the files
    of /etc/cvmfs (`etc` names another tree), the variables CVMFS_* and CVFS_* of the environment, then the arguments. The
    cache is the one that the mounts of this machine use, or the user's own where that is not writable.

    By its URL (`http://server/cvmfs/sw.example.org`, several servers with `;`) no file and no variable counts. Then
    `public_key` or `root_hash` is needed, no proxy is used unless one is given, and nothing is kept without a `cache`.

    `public_key` is the file of the master public key, several with `:`. `url` says where a repository that is given by name
    is; `@fqrn@` stands for its name. `proxy` is written as in CVMFS_HTTP_PROXY. `parameters` are CVMFS_* and CVFS_*
    parameters that win over everything but the other arguments.

    Raises TrustError if anything on the way does not verify, StoreError if no server answers and nothing is cached,
    NotFound for an unknown tag, UsageError for what makes no sense.
    """
    named = {
        "CVMFS_PUBLIC_KEY": public_key,
        "CVMFS_SERVER_URL": url,
        "CVMFS_HTTP_PROXY": proxy,
        "CVMFS_CACHE_DIR": cache,
        "CVMFS_REPOSITORY_TAG": tag,
        "CVMFS_ROOT_HASH": root_hash,
    }
    return RepositoryReader(request(name_or_url, named, etc, parameters)).connect()


def request(
    name_or_url: str, named: Mapping[str, Place | None], etc: Place | None, parameters: Mapping[str, str | float] | None
) -> Request:
    """What is asked for, places made absolute: another process may work elsewhere. Raises UsageError."""
    given = {name: _text(name, value) for name, value in named.items() if value is not None}
    return Request.of(name_or_url, {**written(parameters), **given}, os.path.abspath(etc) if etc is not None else None)


def written(parameters: Mapping[str, str | float] | None) -> dict[str, str]:
    """Parameters as a file would say them: who calls, or writes YAML, may have numbers. Raises UsageError."""
    return {name: _written(name, value) for name, value in (parameters or {}).items()}


def _written(name: str, value: object) -> str:
    if not name.startswith(_PREFIXES):
        raise UsageError(f"{name}: no parameter, their names begin with {' or '.join(_PREFIXES)}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    raise UsageError(f"{name}={value!r}: text or a number is needed")


def _text(name: str, value: Place) -> str:
    text = os.fspath(value)
    if name == "CVMFS_PUBLIC_KEY":
        return ":".join(os.path.abspath(part) for part in text.split(":") if part)
    return os.path.abspath(text) if name == "CVMFS_CACHE_DIR" else text
