"""What a mount shows differently from what was published, made out of the settings; it never looks at a tree."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from cvfs.attributes import Attributes
from cvfs.client.magic.attributes import CONTROL_ATTRIBUTE, MagicAttributes
from cvfs.client.magic.mounts import Observation, magic_attributes
from cvfs.client.owners import OwnerMap, read_owner_map
from cvfs.client.settings import Settings
from cvfs.client.variant_symlinks import expand
from cvfs.errors import AttributeUnsupported, NoSuchAttribute
from cvfs.format.dirent import MOST_LINKS, DirectoryEntry

__all__ = ["CONTROL_ATTRIBUTE", "Observation", "View", "view_of"]

_TYPE, _LINK = 0o170000, stat.S_IFLNK
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})
_ANYBODY_READS = 0o444
_ANYBODY_ENTERS = 0o555
_TRUSTED = b"trusted."
# What the namespace of the machine itself has in /proc/self/uid_map.
_EVERYBODY = ["0", "0", "4294967295"]
_MAX_MAP = 4096
_ACCESS_LISTS = frozenset({b"system.posix_acl_access", b"system.posix_acl_default"})
_LABELS = frozenset({b"security.selinux", b"security.capability"})


@dataclass(frozen=True, slots=True)
class View:
    """Owners, modes, variables in links (None: links are shown as they are published), attributes of the mount's own.

    `owner` wins over the maps. `world_readable` lets everybody read every file and enter every directory. Attributes
    `trusted.*` are listed where somebody might read them. `access_lists`: the kernel asks for them and obeys.
    """

    owner: tuple[int, int] | None = None
    uids: OwnerMap | None = None
    gids: OwnerMap | None = None
    world_readable: bool = False
    variables: Mapping[bytes, bytes] | None = field(default_factory=dict)
    magic: MagicAttributes = field(default_factory=MagicAttributes)
    trusted: bool = True
    access_lists: bool = False

    def names(self, attributes: Mapping[bytes, bytes]) -> list[bytes]:
        """Which of the published attributes are listed."""
        return sorted(name for name in attributes if self.trusted or not name.startswith(_TRUSTED))

    def lacks(self, name: bytes) -> NoSuchAttribute:
        """What is to be said of an attribute that an entry has not got.

        `ls -l` asks two of each file, and the kernel remembers no answer; EOPNOTSUPP it takes as said of the whole mount. As an
        answer to a kernel that obeys access lists it would forbid every access.
        """
        if name in _LABELS or (name in _ACCESS_LISTS and not self.access_lists):
            return AttributeUnsupported(f"attributes {name!r} count for nothing in this mount")
        return NoSuchAttribute(f"no attribute {name!r}")

    def target(self, entry: DirectoryEntry) -> bytes:
        """Target of a symbolic link."""
        return entry.symlink if self.variables is None else expand(entry.symlink, self.variables)

    def attributes(self, ino: int, entry: DirectoryEntry) -> Attributes:
        """What stat(2) tells of an entry (FORMAT sections 9.4, 9.9)."""
        _, mode, size, mtime, mtime_ns, uid, gid, hardlinks, _, _, _, _ = entry
        rdev, kind = 0, mode & _TYPE
        if kind == _LINK:
            size = len(self.target(entry))
        elif kind in _DEVICES:
            size, rdev = 0, size
        if self.world_readable:
            mode |= _ANYBODY_ENTERS if stat.S_ISDIR(mode) else _ANYBODY_READS
        if self.owner is not None:
            uid, gid = self.owner
        else:
            uid = self.uids.of(uid) if self.uids else uid
            gid = self.gids.of(gid) if self.gids else gid
        links = hardlinks & MOST_LINKS or 1
        return Attributes(ino, mode, links, uid, gid, rdev, size, (size + 511) >> 9, mtime, mtime_ns or 0)


def view_of(settings: Settings, observed: Observation, claimer: tuple[int, int] | None = None) -> View:
    """The view that the settings ask for. `claimer`, user and group, is who claims all entries; else this process.

    Raises UsageError for a map that cannot be read.
    """
    owner = settings.view.owner
    return View(
        owner=(claimer or (os.getuid(), os.getgid())) if owner.claim_ownership else None,
        uids=read_owner_map(owner.uid_map) if owner.uid_map else None,
        gids=read_owner_map(owner.gid_map) if owner.gid_map else None,
        world_readable=owner.world_readable,
        variables=None if settings.view.raw_links else _variables(settings),
        magic=magic_attributes(settings, observed),
        trusted=not _in_user_namespace(),
        access_lists=settings.view.posix_acl,
    )


def _in_user_namespace() -> bool:
    """There the kernel never lets anybody read `trusted.*`, and an overlay cannot copy what is listed and not readable."""
    try:
        with open("/proc/self/uid_map", encoding="utf-8") as file:
            return file.read(_MAX_MAP).split() != _EVERYBODY
    except OSError:
        return False


def _variables(settings: Settings) -> dict[bytes, bytes]:
    variables = {**settings.variables, "CVMFS_FQRN": settings.fqrn}
    variables.setdefault("CVMFS_ARCH", os.uname().machine)
    return {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in variables.items()}
