"""Many directories of commands, as a PATH that environment modules made; each command ends with 0 and does nothing."""

from pathlib import Path

DIRECTORIES = 40
COMMANDS = 400
LOOKED_UP = 200


def make(tree: Path) -> None:
    """packages/NN/bin/command_NNN: shell scripts, one after the other into one directory after the other."""
    for number in range(DIRECTORIES):
        (tree / directory(number)).mkdir(parents=True)
    for number in range(COMMANDS):
        path = tree / directory(number % DIRECTORIES) / name(number)
        path.write_text("#!/bin/sh\nexit 0\n")
        path.chmod(0o755)


def directory(number: int) -> str:
    """Where commands are, relative to the tree."""
    return f"packages/{number:02}/bin"


def name(number: int) -> str:
    """Of a command."""
    return f"command_{number:03}"
