"""How the kernel shall treat a mount, and what of the kernel's offer is taken for that; nothing here is negotiated."""

from dataclasses import dataclass

from cvfs.fuse.abi import Init


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the kernel shall treat the mount. Timeouts in seconds, sizes in bytes.

    Timeouts are long because what changes is invalidated explicitly. Without `zero_message_open` every open costs a
    round trip, but the file system knows which files are open, direct I/O is possible, and who opens for writing hears
    at once that he cannot. `statfs_timeout` is how long an answer to statfs serves again. `exported`: an NFS server uses the
    mount, and its clients name files by handles that last.
    """

    entry_timeout: float = 86400.0
    attribute_timeout: float = 86400.0
    zero_message_open: bool = True
    posix_acl: bool = False
    export_support: bool = True
    exported: bool = False
    cache_symlinks: bool = True
    statfs_timeout: float = 0.0
    max_read: int = 1 << 20
    max_readahead: int = 1 << 20
    max_background: int = 64
    workers: int = 32
    snapshots: int = 16

    @property
    def abilities(self) -> Init:
        """What to take of the kernel's offer."""
        wanted = Init.ASYNC_READ | Init.DO_READDIRPLUS | Init.PARALLEL_DIROPS | Init.MAX_PAGES
        if self.cache_symlinks:
            wanted |= Init.CACHE_SYMLINKS
        if self.zero_message_open:
            wanted |= Init.NO_OPEN_SUPPORT | Init.NO_OPENDIR_SUPPORT
        if self.posix_acl:
            wanted |= Init.POSIX_ACL
        return wanted | Init.EXPORT_SUPPORT if self.export_support else wanted
