"""A repository's server.conf as one frozen value: read without a shell, written with the original's parameter names.

Source: FORMAT sections 4.3, 4.5, 6; DESIGN section 6.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cvfs.catalog.schema import DEFAULT_TTL
from cvfs.chunking import ChunkSizes
from cvfs.client.settings import parse_configuration
from cvfs.compression import encoder_named
from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.format.fqrn import check_fqrn
from cvfs.hashes import Algorithm
from cvfs_server.founding.ownership import current_owner
from cvfs_server.ingest.content import StorageForm
from cvfs_server.limits import Limits
from cvfs_server.site import Site
from cvfs_server.storage.s3_settings import S3Upstream

# Of places and files, as the original counts: what it wrote with this number or another one back to 137 is understood.
LAYOUT_REVISION = 143
_MAX_CONFIGURATION = 2**20
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """How a repository is published. `auto_tag_timespan` is a date text or empty, places are paths. With `s3` the published
    files are there, and not in `storage`. The contents of an `external` one are on other servers. `auto_gc_lapse` and
    `auto_gc_timespan` are date texts, `gc_deletion_log` is a path. `server_proxy` is the way to `url`, if it is not direct.

    In seconds: `ttl`, and `lock_timeout`, how long the lock of another publisher is waited for. `statistics_db` is empty for
    the usual place, rows older than `statistics_days` are forgotten (0: never).
    """

    fqrn: str
    storage: str
    spool: str
    user: str = "root"
    url: str = ""
    algorithm: Algorithm = Algorithm.SHA1
    compression: str = "zlib"
    use_chunking: bool = True
    chunk_sizes: ChunkSizes = field(default_factory=ChunkSizes)
    bulk_chunks: bool = False
    xattrs: bool = True
    mtime_ns: bool = True
    ignore_special_files: bool = False
    ignore_xdir_hardlinks: bool = True
    limits: Limits = field(default_factory=Limits)
    autocatalogs: bool = False
    autocatalogs_max_weight: int = 100_000
    autocatalogs_min_weight: int = 1_000
    external: bool = False
    auto_tag: bool = True
    auto_tag_timespan: str = ""
    garbage_collection: bool = True
    auto_gc: bool = False
    auto_gc_lapse: str = "1 day ago"
    auto_gc_timespan: str = "3 days ago"
    gc_deletion_log: str = ""
    ttl: int = DEFAULT_TTL
    lock_timeout: int = 300
    statistics_db: str = ""
    statistics_days: int = 365
    print_statistics: bool = False
    extended_gc_stats: bool = False
    check_all_min_days: int = 30
    s3: S3Upstream | None = None
    server_proxy: str = ""

    def __post_init__(self) -> None:
        check_fqrn(self.fqrn)
        if self.ttl < 1:
            raise UsageError(f"CVMFS_REPOSITORY_TTL={self.ttl}: at least a second is needed")
        try:
            encoder_named(self.compression)
        except FormatError as error:
            raise UsageError(f"CVMFS_COMPRESSION_ALGORITHM: {error}") from error

    @property
    def upstream(self) -> str:
        """Where the published files are, as CVMFS_UPSTREAM_STORAGE says it."""
        return str(self.s3) if self.s3 else f"local,{self.storage}/data/txn,{self.storage}"

    @property
    def form(self) -> StorageForm:
        """How contents are stored."""
        chunking = self.chunk_sizes if self.use_chunking else None
        return StorageForm(self.algorithm, self.compression, chunking, self.bulk_chunks, self.xattrs)


def default_settings(site: Site, fqrn: str) -> RepositorySettings:
    """What a new repository gets."""
    storage, spool = os.path.abspath(site.storage(fqrn)), os.path.abspath(site.spool(fqrn))
    return RepositorySettings(fqrn, storage, spool, current_owner().name, f"http://localhost/cvmfs/{fqrn}")


def with_upstream(settings: RepositorySettings, upstream: str) -> RepositorySettings:
    """The same repository, with its published files where `upstream` says, in the words of CVMFS_UPSTREAM_STORAGE.

    Raises UsageError for one that makes no sense.
    """
    parameters = _Parameters({"CVMFS_UPSTREAM_STORAGE": upstream}, "-u")
    return dataclasses.replace(settings, storage=parameters.storage(settings.storage), s3=parameters.s3())


def in_s3(settings: RepositorySettings, configuration: str, url: str) -> RepositorySettings:
    """The same repository, in the bucket that an S3 configuration file names; clients will read below `url`.

    Raises NotFound or UsageError for a bad file.
    """
    upstream = S3Upstream.of_new(settings.fqrn, settings.spool, configuration, url)
    return dataclasses.replace(settings, s3=upstream, url=f"{url.rstrip('/')}/{settings.fqrn}")


def load_settings(site: Site, fqrn: str) -> RepositorySettings:
    """The settings of a repository of this machine. Raises NotFound if there is none, UsageError for a bad file."""
    path = site.configuration(fqrn)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_MAX_CONFIGURATION)
    except OSError as error:
        raise NotFound(
            f"no repository {fqrn} here: {path}: {error.strerror}; make one with cvfs-server mkfs"
        ) from error
    return _settings(_Parameters(parse_configuration(text, path), path), site, fqrn)


def configured_repositories(site: Site) -> list[str]:
    """Names of all repositories of this machine, sorted."""
    try:
        names = os.listdir(site.repositories)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if os.path.isfile(f"{site.repositories}/{name}/server.conf"))


def configuration_text(settings: RepositorySettings) -> str:
    """The server.conf of a repository."""
    sizes = settings.chunk_sizes
    parameters: dict[str, object] = {
        "CVMFS_CREATOR_VERSION": LAYOUT_REVISION,
        "CVMFS_REPOSITORY_NAME": settings.fqrn,
        "CVMFS_REPOSITORY_TYPE": "stratum0",
        "CVMFS_USER": settings.user,
        "CVMFS_SPOOL_DIR": settings.spool,
        "CVMFS_STRATUM0": settings.url,
        "CVMFS_UPSTREAM_STORAGE": settings.upstream,
        "CVMFS_UNION_FS_TYPE": "overlayfs",
        "CVMFS_SERVER_PROXY": settings.server_proxy,
        "CVMFS_USE_FILE_CHUNKING": settings.use_chunking,
        "CVMFS_MIN_CHUNK_SIZE": sizes.minimum,
        "CVMFS_AVG_CHUNK_SIZE": sizes.average,
        "CVMFS_MAX_CHUNK_SIZE": sizes.maximum,
        "CVMFS_GENERATE_LEGACY_BULK_CHUNKS": settings.bulk_chunks,
        "CVMFS_HASH_ALGORITHM": settings.algorithm.name.lower(),
        "CVMFS_COMPRESSION_ALGORITHM": settings.compression,
        "CVMFS_INCLUDE_XATTRS": settings.xattrs,
        "CVMFS_ENABLE_MTIME_NS": settings.mtime_ns,
        "CVMFS_IGNORE_SPECIAL_FILES": settings.ignore_special_files,
        "CVMFS_EXTERNAL_DATA": settings.external,
        "CVMFS_IGNORE_XDIR_HARDLINKS": settings.ignore_xdir_hardlinks,
        "CVMFS_AUTO_TAG": settings.auto_tag,
        "CVMFS_AUTO_TAG_TIMESPAN": settings.auto_tag_timespan,
        "CVMFS_GARBAGE_COLLECTION": settings.garbage_collection,
        "CVMFS_AUTO_GC": settings.auto_gc,
        "CVMFS_AUTOCATALOGS": settings.autocatalogs,
        "CVMFS_AUTOCATALOGS_MAX_WEIGHT": settings.autocatalogs_max_weight,
        "CVMFS_AUTOCATALOGS_MIN_WEIGHT": settings.autocatalogs_min_weight,
        "CVMFS_VIRTUAL_DIR": False,
        "CVMFS_REPOSITORY_TTL": settings.ttl,
        "CVFS_LOCK_TIMEOUT": settings.lock_timeout,
    }
    return "# Created by cvfs-server.\n" + "".join(f"{key}={_quoted(value)}\n" for key, value in parameters.items())


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if "'" in text or len(text.splitlines()) > 1:
        raise UsageError(f"{text!r}: a value with a single quote or several lines cannot be written to server.conf")
    return text if text and not set(text) & set(" \t'\"$`\\#;&|<>()") else f"'{text}'"


class _Parameters:
    """Typed access; UsageError names the file and the parameter."""

    def __init__(self, values: Mapping[str, str], where: str) -> None:
        self._values = values
        self._where = where

    def refuse(self, name: str, reason: str, *unless: str) -> None:
        """Raises UsageError for any other value than `unless`."""
        value = self.text(name, "")
        if value not in unless:
            raise UsageError(f"{self._where}: {name}={value}: {reason}")

    def text(self, name: str, default: str) -> str:
        return self._values.get(name, default)

    def number(self, name: str, default: int) -> int:
        value = self._values.get(name) or str(default)
        if not value.isascii() or not value.isdigit() or len(value) > _MAX_DIGITS:
            raise UsageError(f"{self._where}: {name}={value!r} is not a number")
        return int(value)

    def directory(self, name: str, default: str) -> str:
        value = self._values.get(name) or default
        if not value.startswith("/"):
            raise UsageError(f"{self._where}: {name}={value!r} is no absolute path")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name, "").lower()
        if value in {"true", "yes", "on", "1"}:
            return True
        if value in {"false", "no", "off", "0"}:
            return False
        if value:
            raise UsageError(f"{self._where}: {name}={value!r} is neither true nor false")
        return default

    def algorithm(self, name: str) -> Algorithm:
        try:
            return Algorithm.named(self.text(name, "sha1"))
        except FormatError as error:
            raise UsageError(f"{self._where}: {name}: {error}") from error

    def storage(self, default: str) -> str:
        """The directory of published files; that of a repository in S3 is where one of this machine would be."""
        value = self.text("CVMFS_UPSTREAM_STORAGE", f"local,,{default}")
        kind, _, rest = value.partition(",")
        directory = rest.rpartition(",")[2]
        if kind.lower() == "s3":
            return default
        if kind != "local" or not directory.startswith("/"):
            raise UsageError(
                f"{self._where}: CVMFS_UPSTREAM_STORAGE={value!r}: expected local,<staging>,<directory> or"
                " S3,<staging>,<alias>@<configuration file>"
            )
        return directory

    def s3(self) -> S3Upstream | None:
        value = self.text("CVMFS_UPSTREAM_STORAGE", "")
        is_s3 = value.partition(",")[0].lower() == "s3"
        return S3Upstream.parse(value, f"{self._where}: CVMFS_UPSTREAM_STORAGE") if is_s3 else None


def _settings(parameters: _Parameters, site: Site, fqrn: str) -> RepositorySettings:
    """Absent means the original's default: a configuration that it wrote keeps its meaning."""
    settings = default_settings(site, fqrn)
    for read in (_places, _contents, _catalogs, _revisions, _upkeep):
        settings = read(settings, parameters)
    return settings


def _places(default: RepositorySettings, parameters: _Parameters) -> RepositorySettings:
    # Obeyed in part they would publish what was to be restricted, or into somebody else's copy.
    parameters.refuse("CVMFS_VOMS_AUTHZ", "access control is not supported: publish it with the original", "")
    parameters.refuse("CVMFS_REPOSITORY_TYPE", "a replica is not published into", "", "stratum0")
    return dataclasses.replace(
        default,
        fqrn=parameters.text("CVMFS_REPOSITORY_NAME", default.fqrn),
        storage=parameters.storage(default.storage),
        s3=parameters.s3(),
        spool=parameters.directory("CVMFS_SPOOL_DIR", default.spool),
        user=parameters.text("CVMFS_USER", default.user),
        url=parameters.text("CVMFS_STRATUM0", default.url),
        server_proxy=parameters.text("CVMFS_SERVER_PROXY", ""),
        lock_timeout=parameters.number("CVFS_LOCK_TIMEOUT", default.lock_timeout),
    )


def _contents(default: RepositorySettings, parameters: _Parameters) -> RepositorySettings:
    sizes = default.chunk_sizes
    return dataclasses.replace(
        default,
        algorithm=parameters.algorithm("CVMFS_HASH_ALGORITHM"),
        compression=parameters.text("CVMFS_COMPRESSION_ALGORITHM", default.compression),
        use_chunking=parameters.flag("CVMFS_USE_FILE_CHUNKING", default=True),
        chunk_sizes=ChunkSizes(
            parameters.number("CVMFS_MIN_CHUNK_SIZE", sizes.minimum),
            parameters.number("CVMFS_AVG_CHUNK_SIZE", sizes.average),
            parameters.number("CVMFS_MAX_CHUNK_SIZE", sizes.maximum),
        ),
        bulk_chunks=parameters.flag("CVMFS_GENERATE_LEGACY_BULK_CHUNKS", default=False),
        xattrs=parameters.flag("CVMFS_INCLUDE_XATTRS", default=False),
        mtime_ns=parameters.flag("CVMFS_ENABLE_MTIME_NS", default=False),
        ignore_special_files=parameters.flag("CVMFS_IGNORE_SPECIAL_FILES", default=False),
        ignore_xdir_hardlinks=parameters.flag("CVMFS_IGNORE_XDIR_HARDLINKS", default=True),
        external=parameters.flag("CVMFS_EXTERNAL_DATA", default=False),
    )


def _catalogs(default: RepositorySettings, parameters: _Parameters) -> RepositorySettings:
    limits = default.limits
    return dataclasses.replace(
        default,
        limits=Limits(
            parameters.number("CVMFS_FILE_MBYTE_LIMIT", limits.file_mbytes),
            parameters.number("CVMFS_ROOT_KCATALOG_LIMIT", limits.root_kentries),
            parameters.number("CVMFS_NESTED_KCATALOG_LIMIT", limits.nested_kentries),
            parameters.flag("CVMFS_ENFORCE_LIMITS", default=False),
        ),
        autocatalogs=parameters.flag("CVMFS_AUTOCATALOGS", default=False),
        autocatalogs_max_weight=parameters.number("CVMFS_AUTOCATALOGS_MAX_WEIGHT", default.autocatalogs_max_weight),
        autocatalogs_min_weight=parameters.number("CVMFS_AUTOCATALOGS_MIN_WEIGHT", default.autocatalogs_min_weight),
    )


def _revisions(default: RepositorySettings, parameters: _Parameters) -> RepositorySettings:
    return dataclasses.replace(
        default,
        auto_tag=parameters.flag("CVMFS_AUTO_TAG", default=True),
        auto_tag_timespan=parameters.text("CVMFS_AUTO_TAG_TIMESPAN", ""),
        garbage_collection=parameters.flag("CVMFS_GARBAGE_COLLECTION", default=False),
        auto_gc=parameters.flag("CVMFS_AUTO_GC", default=False),
        auto_gc_lapse=parameters.text("CVMFS_AUTO_GC_LAPSE", "") or default.auto_gc_lapse,
        auto_gc_timespan=parameters.text("CVMFS_AUTO_GC_TIMESPAN", "") or default.auto_gc_timespan,
        gc_deletion_log=parameters.text("CVMFS_GC_DELETION_LOG", ""),
        ttl=parameters.number("CVMFS_REPOSITORY_TTL", DEFAULT_TTL),
    )


def _upkeep(default: RepositorySettings, parameters: _Parameters) -> RepositorySettings:
    return dataclasses.replace(
        default,
        statistics_db=parameters.text("CVMFS_STATISTICS_DB", ""),
        statistics_days=parameters.number("CVMFS_STATS_DB_DAYS_TO_KEEP", default.statistics_days),
        print_statistics=parameters.flag("CVMFS_PRINT_STATISTICS", default=False),
        extended_gc_stats=parameters.flag("CVMFS_EXTENDED_GC_STATS", default=False),
        check_all_min_days=parameters.number("CVMFS_CHECK_ALL_MIN_DAYS", default.check_all_min_days),
    )
