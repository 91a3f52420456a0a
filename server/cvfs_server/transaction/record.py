"""What is remembered of an open transaction, in the file whose presence says that there is one; no mounts, no catalogs."""

import json
import os
import pwd
import time
from dataclasses import asdict, dataclass, fields

from cvfs.errors import FormatError, Locked, StoreFull, UsageError
from cvfs.hashes import ContentHash, ObjectKind
from cvfs_server.state import make_directory, read_state, write_state
from cvfs_server.transaction.layout import Layout


@dataclass(frozen=True, slots=True)
class Record:
    """An open transaction.

    `base` is the root hash of the revision it began with, `draft` that of one with a template's copy, which is what users see
    then. `subpath` limits what may be changed, empty or `/path`. `user` opened it, at the Unix time `started`; `apart` if his
    mounts are in namespaces of their own, which the process `keeper` holds. `published` is the root hash it became, while
    what is left of it is being cleared away.
    """

    base: str
    subpath: str
    user: int
    started: int
    draft: str = ""
    apart: bool = False
    keeper: int = 0
    published: str = ""

    @property
    def base_hash(self) -> ContentHash:
        """The root catalog of the revision that is being changed. Raises FormatError."""
        return ContentHash.parse(self.base, ObjectKind.CATALOG)

    @property
    def shown(self) -> ContentHash:
        """The root catalog that is below what users change. Raises FormatError."""
        return ContentHash.parse(self.draft, ObjectKind.CATALOG) if self.draft else self.base_hash


def read_record(layout: Layout) -> Record | None:
    """The open transaction, None if there is none. Raises UsageError for a file that cannot be understood."""
    data = read_state(layout.open_mark)
    if data is None:
        return None
    try:
        return _checked(Record(**json.loads(data)))
    except (ValueError, TypeError, FormatError) as error:
        raise UsageError(
            f"{layout.open_mark}: not of this program, or damaged: abort the transaction with cvfs-server abort -f "
            f"{layout.fqrn}"
        ) from error


def _checked(record: Record) -> Record:
    """Raises TypeError or FormatError for one that nobody has written like this."""
    wrong = [field.name for field in fields(Record) if type(getattr(record, field.name)) is not field.type]
    if wrong or record.keeper < 0:
        raise TypeError(", ".join(wrong) or "keeper")
    # Parsed here, so that nobody has to expect trouble later.
    for root in (record.base, *filter(None, (record.draft, record.published))):
        ContentHash.parse(root, ObjectKind.CATALOG)
    return record


def is_open(layout: Layout) -> bool:
    """Whether there is a transaction, whatever its record says."""
    return os.path.lexists(layout.open_mark)


def open_record(layout: Layout) -> Record:
    """The open transaction. Raises UsageError if there is none."""
    record = read_record(layout)
    if record is None:
        raise UsageError(
            f"Repository {layout.fqrn} is not in a transaction: open one with cvfs-server transaction {layout.fqrn}"
        )
    return record


def create_record(layout: Layout, record: Record) -> None:
    """Open a transaction. Raises Locked, naming who has one open, StoreFull."""
    make_directory(layout.spool)
    staged = f"{layout.open_mark}.{os.getpid()}"
    write_state(staged, _text(record))
    try:
        # A link fails if the name is taken, and never shows half of a file.
        os.link(staged, layout.open_mark)
    except FileExistsError:
        raise Locked(busy(layout)) from None
    except OSError as error:
        raise StoreFull(f"cannot write {layout.open_mark}: {error.strerror}") from error
    finally:
        os.unlink(staged)


def write_record(layout: Layout, record: Record) -> None:
    """Replace what is remembered. Raises StoreFull."""
    write_state(layout.open_mark, _text(record))


def remove_record(layout: Layout) -> None:
    """There is no transaction any more."""
    if os.path.lexists(layout.open_mark):
        os.unlink(layout.open_mark)


def busy(layout: Layout) -> str:
    """Who has it open, in the original's words and more."""
    try:
        record = read_record(layout)
    except UsageError:
        record = None
    holder = f", opened by {user_name(record.user)} at {_clock(record.started)}" if record else ""
    return f"Repository {layout.fqrn} is already in a transaction{holder}: publish or abort it, or wait with -t SECONDS"


def user_name(uid: int) -> str:
    """A user as people call him."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _clock(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _text(record: Record) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"
