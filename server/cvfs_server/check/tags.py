"""The tag database against its own rules; opens no catalog. Source: FORMAT sections 5.14, 6."""

import os
from collections.abc import Iterator

from cvfs.errors import UsageError
from cvfs.format.manifest import Manifest
from cvfs.hashes import ContentHash
from cvfs.history import DEFAULT_BRANCH, Branch, History, Tag
from cvfs.store.base import Store
from cvfs_server.check.findings import Finding
from cvfs_server.check.objects import inflate

TAGS = "tag database"
_MAX_HISTORY = 2**30


def read_history(store: Store, content: ContentHash, scratch: str) -> History:
    """The tags of a revision. Raises StoreError or FormatError."""
    path = f"{scratch}/{content.name}"
    inflate(store, content, path, _MAX_HISTORY)
    try:
        return History.read(path)
    finally:
        os.unlink(path)


def tag_findings(store: Store, manifest: Manifest, history: History, *, existence: bool) -> Iterator[Finding]:
    """What is wrong with tags and branches; with `existence` also root catalogs that are gone. Raises Unreachable."""
    if history.fqrn != manifest.fqrn:
        yield Finding(TAGS, f"is that of {history.fqrn or 'nobody'}, not of {manifest.fqrn}")
    yield from _branch_findings(history)
    branches = {branch.name: branch for branch in history.branches}
    for tag in history.tags:
        yield from _one_tag(history, tag, branches)
        if existence and not store.has(tag.root_catalog.path):
            yield Finding(f"tag {tag.name}", f"its root catalog {tag.root_catalog.path} is missing")


def _branch_findings(history: History) -> Iterator[Finding]:
    used = {tag.branch for tag in history.tags}
    if [branch.parent for branch in history.branches if branch.name == DEFAULT_BRANCH] != [None]:
        yield Finding(TAGS, "has no default branch without parent")
    for branch in history.branches:
        if branch.name not in used:
            yield Finding(TAGS, f"branch {branch.name!r} is used by no tag")
        if branch.name != DEFAULT_BRANCH:
            yield from _one_branch(history, branch)


def _one_branch(history: History, branch: Branch) -> Iterator[Finding]:
    others = tuple(other for other in history.branches if other is not branch)
    try:
        History(history.fqrn, (), others).with_branch(branch)
    except UsageError as error:
        yield Finding(TAGS, str(error))


def _one_tag(history: History, tag: Tag, branches: dict[str, Branch]) -> Iterator[Finding]:
    try:
        History(history.fqrn, (), history.branches).with_tag(tag)
    except UsageError as error:
        yield Finding(TAGS, str(error))
    branch = branches.get(tag.branch)
    if branch and tag.revision < branch.initial_revision:
        what = f"revision {tag.revision} is older than its branch, which began at {branch.initial_revision}"
        yield Finding(f"tag {tag.name}", what)
