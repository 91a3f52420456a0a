"""Where configuration comes from: the tree of files, the environment, a command line or arguments; later ones win.

Only here the environment is read, for the commands and for programs that open a repository. A URL needs no tree, and
`config=FILE` takes the place of one.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cvfs.client.config_fetch import PATIENCE, fetch_copy
from cvfs.client.settings import Settings, settings_from
from cvfs.client.settings.cache import DEFAULT_CACHE_BASE
from cvfs.client.settings.files import read_files
from cvfs.client.settings.parameters import Parameters
from cvfs.client.settings.places import STANDARD_ETC
from cvfs.client.settings.script import Value
from cvfs.client.settings.tree import CONFIG_REPOSITORY, Configuration, Copy, Tree
from cvfs.client.user_places import cache_directory, can_be_made, configuration_directory
from cvfs.errors import CvfsError, UsageError

log = logging.getLogger(__name__)

ETC_VARIABLE = "CVFS_ETC"
# Where things lie, for this command and for cvfs-server: of the same prefix, but said to no mount.
_PLACES = (ETC_VARIABLE, "CVFS_ROOT")
PREFIXES = ("CVMFS_", "CVFS_")
IDLE_TIME = 1200
"""What CVFS_AUTOMOUNT_TIMEOUT is by default, in seconds."""
_COMMAND_LINE = "the command line"
_ENVIRONMENT = "the environment"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the command line says: `assigned` parameters, `files` in place of the tree, the directory of the tree."""

    assigned: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    etc: str | None = None

    def tree(self) -> Tree:
        """The tree of files under everything that wins over it. Raises UsageError if the one asked for is not there."""
        return Tree(etc_directory(self.etc), self._fixed(), dict(os.environ), _fetch)

    def configuration(self, repository: str) -> Configuration:
        """What is said for a repository, given by its whole name, short name or URL. Raises UsageError, FormatError."""
        if "://" in repository:
            fqrn = repository.partition(";")[0].rstrip("/").rpartition("/")[2]
            given = {**self._fixed(), "CVMFS_SERVER_URL": Value(repository, _COMMAND_LINE, 0)}
            return Configuration(fqrn, "", {**read_files(self.files, given, os.environ), **given})
        if self.files:
            fixed = self._fixed()
            return Configuration(repository, "", {**read_files(self.files, fixed, os.environ), **fixed})
        return self.tree().of(repository)

    def common(self) -> Configuration:
        """What is said for all repositories. Raises UsageError."""
        return self.tree().common()

    def _fixed(self) -> dict[str, Value]:
        variables = {
            name: Value(text, _ENVIRONMENT, 0)
            for name, text in os.environ.items()
            if name.startswith(PREFIXES) and name not in _PLACES
        }
        return variables | {name: Value(text, _COMMAND_LINE, 0) for name, text in self.assigned.items()}


def etc_directory(named: str | None = None) -> str:
    """The tree to read: the one that is named, by an option or by CVFS_ETC, else the user's own, else /etc/cvmfs."""
    chosen = named or os.environ.get(ETC_VARIABLE)
    if chosen and not os.path.isdir(chosen):
        raise UsageError(f"{chosen}: no directory with a configuration: it holds default.conf, domain.d, keys, …")
    if chosen:
        return os.path.abspath(chosen)
    own = configuration_directory(os.environ) if os.geteuid() != 0 else None
    return own or STANDARD_ETC


def settings_of(configuration: Configuration) -> Settings:
    """The settings that a configuration comes to on this machine. Raises UsageError naming the parameter at fault."""
    return settings_from(configuration.fqrn, with_places(configuration))


def with_places(configuration: Configuration) -> dict[str, str]:
    """The parameters, completed by what depends on the machine, the user and the tree. Raises UsageError."""
    found = {"CVMFS_HTTP_PROXY": _proxy(configuration), **_cache_base(configuration)}
    if configuration.etc:
        found["CVMFS_KEYS_DIR"] = configuration.text("CVMFS_KEYS_DIR") or f"{configuration.etc}/keys"
        found["CVMFS_BLACKLIST"] = ":".join(_blacklists(configuration))
    return {**configuration.parameters(), **found}


def _proxy(configuration: Configuration) -> str:
    """As in the original a site must say how its nodes reach servers; a single machine, or who names a server, need not."""
    proxy = configuration.text("CVMFS_HTTP_PROXY").strip()
    servers = configuration.values.get("CVMFS_SERVER_URL")
    of_the_tree = bool(configuration.etc) and servers is not None and servers.line > 0
    single = configuration.text("CVMFS_CLIENT_PROFILE").strip().lower() == "single"
    if proxy or not of_the_tree or single:
        return proxy or "DIRECT"
    raise UsageError(
        f"{configuration.fqrn}: CVMFS_HTTP_PROXY required: set it in {configuration.etc}/default.local, "
        "or CVMFS_CLIENT_PROFILE=single for a machine by itself"
    )


def _cache_base(configuration: Configuration) -> dict[str, str]:
    """Where /var/lib is not ours to write, the cache lies in the user's own place; root may be one of a user namespace only."""
    base = configuration.text("CVMFS_CACHE_BASE").strip() or DEFAULT_CACHE_BASE
    if base == DEFAULT_CACHE_BASE and not can_be_made(base):
        # Who names a cache has what was seen remembered beside it, and needs nothing else.
        needed = configuration.text(CONFIG_REPOSITORY) or not configuration.text("CVMFS_CACHE_DIR")
        base = cache_directory(os.environ) if needed else base
    return {"CVMFS_CACHE_BASE": base}


def _blacklists(configuration: Configuration) -> Iterable[str]:
    yield configuration.text("CVMFS_BLACKLIST") or f"{configuration.etc}/blacklist"
    if configuration.copy and configuration.copy.directory:
        yield f"{configuration.copy.directory}/etc/cvmfs/blacklist"


def _fetch(configuration: Configuration) -> Copy:
    try:
        settings = settings_of(configuration)
        get = Parameters(configuration.fqrn, settings.variables)
        return fetch_copy(settings, get.number("CVFS_CONFIG_REPO_TIMEOUT", PATIENCE, least=1))
    except CvfsError as error:
        return Copy(None, None, f"configuration repository {configuration.fqrn}: {error}; it is left out")


def check_mountable(configuration: Configuration) -> None:
    """Raises UsageError for a repository that the site does not let anybody mount."""
    fqrn = configuration.fqrn
    if not configuration.is_on("CVMFS_STRICT_MOUNT") or fqrn == configuration.text(CONFIG_REPOSITORY):
        return
    if not configuration.words("CVMFS_REPOSITORIES"):
        raise UsageError(f"{fqrn}: CVMFS_STRICT_MOUNT is set, but CVMFS_REPOSITORIES missing")
    if fqrn not in configuration.repositories():
        raise UsageError(f"Not allowed to mount {fqrn}, add it to CVMFS_REPOSITORIES")


def idle_time(configuration: Configuration) -> float:
    """Seconds for which a repository that was mounted on access may lie idle; 0: for ever. Raises UsageError."""
    return Parameters("automount", configuration.parameters()).number("CVFS_AUTOMOUNT_TIMEOUT", IDLE_TIME)


def tell_warnings(configuration: Configuration) -> None:
    """What was left out of a configuration goes to the log."""
    for warning in configuration.warnings:
        log.warning("%s", warning)
