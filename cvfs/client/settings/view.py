"""Parameters of what a mount shows, and of how the kernel treats it."""

from dataclasses import dataclass

from cvfs.client.settings.parameters import Parameters


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What differs from what was published, and how many requests may wait at a time."""

    claim_ownership: bool = False
    check_permissions: bool = True
    suid: bool = False
    posix_acl: bool = False
    open_messages: bool = False
    workers: int = 32

    @classmethod
    def of(cls, get: Parameters) -> "ViewSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            claim_ownership=get.flag("CVMFS_CLAIM_OWNERSHIP", default=False),
            check_permissions=get.flag("CVMFS_CHECK_PERMISSIONS", default=True),
            suid=get.flag("CVMFS_SUID", default=False),
            posix_acl=get.flag("CVMFS_ENFORCE_ACLS", default=False),
            open_messages=get.flag("CVFS_OPEN_MESSAGES", default=False),
            workers=get.number("CVMFS_FUSE3_MAX_THREADS", 32, least=1),
        )
