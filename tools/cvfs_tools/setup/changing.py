"""From a plan and what earlier ones did to a draft of the tree, and back; it writes nothing itself.

What an administrator wrote or changed is never overwritten unless that is forced, and then it comes back in the end.
"""

import os
from collections.abc import Iterable, Iterator

from cvfs.errors import UsageError
from cvfs_tools.setup import text_lines
from cvfs_tools.setup.draft import Draft, Folder, Node, Regular, Symlink
from cvfs_tools.setup.plan import Directory, File, Lines, Link, Section, Step
from cvfs_tools.setup.record import Done, DoneSection


def take_back(draft: Draft, section: DoneSection, *, force: bool = False) -> DoneSection:
    """Undo what was done, last things first; what is left alone because somebody changed it since stays remembered."""
    left = [one for one in reversed(section.done) if not _undone(draft, one, force=force)]
    return DoneSection(tuple(reversed(left)), section.stop, section.reload)


def _undone(draft: Draft, one: Done, *, force: bool) -> bool:
    present = draft.look(one.place)
    if present is None:
        return True
    if one.lines:
        return _lines_removed(draft, one, present)
    if isinstance(one.after, Folder):
        _clear(draft, one.place)
        return True
    if present != one.after and not force:
        return False
    draft.put(one.place, one.before)
    return True


def clear_directories(draft: Draft, sections: Iterable[DoneSection]) -> None:
    """Take away directories that were in use when their section was taken back, by what another one had put there."""
    for place in sorted({one.place for section in sections for one in section.done if isinstance(one.after, Folder)})[
        ::-1
    ]:
        _clear(draft, place)


def _clear(draft: Draft, directory: str) -> None:
    if isinstance(draft.look(directory), Folder) and draft.is_empty(directory):
        draft.put(directory, None)


def _lines_removed(draft: Draft, one: Done, present: Node) -> bool:
    if not isinstance(present, Regular):
        return False
    ending = one.before.content if isinstance(one.before, Regular) else b""
    content = text_lines.without_lines(present.content, one.lines, ending)
    gone = one.before is None and not content
    draft.put(one.place, None if gone else Regular(content, present.mode, present.owner))
    return True


def replace(draft: Draft, old: DoneSection, section: Section, *, force: bool = False) -> DoneSection:
    """Undo what was done for a section earlier and do its steps now; what that came to.

    Raises UsageError for what is another's and says something else.
    """
    left = take_back(draft, old, force=force).done
    # A directory that is in use was not taken back, but is still ours.
    kept = [one for one in old.done if isinstance(one.after, Folder) and draft.look(one.place) is not None]
    done = [one for step in section.steps for one in _carried_out(draft, step, force=force)]
    again = {one.place for one in done}
    earlier = [one for one in (*kept, *left) if one.place not in again]
    return DoneSection((*earlier, *done), section.stop, section.reload)


def _carried_out(draft: Draft, step: Step, *, force: bool) -> Iterator[Done]:
    yield from _directories(draft, os.path.dirname(step.place))
    match step:
        case Directory(place):
            yield from _directories(draft, place)
        case File(place, content, mode):
            yield from _put(draft, place, Regular(content, mode), force=force)
        case Link(place, target):
            yield from _put(draft, place, Symlink(target), force=force)
        case Lines():
            yield from _add_lines(draft, step, force=force)


def _directories(draft: Draft, place: str) -> Iterator[Done]:
    """The directory and those above it, as far as they are missing; a link to one is one."""
    if draft.look(place) is None and place != "/":
        yield from _directories(draft, os.path.dirname(place))
        draft.put(place, Folder())
        yield Done(place, None, Folder())


def _put(draft: Draft, place: str, wanted: Node, *, force: bool) -> Iterator[Done]:
    present = draft.look(place)
    if present == wanted:
        # It was there before us, and stays.
        return
    if isinstance(present, Folder) or (present is not None and not force):
        remedy = "" if isinstance(present, Folder) else ", or --force puts it aside until --remove"
        raise UsageError(f"{place}: is there already and is not what cvfs would put there: move it away{remedy}")
    draft.put(place, wanted)
    yield Done(place, present, wanted)


def _add_lines(draft: Draft, step: Lines, *, force: bool) -> Iterator[Done]:
    present = draft.look(step.place)
    if isinstance(present, Symlink | Folder):
        raise UsageError(f"{step.place}: not a file, make it one")
    content, mode, owner = (present.content, present.mode, present.owner) if present else (b"", 0o644, None)
    missing = text_lines.missing(content, step.lines)
    in_the_way = text_lines.conflicts(content, step.lines, step.against)
    if not missing or (in_the_way and step.gives_way):
        return
    if in_the_way and not force:
        line = in_the_way[0].decode(errors="replace")
        raise UsageError(
            f"{step.place} says {line!r} already: change it there, or --force puts it aside until --remove"
        )
    draft.put(step.place, Regular(text_lines.with_lines(content, step.lines, step.against), mode, owner))
    # What others wrote there is not remembered: it may be secret, and is not needed.
    before = Regular(text_lines.missing_ending(content), mode) if present else None
    yield Done(step.place, before, None, missing)
