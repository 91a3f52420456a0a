"""Every failure of cvfs, in four families by what the caller does next.

    CvfsError
    ├── FormatError          bytes do not mean what they should: refuse the object, ask for another copy
    ├── TrustError           a link of the chain of trust is broken: keep the last good revision
    ├── StoreError           the object could not be had
    │   ├── MissingObject        ask the next store
    │   ├── CorruptObject        drop the copy, fetch anew
    │   ├── Unreachable          fail over
    │   └── StoreFull            serve without keeping
    └── PathError            the request is at fault: another path, name, parameter or state is needed
        ├── NotFound, NotADirectory, IsADirectory, NotALink, TooManyLinks, NoSuchAttribute, ReadOnly
        ├── Unpublishable        an entry of a source tree cannot be published faithfully
        ├── Locked               somebody else holds the repository
        ├── Conflict             somebody else published something different at the same paths
        ├── MountError           the kernel or fusermount refused to mount or unmount
        └── UsageError           a parameter or an argument makes no sense

Each class carries the `errno` that the kernel is told and the `exit_status` of a command. The message is one line: what
failed, where, what to do. What a path can be at fault for is also the OSError that a file system raises: code that knows
files only understands it. What the network or a server is at fault for is none: "not reachable" never passes for "absent".
"""

import enum
import errno
from collections.abc import Sequence


class CvfsError(Exception):
    """Root of everything that cvfs raises on purpose."""

    errno: int = errno.EIO
    exit_status: int = 1


class FormatError(CvfsError):
    """Bytes that do not follow the repository format."""

    exit_status = 32


class TrustError(CvfsError):
    """Verification refused at `step`, one of the names in `cvfs.trust`."""

    exit_status = 33

    def __init__(self, step: str, message: str) -> None:
        super().__init__(f"{step}: {message}")
        self.step = step
        self.reason = message

    def __reduce__(self) -> tuple[type["TrustError"], tuple[str, str]]:
        return type(self), (self.step, self.reason)


class StoreError(CvfsError):
    """An object could not be had or kept."""

    exit_status = 34


class MissingObject(StoreError):
    """The store answered: it has no such object."""


class CorruptObject(StoreError):
    """The bytes do not have the hash or the size they were asked for by."""


class Trouble(enum.Enum):
    """What became of a request to a peer, for those who choose another way."""

    NOT_CONNECTED = "nobody accepts the connection, or the name has no address"
    SILENT = "connected, then no byte in time, or too few"
    GATEWAY = "the proxy answers that it cannot reach the server"
    STATUS = "the server answers that it cannot"
    ANSWER = "an answer that is none: refused, cut off, or garbage"


class Unreachable(StoreError):
    """No answer, a broken answer, or an answer that came too late: which one, `trouble` says."""

    def __init__(self, message: str, trouble: Trouble = Trouble.ANSWER) -> None:
        super().__init__(message)
        self.trouble = trouble


class StoreFull(StoreError):
    """No room, or no right, to keep an object."""

    errno = errno.ENOSPC


class PathError(CvfsError):
    """The request names something that is not there or not allowed."""

    errno = errno.EINVAL
    exit_status = 2


class NotFound(PathError, FileNotFoundError):
    """No such file or directory."""

    errno = errno.ENOENT


class NotADirectory(PathError, NotADirectoryError):
    """A directory is needed."""

    errno = errno.ENOTDIR


class IsADirectory(PathError, IsADirectoryError):
    """Anything but a directory is needed."""

    errno = errno.EISDIR


class NotALink(PathError, OSError):
    """A symbolic link is needed."""

    errno = errno.EINVAL


class TooManyLinks(PathError, OSError):
    """Symbolic links that lead in a circle, or nearly."""

    errno = errno.ELOOP


class NoSuchAttribute(PathError, OSError):
    """No extended attribute of this name."""

    errno = errno.ENODATA


class AttributeUnsupported(NoSuchAttribute):
    """An extended attribute that means nothing to this file system."""

    errno = errno.EOPNOTSUPP


class ReadOnly(PathError, OSError):
    """A published tree cannot be changed through its mount."""

    errno = errno.EROFS


class Unpublishable(PathError):
    """An entry of the source tree that the format cannot hold, or that could not be read."""


class Locked(PathError):
    """The repository is held by another publisher."""

    errno = errno.EBUSY
    exit_status = 17


class Conflict(PathError):
    """Another publisher was first at `paths`, with something else; what it published stands."""

    errno = errno.ESTALE
    exit_status = 18
    _SHOWN = 10

    def __init__(self, paths: Sequence[bytes]) -> None:
        shown = ", ".join(path.decode("utf-8", "backslashreplace") or "/" for path in paths[: self._SHOWN])
        more = f" and {len(paths) - self._SHOWN} more" if len(paths) > self._SHOWN else ""
        count = f"{len(paths)} path" + ("s" if len(paths) > 1 else "")
        super().__init__(
            f"{count} changed here and, differently, in the revision published meanwhile: {shown}{more}; "
            "nothing was published: begin anew from that revision, or change these paths in the same way"
        )
        self.paths = tuple(paths)


class MountError(PathError):
    """A mount point could not be mounted, unmounted or repaired."""

    exit_status = 35


class UsageError(PathError):
    """A parameter or argument that makes no sense."""
