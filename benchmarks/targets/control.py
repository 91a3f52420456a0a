"""What clients say of themselves on their control sockets, cvfs and the original alike; it asks, and changes nothing."""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.model import Failed

_PATIENCE = 30.0
_LONGEST = 16 * 2**20
_ORIGINAL = "cvmfs.n_fs_"
# The kernel's names of what the original counts under its own.
_NAMES = {"stat": "GETATTR", "dir_open": "OPENDIR", "forget_multi": "BATCH_FORGET"}


def state(path: Path) -> dict[str, Any]:
    """All that a mount of cvfs says. Raises Failed."""
    try:
        answer: dict[str, Any] = json.loads(ask(path, "stat"))
    except ValueError as error:
        raise Failed(f"{path}: no answer of a client: {error}") from error
    return answer


def operations(path: Path) -> Mapping[str, int]:
    """What the kernel asked an original client. Raises Failed."""
    rows = [line.split("|") for line in ask(path, "internal affairs").splitlines() if line.startswith(_ORIGINAL)]
    counted = [(row[0].removeprefix(_ORIGINAL), row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()]
    return {_NAMES.get(name, name.upper()): int(count) for name, count in counted}


def ask(path: Path, command: str) -> str:
    """One command, and all of its answer. Raises Failed if none comes in time."""
    deadline = time.monotonic() + _PATIENCE
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            # The kernel takes short paths only.
            connection.connect(f"/proc/self/fd/{directory}/{path.name}")
            connection.sendall(command.encode() + b"\n")
            return _all(connection, deadline).decode(errors="replace")
    except OSError as error:
        raise Failed(f"{path}: the client does not answer: {error.strerror or error}") from error
    finally:
        os.close(directory)


def _all(connection: socket.socket, deadline: float) -> bytes:
    answer = bytearray()
    while len(answer) < _LONGEST:
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
        connection.settimeout(max(0.001, deadline - time.monotonic()))
    return bytes(answer)
