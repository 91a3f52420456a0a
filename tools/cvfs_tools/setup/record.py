"""What earlier set-ups did, as a file, so that it can be taken back; it changes nothing else."""

import json
import os
from dataclasses import dataclass
from typing import Any

from cvfs.durable import replace_file
from cvfs.errors import FormatError, UsageError
from cvfs_tools.setup.draft import Folder, Node, Regular, Symlink
from cvfs_tools.setup.plan import Command

PLACE = "/var/lib/cvfs/setup.json"
_VERSION = 1
_LARGEST = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Done:
    """What was done at a place: `after` was put there in place of `before`; or these `lines` were added to a file.

    For lines, `before` is None if the file was made for them, and otherwise tells only what end its last line lacked.
    """

    place: str
    before: Node | None
    after: Node | None = None
    lines: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class DoneSection:
    """What was done for a section, in order, and the commands to take it back."""

    done: tuple[Done, ...] = ()
    stop: tuple[Command, ...] = ()
    reload: tuple[Command, ...] = ()


Record = dict[str, DoneSection]
"""By the names of sections."""


def read_record(root: str) -> Record:
    """What is remembered; nothing if no set-up was done. Raises FormatError, UsageError."""
    path = _path(root)
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            raise FormatError(f"{path}: written by another version of cvfs, use that one")
        return {name: _section(section) for name, section in document["sections"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: damaged, what it should remember has to be taken back by hand") from error


def write_record(root: str, record: Record) -> None:
    """Remember; nothing to remember leaves no file. Raises OSError."""
    path, kept = _path(root), {name: section for name, section in record.items() if section.done}
    if kept:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        document = {"version": _VERSION, "sections": {name: _written(section) for name, section in kept.items()}}
        replace_file(path, json.dumps(document, indent=1).encode(), mode=_mode(kept))
    elif os.path.exists(path):
        os.unlink(path)
        _remove_if_empty(os.path.dirname(path))


def _mode(record: Record) -> int:
    """For all to read, unless it holds what was put aside and was not."""
    done = [one for section in record.values() for one in section.done if not one.lines]
    secret = any(isinstance(one.before, Regular) and not one.before.mode & 0o004 for one in done)
    return 0o600 if secret else 0o644


def lost_places(root: str = "/") -> list[str]:
    """What was made by a set-up and is not there any more, or leads nowhere; nothing for who may not know what was made.

    Raises FormatError, UsageError.
    """
    if not os.access(_path(root), os.R_OK):
        return []
    made = [one.place for section in read_record(root).values() for one in section.done if one.after is not None]
    return [place for place in made if not os.path.exists(os.path.join(root, place.lstrip("/")))]


def _path(root: str) -> str:
    return os.path.join(root, PLACE.lstrip("/"))


def _remove_if_empty(directory: str) -> None:
    if not os.listdir(directory):
        os.rmdir(directory)


def _written(section: DoneSection) -> dict[str, Any]:
    done = [
        {
            "place": one.place,
            "before": _written_node(one.before),
            "after": _written_node(one.after),
            "lines": [_text(line) for line in one.lines],
        }
        for one in section.done
    ]
    return {"done": done, "stop": section.stop, "reload": section.reload}


def _section(document: dict[str, Any]) -> DoneSection:
    done = tuple(
        Done(one["place"], _node(one["before"]), _node(one["after"]), tuple(_bytes(line) for line in one["lines"]))
        for one in document["done"]
    )
    return DoneSection(done, _commands(document["stop"]), _commands(document["reload"]))


def _commands(document: list[list[str]]) -> tuple[Command, ...]:
    return tuple(tuple(str(word) for word in command) for command in document)


def _written_node(node: Node | None) -> dict[str, Any] | None:
    match node:
        case Regular(content, mode, owner):
            return {"content": _text(content), "mode": mode, "owner": owner}
        case Symlink(target):
            return {"target": target}
        case Folder():
            return {}
    return None


def _node(document: dict[str, Any] | None) -> Node | None:
    if document is None:
        return None
    if "content" in document:
        return Regular(_bytes(document["content"]), int(document["mode"]), _owner(document.get("owner")))
    return Symlink(document["target"]) if "target" in document else Folder()


def _owner(numbers: list[int] | None) -> tuple[int, int] | None:
    if numbers is None:
        return None
    user, group = map(int, numbers)
    return user, group


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
