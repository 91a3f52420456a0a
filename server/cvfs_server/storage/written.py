"""What one publisher put into a bucket, written down by all of its processes, so that it can be asked for before anything
names it; never what others put.

Each process has a file of its own in the publisher's directory, with a line for each object that the server has
acknowledged. A second file names the objects in parts that are not complete yet.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.errors import StoreFull

_PUT = "put."
_PARTS = "parts."
_BATCH = 20_000


class Acknowledged(NamedTuple):
    """An object that the server says it has: its path, its bytes, the tag it answered with."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Written:
    """The record in `directory`, which is one publisher's. Used by several threads and processes."""

    directory: str

    def put(self, path: str, size: int, etag: str) -> None:
        """The server has acknowledged an object. Raises StoreFull."""
        _append(f"{self.directory}/{_PUT}{os.getpid()}", f"{path} {size} {etag}\n")

    def started(self, key: str, attempt: str) -> None:
        """An object begins to come in parts. Raises StoreFull."""
        _append(f"{self.directory}/{_PARTS}{os.getpid()}", f"+ {attempt} {key}\n")

    def ended(self, key: str, attempt: str) -> None:
        """It is complete, or given up. Raises StoreFull."""
        _append(f"{self.directory}/{_PARTS}{os.getpid()}", f"- {attempt} {key}\n")

    def unfinished(self) -> list[tuple[str, str]]:
        """Key and attempt of what began and never ended. Raises StoreFull."""
        attempts: dict[tuple[str, str], None] = {}
        for path in self._files(_PARTS):
            for line in _lines(path, 0):
                sign, attempt, key = line.split(" ", 2)
                if sign == "+":
                    attempts[key, attempt] = None
                else:
                    attempts.pop((key, attempt), None)
        return list(attempts)

    def batches(self) -> Iterator[list[Acknowledged]]:
        """What was put since it was given out last, by this process, in lists that fit into memory. Raises StoreFull."""
        for path in self._files(_PUT):
            batch: list[Acknowledged] = []
            position = _given.get(path, 0)
            for line in _lines(path, position):
                name, size, etag = line.split(" ", 2)
                batch.append(Acknowledged(name, int(size), etag))
                position += len(line.encode()) + 1
                if len(batch) >= _BATCH:
                    yield batch
                    batch, _given[path] = [], position
            if batch:
                yield batch
            # Only now: a batch in which something was missing is given out again.
            _given[path] = position

    def forget(self) -> None:
        """Remove the record. Raises StoreFull."""
        with _lock:
            for path in [path for path in _open if os.path.dirname(path) == self.directory]:
                os.close(_open.pop(path))
                _given.pop(path, None)
        try:
            shutil.rmtree(self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _full(self.directory, error) from error

    def _files(self, prefix: str) -> list[str]:
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _full(self.directory, error) from error
        return [f"{self.directory}/{name}" for name in sorted(names) if name.startswith(prefix)]


_open: dict[str, int] = {}
_given: dict[str, int] = {}
_lock = threading.Lock()


def _renew() -> None:
    """The copy of a process writes files of its own."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for descriptor in _open.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()


os.register_at_fork(after_in_child=_renew)


def _append(path: str, line: str) -> None:
    try:
        with _lock:
            if path not in _open:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _open[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            data = line.encode()
            if os.write(_open[path], data) != len(data):
                raise StoreFull(f"{path}: no room to write down what was stored")
    except OSError as error:
        raise _full(path, error) from error


def _lines(path: str, position: int) -> Iterator[str]:
    """Whole lines from a position on: what a killed process did not finish is none."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            file.seek(position)
            for line in file:
                if line.endswith("\n"):
                    yield line[:-1]
    except OSError as error:
        raise _full(path, error) from error


def _full(path: str, error: OSError) -> StoreFull:
    return StoreFull(f"{path}: {error.strerror}; the staging directory of CVMFS_UPSTREAM_STORAGE must be writable")
