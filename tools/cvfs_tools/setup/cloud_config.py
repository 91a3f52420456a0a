"""A `#cloud-config` document as text for administrators to read: files, packages, commands; it knows nothing of cvfs.

Source: cloud-init's reference of modules (write_files, packages, runcmd). Strings are in double quotes: YAML would take some
words for numbers or truth values.
"""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cvfs_tools.setup.plan import Command, File

_INDENTATION = " " * 6
_BEYOND = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """What cloud-init does when a machine starts for the first time: files, then packages, then commands in turn.

    A command is a list of words that no shell looks at, or a line of shell. `title` is said in a comment.
    """

    title: str
    files: tuple[File, ...]
    packages: tuple[str, ...]
    commands: tuple[str | Command, ...]

    def serialise(self) -> str:
        """The document. The same value gives the same text."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "#cloud-config"
        yield f"# {self.title}"
        if self.files:
            yield "write_files:"
            for file in self.files:
                yield from _file(file)
        if self.packages:
            yield "packages:"
            yield from (f"  - {_quoted(name)}" for name in self.packages)
        if self.commands:
            yield "runcmd:"
            yield from (f"  - {_command(command)}" for command in self.commands)


def _file(file: File) -> Iterator[str]:
    yield f"  - path: {_quoted(file.place)}"
    # In quotes: YAML would take a bare number for octal or for decimal, depending on its version.
    yield f'    permissions: "{file.mode:04o}"'
    if _is_plain(file.content):
        yield "    content: |"
        yield from (_INDENTATION + line if line else "" for line in file.content.decode("ascii").splitlines())
    else:
        yield "    encoding: b64"
        yield f"    content: {_quoted(base64.b64encode(file.content).decode('ascii'))}"


def _is_plain(content: bytes) -> bool:
    """Whether a literal block gives back these bytes: ASCII lines, and a first one that shows the indentation."""
    plain = all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in content)
    return plain and content[:1] not in (b"", b" ", b"\n") and content.endswith(b"\n") and not content.endswith(b"\n\n")


def _command(command: str | Command) -> str:
    return _quoted(command) if isinstance(command, str) else f"[{', '.join(map(_quoted, command))}]"


def _quoted(text: str) -> str:
    """As JSON has it, but for what JSON writes as two halves of a character: YAML would keep them apart."""
    return _BEYOND.sub(lambda found: f"\\U{ord(found[0]):08x}", json.dumps(text, ensure_ascii=False))
