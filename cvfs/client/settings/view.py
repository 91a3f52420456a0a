"""Parameters of what a mount shows, and of how the kernel treats it."""

import os
import re
from dataclasses import dataclass, replace
from typing import Self

from cvfs.client.settings.parameters import Parameters
from cvfs.errors import UsageError

OPEN_OBJECTS = 512
OPEN_CATALOGS = 128
_VISIBILITIES = ("rootonly", "always", "never")
_RESIDUE = re.compile(r"([0-9]{1,9})%([0-9]{1,9})")
_LARGEST_ID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """Whose the entries are and what their modes say. The maps are names of files."""

    claim_ownership: bool = False
    uid_map: str | None = None
    gid_map: str | None = None
    world_readable: bool = False

    @classmethod
    def of(cls, get: Parameters) -> Self:
        """Raises UsageError naming the parameter at fault."""
        return cls(
            claim_ownership=get.flag("CVMFS_CLAIM_OWNERSHIP", default=False),
            uid_map=get.optional("CVMFS_UID_MAP"),
            gid_map=get.optional("CVMFS_GID_MAP"),
            world_readable=get.flag("CVMFS_WORLD_READABLE", default=False),
        )


@dataclass(frozen=True, slots=True)
class MagicSettings:
    """Who sees the magic extended attributes: where they are listed, and which may be read by which groups only."""

    visibility: str = "rootonly"
    protected: frozenset[str] = frozenset()
    privileged_groups: frozenset[int] = frozenset()

    @classmethod
    def of(cls, get: Parameters) -> Self:
        """Raises UsageError naming the parameter at fault."""
        return cls(
            visibility=_visibility(get),
            protected=frozenset(get.words("CVMFS_XATTR_PROTECTED_XATTRS", ",")),
            privileged_groups=_groups(get, "CVMFS_XATTR_PRIVILEGED_GIDS"),
        )


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Numbers that last, for a mount that an NFS server exports.

    `shared` is a directory for the map that several servers use, else it lies in the workspace; only numbers n with
    n % `modulus` = `residue` are given out.
    """

    nfs_source: bool = False
    shared: str | None = None
    residue: int = 0
    modulus: int = 1

    @classmethod
    def of(cls, get: Parameters) -> Self:
        """Raises UsageError naming the parameter at fault."""
        residue, modulus = _interleaved(get, "CVMFS_NFS_INTERLEAVED_INODES")
        return cls(
            nfs_source=get.flag("CVMFS_NFS_SOURCE", default=False),
            shared=get.optional("CVMFS_NFS_SHARED"),
            residue=residue,
            modulus=modulus,
        )


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What differs from what was published, and how the kernel and this process share the work. Times in seconds.

    `kernel_timeout` limits what the kernel may believe without asking (None: until it is told otherwise);
    `open_objects` and `open_catalogs` bound the files that are held open, `workers` the requests that wait at a time.
    """

    owner: OwnerSettings = OwnerSettings()
    magic: MagicSettings = MagicSettings()
    export: ExportSettings = ExportSettings()
    check_permissions: bool = True
    suid: bool = False
    executable: bool = True
    posix_acl: bool = False
    open_messages: bool = False
    read_write: bool = False
    cache_symlinks: bool = True
    raw_links: bool = False
    snapshots: bool = False
    kernel_timeout: int | None = None
    statfs_timeout: int = 0
    open_objects: int = OPEN_OBJECTS
    open_catalogs: int = OPEN_CATALOGS
    workers: int = 32

    @classmethod
    def of(cls, get: Parameters) -> Self:
        """Raises UsageError naming the parameter at fault."""
        read_write = get.flag("CVMFS_MOUNT_RW", default=False)
        return cls(
            owner=OwnerSettings.of(get),
            magic=MagicSettings.of(get),
            export=ExportSettings.of(get),
            check_permissions=get.flag("CVMFS_CHECK_PERMISSIONS", default=True),
            suid=get.flag("CVMFS_SUID", default=False),
            executable=not get.flag("CVFS_NOEXEC", default=False),
            posix_acl=get.flag("CVMFS_ENFORCE_ACLS", default=False),
            # Who may open for writing has to be told at once that he may not write.
            open_messages=get.flag("CVFS_OPEN_MESSAGES", default=False) or read_write,
            read_write=read_write,
            cache_symlinks=get.flag("CVMFS_CACHE_SYMLINKS", default=True),
            raw_links=get.flag("CVMFS_CACHE_SERVER_MODE", default=False)
            or get.flag("CVMFS_SERVER_CACHE_MODE", default=False),
            snapshots=get.flag("CVFS_SNAPSHOTS", default=False),
            kernel_timeout=_kernel_timeout(get),
            statfs_timeout=get.number("CVMFS_STATFS_CACHE_TIMEOUT", 0),
            open_objects=min(OPEN_OBJECTS, get.number("CVMFS_NFILES", 131072, least=64) // 4),
            open_catalogs=get.number("CVMFS_CATALOG_WATERMARK", OPEN_CATALOGS, least=1),
            workers=get.number("CVMFS_FUSE3_MAX_THREADS", 32, least=1),
        )

    def with_absolute_places(self) -> Self:
        """The same for a process that works elsewhere."""
        owner = replace(self.owner, uid_map=_absolute(self.owner.uid_map), gid_map=_absolute(self.owner.gid_map))
        return replace(self, owner=owner, export=replace(self.export, shared=_absolute(self.export.shared)))


def _kernel_timeout(get: Parameters) -> int | None:
    name = "CVMFS_KCACHE_TIMEOUT"
    return max(0, get.number(name, 0, least=-(2**31))) if get.optional(name) else None


def _absolute(place: str | None) -> str | None:
    return os.path.abspath(place) if place else place


def _visibility(get: Parameters) -> str:
    """The newer parameter wins over the older one, which only knows all or nothing."""
    name = "CVMFS_MAGIC_XATTRS_VISIBILITY"
    chosen = get.text(name).strip().lower()
    if not chosen and get.optional("CVMFS_HIDE_MAGIC_XATTRS"):
        chosen = "never" if get.flag("CVMFS_HIDE_MAGIC_XATTRS", default=False) else "always"
    if chosen and chosen not in _VISIBILITIES:
        raise UsageError(f"{name}={chosen}: one of {', '.join(_VISIBILITIES)} is needed")
    return chosen or "rootonly"


def _groups(get: Parameters, name: str) -> frozenset[int]:
    words = get.words(name, ",")
    if not all(word.isdecimal() and int(word) <= _LARGEST_ID for word in words):
        raise UsageError(f"{name}={get.text(name)}: numbers of groups, separated by commas, are needed")
    return frozenset(map(int, words))


def _interleaved(get: Parameters, name: str) -> tuple[int, int]:
    """`b%a`: only numbers b, b + a, b + 2a and so on."""
    text = get.optional(name)
    if text is None:
        return 0, 1
    match = _RESIDUE.fullmatch(text)
    if match is None or not 0 <= int(match[1]) < int(match[2]):
        raise UsageError(f"{name}={text}: a residue and a modulus as in 1%4 are needed")
    return int(match[1]), int(match[2])
