"""Branches: which published revision the next publish starts from, if not the newest; publishes nothing by itself.

A tag that is checked out is written down in the spool area until something was published on its branch, or until trunk is
checked out again. Clients see a branch only by its tags. Source: FORMAT section 6.
"""

import os
from dataclasses import dataclass, replace

from cvfs.errors import FormatError, NotFound, UsageError
from cvfs.format.manifest import Manifest
from cvfs.hashes import ContentHash, ObjectKind
from cvfs.history import BRANCH_NAME, DEFAULT_BRANCH, History, Tag, put_on_branch
from cvfs_server.publishers import Publisher, switching
from cvfs_server.release import Revision, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import RepositorySettings, load_settings
from cvfs_server.site import Site
from cvfs_server.state import read_state, write_state


@dataclass(frozen=True, slots=True)
class Checkout:
    """The tag that is checked out, its root catalog, the branch to publish on, and the branch that the tag is on."""

    tag: str
    root: ContentHash
    branch: str
    parent: str


def checked_out(settings: RepositorySettings) -> Checkout | None:
    """What is checked out, None for trunk. Raises FormatError."""
    data = read_state(_place(settings))
    if not data:
        return None
    fields = data.decode("utf-8", "replace").strip("\n").split(" ")
    if len(fields) not in {3, 4}:
        raise FormatError(f"{_place(settings)} makes no sense: remove it, or check out again")
    tag, root, branch, *parent = fields
    return Checkout(tag, ContentHash.parse(root, ObjectKind.CATALOG), branch, parent[0] if parent else DEFAULT_BRANCH)


def refuse_checked_out(settings: RepositorySettings, what: str) -> None:
    """Raises UsageError while a branch is checked out."""
    if checkout := checked_out(settings):
        raise UsageError(
            f"{settings.fqrn}: {what} is not possible while branch {checkout.branch} is checked out: publish, or go back to "
            "trunk with cvfs-server checkout"
        )


def leave_branch(site: Site, fqrn: str) -> None:
    """Check out trunk. Raises UsageError while a transaction is open on the branch."""
    settings = load_settings(site, fqrn)
    with switching(settings, "checkout"):
        _refuse_in_transaction(settings)
        return_to_trunk(settings)


def check_out(site: Site, fqrn: str, branch: str, tag: str = "") -> Checkout:
    """Let the next publish continue `branch` at its newest tag, or start it at `tag` as a new branch.

    Raises NotFound for an unknown branch or tag, UsageError for a new branch that exists or cannot be called so, and while a
    transaction is open.
    """
    settings = load_settings(site, fqrn)
    with switching(settings, "checkout"):
        _refuse_in_transaction(settings)
        checkout = _choose(PublishedRepository.open(site, fqrn).history(), branch, tag)
        fields = (checkout.tag, str(checkout.root), checkout.branch, checkout.parent)
        write_state(_place(settings), (" ".join(fields) + "\n").encode())
    return checkout


def return_to_trunk(settings: RepositorySettings) -> None:
    """Let the next publish continue the default branch."""
    try:
        os.unlink(_place(settings))
    except FileNotFoundError:
        return


def check_branch_tag(history: History, checkout: Checkout, name: str) -> None:
    """Raises UsageError if nothing can be published on the branch under this tag: it needs a name that is free."""
    if not name:
        raise UsageError(f"publishing on branch {checkout.branch} needs the name of a tag: give it with -a")
    put_on_branch(history, Tag(name, checkout.root, 0, 0, branch=checkout.branch), checkout.parent, None)


def release_branch(repository: PublishedRepository, checkout: Checkout, tag: Tag, publisher: Publisher) -> Manifest:
    """Make `tag`, whose catalogs are stored, the head of the branch, and check out trunk. What clients see by default stays.

    `repository` is the present revision; the caller holds the lock. Raises UsageError for a tag that cannot be.
    """
    manifest = repository.manifest
    history = put_on_branch(repository.history(), tag, checkout.parent, manifest.history)
    now = max(tag.timestamp, manifest.timestamp)
    revision = replace(Revision.again(manifest, history), now=now, forerunners=(tag.root_catalog,))
    released = release(repository.site, repository.settings, revision, publisher)
    return_to_trunk(repository.settings)
    return released


def _refuse_in_transaction(settings: RepositorySettings) -> None:
    if os.path.lexists(f"{settings.spool}/in_transaction.lock"):
        raise UsageError(f"{settings.fqrn} is in a transaction: publish or abort it before another tag is checked out")


def _choose(history: History, branch: str, tag: str) -> Checkout:
    exists = any(known.name == branch for known in history.branches)
    if not BRANCH_NAME.fullmatch(branch):
        raise UsageError(f"{branch!r} is no branch name: use letters, digits and '-_./:@'")
    if not tag:
        if not exists:
            raise NotFound(f"{history.fqrn} has no branch {branch!r}: name the tag where it shall start with -t")
        head = history.head(branch)
        return Checkout(head.name, head.root_catalog, branch, branch)
    if exists:
        raise UsageError(f"{history.fqrn} has a branch {branch!r} already: check it out without -t")
    start = history.find(tag)
    return Checkout(start.name, start.root_catalog, branch, start.branch)


def _place(settings: RepositorySettings) -> str:
    return f"{settings.spool}/checkout"
