"""A set-up in words, for people: what becomes of which file, as a difference, and which commands are run."""

import difflib
from collections.abc import Iterator

from cvfs_tools.setup.draft import Change, Folder, Node, Regular, Symlink
from cvfs_tools.setup.performing import Outcome


def shown(outcome: Outcome) -> Iterator[str]:
    """Lines that say what is to be done, in its order."""
    yield from (f"run     {' '.join(command)}" for command in outcome.before)
    for change in outcome.changes:
        yield from _shown(change)
    yield from (f"run     {' '.join(command)}" for command in outcome.after)
    yield from (f"keep    {place}: changed since" for place in outcome.left)
    if not (outcome.changes or outcome.before or outcome.after or outcome.left):
        yield "nothing to change"


def summary(change: Change) -> str:
    """One line for one place."""
    if change.after is None:
        return f"remove  {change.place}"
    if isinstance(change.after, Folder):
        return f"make    {change.place}/"
    if isinstance(change.after, Symlink):
        return f"link    {change.place} -> {change.after.target}"
    verb = "write " if change.before is None else "change"
    return f"{verb}  {change.place} ({change.after.mode:04o})"


def _shown(change: Change) -> Iterator[str]:
    yield summary(change)
    before, after = _lines(change.before), _lines(change.after)
    difference = difflib.unified_diff(before, after, lineterm="", n=1)
    # Its first two lines name files, which has been done.
    yield from (f"        {line}" for number, line in enumerate(difference) if number > 1)


def _lines(node: Node | None) -> list[str]:
    return node.content.decode(errors="replace").splitlines() if isinstance(node, Regular) else []
