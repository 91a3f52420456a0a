"""What is wrong with a client's configuration, told in the original's words; it looks, asks servers, and changes nothing."""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from cvfs.client.configuration_sources import PREFIXES, check_mountable, settings_of, with_places
from cvfs.client.settings import Settings
from cvfs.client.settings.known import Effect, known_parameter
from cvfs.client.settings.places import files_named
from cvfs.client.settings.tree import CONFIG_REPOSITORY, Configuration
from cvfs.client.trust_anchors import key_files, read_key
from cvfs.errors import CvfsError
from cvfs.store.proxies import shown
from cvfs_tools.server_checks import Way, unreachable_ways
from cvfs_tools.setup.record import lost_places

_FUSE = "/dev/fuse"
_REQUIRED = ("CVMFS_SERVER_URL", "CVMFS_HTTP_PROXY")
_PINNING = ("CVMFS_ROOT_HASH", "CVMFS_REPOSITORY_TAG", "CVMFS_REPOSITORY_DATE")
_LOW_QUOTA = 1000 * 2**20
_FEW_FILES = 8192
_LOG_FILES = ("CVMFS_USYSLOG", "CVMFS_DEBUGLOG", "CVMFS_TRACEFILE")


class Finding(NamedTuple):
    """Something that is wrong; an error keeps a repository from being mounted, or from working."""

    is_error: bool
    text: str

    def __str__(self) -> str:
        return f"{'Error' if self.is_error else 'Warning'}: {self.text}"


Findings = Iterator[Finding]


def error(text: str) -> Finding:
    """A finding that keeps something from working."""
    return Finding(is_error=True, text=text)


def warning(text: str) -> Finding:
    """A finding that an administrator should know of."""
    return Finding(is_error=False, text=text)


def check_machine(common: Configuration, *, checked: bool) -> Findings:
    """What has nothing to do with one repository; `checked` says that some were named."""
    try:
        usable = stat.S_ISCHR(os.stat(_FUSE).st_mode) and os.access(_FUSE, os.R_OK | os.W_OK)
    except OSError:
        usable = False
    if not usable:
        yield error(f"{_FUSE} is missing or not accessible: load the kernel module fuse")
    if not os.path.isdir(common.etc):
        yield error(f"{common.etc} missing")
    yield from _late_config_repository(common.etc)
    yield from _set_up()
    if not checked and not common.words("CVMFS_REPOSITORIES"):
        yield warning("CVMFS_REPOSITORIES is not set, no repository was checked")


def _set_up() -> Findings:
    """What makes repositories appear at boot."""
    try:
        lost = lost_places()
    except CvfsError as failure:
        yield warning(str(failure))
        return
    for place in lost:
        yield warning(f"{place} was made by cvfs setup and is gone, or leads nowhere: run cvfs setup again")


def _late_config_repository(etc: str) -> Findings:
    late = [f"{etc}/default.local"]
    for directory in ("domain.d", "config.d"):
        late += files_named(f"{etc}/{directory}", r".*\.(conf|local)")
    for path in late:
        try:
            with open(path, "rb") as file:
                lines = file.read(2**18).splitlines()
        except OSError:
            continue
        if any(line.startswith(CONFIG_REPOSITORY.encode() + b"=") for line in lines):
            yield error(
                f"{CONFIG_REPOSITORY} can only be set in {etc}/default.conf and {etc}/default.d/*.conf (not in {path})"
            )


def check_repository(configuration: Configuration, *, network: bool = True) -> Findings:
    """Everything about one repository."""
    fqrn = configuration.fqrn
    for text in configuration.warnings:
        yield warning(text)
    yield from _parameters(configuration)
    yield from _required(configuration)
    try:
        check_mountable(configuration)
        settings = settings_of(configuration)
    except CvfsError as failure:
        # A proxy that is missing was told above.
        if configuration.text("CVMFS_HTTP_PROXY") or "CVMFS_HTTP_PROXY" not in str(failure):
            yield error(f"{failure} ({fqrn})")
        return
    yield from _places(configuration, settings)
    yield from _keys(configuration, settings)
    yield from _logs(configuration)
    if network:
        yield from _network(settings)


def _parameters(configuration: Configuration) -> Findings:
    """What is set in vain."""
    for name, value in sorted(configuration.values.items()):
        if not name.startswith(PREFIXES) or not value.text or value.text.strip().lower() in ("no", "off", "0", "false"):
            continue
        known = known_parameter(name)
        if known is None:
            yield warning(f"{name} is no parameter of the client (set in {value.file})")
        elif known.effect is Effect.UNSUPPORTED:
            yield warning(f"{name} is not supported: {known.note} (set in {value.file})")
    if configuration.text("CVMFS_NFS_SHARED") and not configuration.is_on("CVMFS_NFS_SOURCE"):
        yield warning("Setting CVMFS_NFS_SHARED has no effect without CVMFS_NFS_SOURCE.")
    pinned = [name for name in _PINNING if configuration.text(name)]
    if len(pinned) > 1:
        yield warning(f"{pinned[0]} wins over {', '.join(pinned[1:])} for {configuration.fqrn}")


def _required(configuration: Configuration) -> Findings:
    single = configuration.text("CVMFS_CLIENT_PROFILE").strip().lower() == "single"
    for name in _REQUIRED:
        if not configuration.text(name).strip() and not (single and name == "CVMFS_HTTP_PROXY"):
            yield error(f"required parameter {name} undefined for {configuration.fqrn}")


def _places(configuration: Configuration, settings: Settings) -> Findings:
    fqrn = configuration.fqrn
    if not os.path.isdir(settings.mount_dir):
        made = "cvfs setup makes it, cvfs exec needs none"
        yield error(f"invalid CVMFS_MOUNT_DIR for {fqrn}: {settings.mount_dir} is not a directory ({made})")
    if settings.mount.process.open_files < _FEW_FILES:
        yield warning(f"maximum number of open files is low ({settings.mount.process.open_files}) for {fqrn}")
    directory = settings.cache.directory
    if not directory:
        return
    existing = _existing(directory)
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        made = "is not writable by this user" if existing == directory else f"cannot be made in {existing}"
        yield error(f"{directory} {made}")
    yield from _quota(fqrn, settings.cache.quota, existing)


def _quota(fqrn: str, quota: int | None, existing: str) -> Findings:
    if quota is None:
        yield warning(f"no cache quota set for {fqrn}.  The cache partition may fill up.")
        return
    if quota < _LOW_QUOTA:
        yield warning(f"cache limit for {fqrn} is very low (below 1GB)")
    room = os.statvfs(existing)
    total = room.f_blocks * room.f_frsize
    sizes = f"(quota: {quota // 2**20}M, total space: {total // 2**20}M)"
    if quota > total:
        yield error(f"file system hosting the cache for {fqrn} too small {sizes}.")
    elif quota * 115 // 100 > total:
        yield warning(f"less than 15% safety margin on file system hosting the cache for {fqrn} {sizes}.")


def _existing(directory: str) -> str:
    """The directory itself, or the next one above it that exists."""
    while not os.path.isdir(directory) and directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
    return directory


def _keys(configuration: Configuration, settings: Settings) -> Findings:
    named = configuration.text("CVMFS_PUBLIC_KEY")
    directory = settings.trust.keys_dir
    if not named and not os.path.isdir(directory):
        yield error(f"public key location {directory} is not a directory")
        return
    files = key_files(settings)
    if not files:
        yield error(f"no public keys in {directory}")
    for path in files:
        try:
            read_key(path)
        except CvfsError as failure:
            yield error(f"public key {path} for {configuration.fqrn} not accessible: {failure}")


def _logs(configuration: Configuration) -> Findings:
    parameters, fqrn = with_places(configuration), configuration.fqrn
    if parameters.get("CVMFS_DEBUGLOG"):
        yield warning(f"debug mode is on for {fqrn}")
    if parameters.get("CVMFS_TRACEFILE"):
        yield warning(f"trace mode is on for {fqrn}")
    for name in _LOG_FILES:
        value = parameters.get(name, "")
        if value and not os.access(os.path.dirname(value) or ".", os.W_OK):
            yield error(f"log file directory {name}={value} not writable for {fqrn}")


def _network(settings: Settings) -> Findings:
    for way in unreachable_ways(settings.network):
        yield warning(_told(way))


def _told(way: Way) -> str:
    return f"failed to access {way.server}/.cvmfspublished through proxy {shown(way.proxy)}"
