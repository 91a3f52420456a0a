"""Transactions of one repository: open, publish, abort, repair; each verb alone, and completed by the next if it is killed.

A transaction is open while its record is there. Everything that was changed is in the upper layer, which outlives mounts,
processes and reboots. Source: the original's cvmfs_server transaction, publish, abort, mount.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cvfs.errors import CvfsError, Locked, MountError, StoreFull, UsageError
from cvfs.hashes import ContentHash
from cvfs.kernel.mounts import InUse, may_mount
from cvfs_server.hooks import run_hook
from cvfs_server.lock import publisher_lock
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.publish import collect_garbage, publish
from cvfs_server.publishers import registered
from cvfs_server.repository import PublishedRepository, reading
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.site import Site
from cvfs_server.state import make_directory, no_link
from cvfs_server.tags.branches import checked_out
from cvfs_server.transaction.layers import clear_layers, make_layers
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import (
    Record,
    busy,
    create_record,
    is_open,
    open_record,
    read_record,
    remove_record,
    user_name,
    write_record,
)
from cvfs_server.transaction.stage import Stage
from cvfs_server.transaction.users import named, users_of
from cvfs_server.transaction.worktree import contribution, draft_template

log = logging.getLogger(__name__)

_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """`patience`: seconds to wait while another transaction is open. `subpath`: all that may be changed, empty or `/path`.

    `template`: a directory, and the path that it is copied to at the beginning.
    """

    patience: float = 0
    subpath: str = ""
    template: tuple[str, str] | None = None


def open_transaction(site: Site, fqrn: str, options: TransactionOptions | None = None) -> str:
    """Make a repository writable for this user; returns the path where he edits.

    Raises Locked naming who has a transaction open, MountError, StoreFull.
    """
    options = options or TransactionOptions()
    settings = load_settings(site, fqrn)
    stage = Stage.of(site, settings)
    with _turn(stage.layout, options.patience):
        run_hook(site, "transaction", "before", fqrn)
        # A garbage collection waits for whoever is registered, and then keeps what the record names.
        with registered(settings, "transaction"):
            record = _new_record(site, settings, options)
            create_record(stage.layout, record)
        try:
            record = _begin(stage, record)
        except BaseException:
            _close(stage, record, lazy=True)
            raise
        run_hook(site, "transaction", "after", fqrn)
        return stage.place(record.keeper)


def publish_transaction(
    site: Site,
    fqrn: str,
    options: PublishOptions | None = None,
    *,
    force: bool = False,
    tweak: Callable[[str], None] = lambda _place: None,
) -> PublishReport:
    """Publish what was changed, and close the transaction. `force` does it although somebody uses the union.

    `tweak` is called with its path before anything is read. Raises UsageError if there is no transaction, InUse naming
    processes, and as `publish` does; then the transaction is open as before.
    """
    settings = load_settings(site, fqrn)
    stage = Stage.of(site, settings)
    with _alone(stage.layout, "publish"):
        record = _resumed(stage)
        tweak(stage.place(record.keeper))
        run_hook(site, "publish", "before", fqrn)
        _check_unused(stage, force=force)
        with _publishing(stage, record, force=force):
            chosen = replace(options or PublishOptions(), base=record.base_hash)
            report = publish(site, fqrn, lambda base: contribution(stage.layout, record, base, chosen), chosen)
            published = replace(record, published=report.root_hash)
            # It only tells those who come after a kill: what is published is closed all the same.
            with contextlib.suppress(StoreFull):
                write_record(stage.layout, published)
        _close(stage, published, lazy=force)
        _show_present(stage)
        run_hook(site, "publish", "after", fqrn)
    collect_garbage(site, fqrn, chosen)
    return report


def abort_transaction(site: Site, fqrn: str, *, force: bool = False) -> None:
    """Forget what was changed. `force` does it although somebody uses the union, and whatever state it is in.

    Raises UsageError if there is no transaction, InUse naming processes.
    """
    settings = load_settings(site, fqrn)
    stage = Stage.of(site, settings)
    with _alone(stage.layout, "abort"):
        if not is_open(stage.layout):
            open_record(stage.layout)
        record = _readable(stage.layout, force=force)
        if not force:
            _check_unused(stage, force=False)
        run_hook(site, "abort", "before", fqrn)
        _close(stage, record, lazy=force)
        _show_present(stage)
        run_hook(site, "abort", "after", fqrn)


def mount_repository(site: Site, fqrn: str) -> str:
    """Bring back the mounts after a reboot or a crash, those of an open transaction too; returns the path.

    Raises MountError, UsageError for another user's transaction.
    """
    settings = load_settings(site, fqrn)
    stage = Stage.of(site, settings)
    with _alone(stage.layout, "mount"):
        record = _unfinished(stage)
        if record is None:
            _check_may_mount(fqrn)
            _show(stage, _present_root(site, settings))
            return stage.layout.union
        if record.apart is may_mount():
            raise UsageError(f"{fqrn}: the transaction is that of {user_name(record.user)}, who alone can mount it")
        if not stage.is_up(record.keeper):
            record = _put_up(stage, record)
        elif not stage.union(record.keeper).is_writable:
            stage.union(record.keeper).set_writable(writable=True)
        return stage.place(record.keeper)


def unmount_repository(site: Site, fqrn: str, *, lazy: bool = False) -> None:
    """Take the mounts away; an open transaction stays open. Raises InUse naming processes, MountError."""
    settings = load_settings(site, fqrn)
    stage = Stage.of(site, settings)
    with _alone(stage.layout, "umount"):
        record = read_record(stage.layout)
        stage.take_down(record.keeper if record else 0, lazy=lazy)


def unmount_everything(site: Site, settings: RepositorySettings) -> None:
    """Take away whatever is mounted, used or not, before the repository is removed. Raises MountError."""
    stage = Stage.of(site, settings)
    record = _readable(stage.layout, force=True)
    stage.take_down(record.keeper if record else 0, lazy=True)


def refresh_mount(site: Site, settings: RepositorySettings) -> None:
    """Show the present revision where the repository is mounted between transactions; of no effect elsewhere.

    For whoever published without a transaction. Failures are only logged.
    """
    stage = Stage.of(site, settings)
    if may_mount() and not is_open(stage.layout) and stage.is_up(0):
        with contextlib.suppress(Locked), _alone(stage.layout, "mount"):
            _show_present(stage)


# --- one verb at a time -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(layout: Layout, verb: str) -> Iterator[None]:
    """Raises Locked, naming the verb that is at work."""
    make_directory(layout.spool)
    with publisher_lock(layout.verb_lock, verb):
        yield


@contextlib.contextmanager
def _turn(layout: Layout, patience: float) -> Iterator[None]:
    """Alone, with no transaction open; waits for that at most so many seconds. Raises Locked."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.ExitStack() as held:
            try:
                # First of all without the lock: whoever waits must not be in the way of those who end the transaction.
                _check_closed(layout)
                held.enter_context(_alone(layout, "transaction"))
                _check_closed(layout)
            except Locked:
                if time.monotonic() >= deadline:
                    raise
            else:
                yield
                return
        time.sleep(_PAUSE)


def _check_closed(layout: Layout) -> None:
    if is_open(layout):
        raise Locked(busy(layout))


def _readable(layout: Layout, *, force: bool) -> Record | None:
    """The record; with `force` one that makes no sense is as good as none."""
    try:
        return read_record(layout)
    except UsageError:
        if not force:
            raise
        return None


def _resumed(stage: Stage) -> Record:
    """The open transaction. Raises UsageError if there is none, or only one whose publication was not cleared away yet."""
    _unfinished(stage)
    return open_record(stage.layout)


def _unfinished(stage: Stage) -> Record | None:
    """The open transaction; one that was published already is cleared away first."""
    record = read_record(stage.layout)
    if record is None or not record.published:
        return record
    _close(stage, record, lazy=True)
    return None


# --- what the verbs do ------------------------------------------------------------------------------------------------


def _new_record(site: Site, settings: RepositorySettings, options: TransactionOptions) -> Record:
    root, draft = _present_root(site, settings), ""
    if options.template:
        origin, target = map(os.fsencode, options.template)
        draft = str(draft_template(site, settings, root, origin, target))
    return Record(str(root), options.subpath, os.geteuid(), int(time.time()), draft=draft, apart=not may_mount())


def _begin(stage: Stage, record: Record) -> Record:
    """Writable mounts over the base. Those that show it already are kept: somebody may be reading there."""
    if not record.apart and stage.shows(record.shown):
        stage.union(0).set_writable(writable=True)
        return record
    _make_layers(stage, record.shown)
    return _put_up(stage, record)


def _put_up(stage: Stage, record: Record) -> Record:
    stage.take_down(record.keeper, lazy=True)
    if not os.path.isdir(stage.layout.upper):
        _make_layers(stage, record.shown)
    record = replace(record, keeper=stage.put_up(record.shown, writable=True, apart=record.apart))
    write_record(stage.layout, record)
    return record


def _show(stage: Stage, root: ContentHash) -> None:
    """A revision between transactions, not writable."""
    if not stage.shows(root):
        stage.take_down(0, lazy=True)
        _make_layers(stage, root)
        stage.put_up(root, writable=False, apart=False)


def _show_present(stage: Stage) -> None:
    """As the original does it, a publisher sees the newest revision at its place; what was done is not undone if not."""
    if not may_mount():
        return
    try:
        _show(stage, _present_root(stage.site, stage.settings))
    except CvfsError as error:
        log.warning("%s: the present revision cannot be shown: %s", stage.layout.fqrn, error)


def _make_layers(stage: Stage, root: ContentHash) -> None:
    stage.take_down(0, lazy=True)
    with reading(stage.settings) as scratch:
        repository = PublishedRepository.open(stage.site, stage.settings.fqrn)
        make_layers(stage.layout, repository.tree_of(root, scratch).find(b""))


@contextlib.contextmanager
def _publishing(stage: Stage, record: Record, *, force: bool) -> Iterator[None]:
    """Nothing changes while it is read; if it cannot be published, editing goes on. Raises InUse."""
    union = stage.union(record.keeper)
    frozen = _freeze(stage, record, force=force)
    try:
        _mark_publishing(stage.layout)
        yield
    except BaseException:
        if frozen:
            with contextlib.suppress(MountError):
                union.set_writable(writable=True)
        raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(stage.layout.publishing_mark)


def _mark_publishing(layout: Layout) -> None:
    try:
        with open(layout.publishing_mark, "w", encoding="ascii", opener=no_link) as mark:
            mark.write(f"{os.getpid()}\n")
    except OSError as error:
        raise StoreFull(f"cannot write {layout.publishing_mark}: {error.strerror}; nothing was published") from error


def _freeze(stage: Stage, record: Record, *, force: bool) -> bool:
    """Whether it was done: mounts may be gone, their layers are what is published."""
    union = stage.union(record.keeper)
    if not union.is_writable:
        return False
    try:
        union.set_writable(writable=False)
    except InUse as error:
        if not force:
            raise stage.in_use(error) from error
        return False
    return True


def _check_unused(stage: Stage, *, force: bool) -> None:
    users = [] if force else users_of(stage.layout.union)
    if users:
        raise InUse(f"{stage.layout.union} is in use by {named(users)}: let them end, or force it with -f")


def _close(stage: Stage, record: Record | None, *, lazy: bool) -> None:
    """There is no transaction any more, and nothing left of it."""
    keeper = record.keeper if record else 0
    try:
        stage.take_down(keeper, lazy=lazy)
    except InUse:
        # Who came in the last moment keeps what he has open.
        stage.take_down(keeper, lazy=True)
    clear_layers(stage.layout)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stage.layout.publishing_mark)
    remove_record(stage.layout)


def _present_root(site: Site, settings: RepositorySettings) -> ContentHash:
    """What a transaction begins with: the branch that is checked out, or the newest revision."""
    checkout = checked_out(settings)
    return checkout.root if checkout else PublishedRepository.open(site, settings.fqrn).manifest.root_catalog


def _check_may_mount(fqrn: str) -> None:
    if not may_mount():
        raise UsageError(
            f"{fqrn} is not in a transaction: only root keeps a repository mounted at other times, see cvfs mount"
        )
