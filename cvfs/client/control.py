"""The control socket of a mount: a line in, a text out; served by a thread of its own, whatever the mount is doing."""

import contextlib
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from cvfs.errors import CvfsError, Unreachable, UsageError

log = logging.getLogger(__name__)

Command = Callable[[list[str]], str]

_MAX_REQUEST = 4096
_MAX_REPLY = 64 * 2**20
_PATIENCE = 2.0
_LONGEST_ADDRESS = 107


def socket_path(workspace: str, fqrn: str) -> str:
    """Where the socket of a repository's mount lies."""
    return os.path.join(workspace, f"cvmfs_io.{fqrn}")


class ControlServer:
    """Answers `commands` (by first word) on a Unix socket that only its owner may use."""

    def __init__(self, path: str, commands: Mapping[str, Command]) -> None:
        self.path = path
        self._commands = commands
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen. Replaces the socket that a killed mount left behind; beside a living one it takes a name with our number.

        Raises UsageError for a place where no socket can be.
        """
        try:
            self._socket = self._listen()
        except OSError as error:
            hint = "choose another cache directory, or a place for sockets with CVMFS_WORKSPACE"
            raise UsageError(f"{self.path}: no control socket possible: {error.strerror or error}; {hint}") from error
        threading.Thread(target=self._serve, args=(self._socket,), name="control", daemon=True).start()

    def _listen(self) -> socket.socket:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        if _is_alive(self.path):
            self.path = f"{self.path}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(self.path).st_mode):
                os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(self.path) as address:
                listener.bind(address)
            os.chmod(self.path, 0o600)
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        return listener

    def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._socket:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                self._answer(connection)
            except OSError as error:
                log.info("a control connection broke: %s", error)
            except Exception:
                log.exception("a control command failed")

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            words = _read_line(connection).decode(errors="replace").split()
            connection.settimeout(_PATIENCE)
            connection.sendall(self._run(words).encode())

    def _run(self, words: list[str]) -> str:
        command = self._commands.get(words[0] if words else "help")
        if command is None:
            return f"unknown command, known are: {' '.join(sorted(self._commands))}\n"
        try:
            return command(words[1:])
        except CvfsError as error:
            return f"failed: {error}\n"


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    """The path as the kernel takes it for sockets, which is short: where need be by way of its directory's descriptor."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield path
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def _is_alive(path: str) -> bool:
    """Whether another mount of the same repository listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        with _address(path) as address:
            return connection.connect_ex(address) == 0


def _read_line(connection: socket.socket) -> bytes:
    """Up to the end of the line, or of what the client sends; the deadline is for all of it."""
    line, deadline = b"", time.monotonic() + _PATIENCE
    while b"\n" not in line and len(line) < _MAX_REQUEST:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(_MAX_REQUEST)
        if not piece:
            break
        line += piece
    return line.partition(b"\n")[0]


def ask(path: str, command: str, timeout: float = 30.0) -> str:
    """Send one command to a mount and return its answer. Raises Unreachable if nobody answers in time."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(command.encode() + b"\n")
            return _read_all(connection)
    except OSError as error:
        raise Unreachable(
            f"{path}: no mount answers here ({error.strerror or error}): is the repository mounted?"
        ) from error


def _read_all(connection: socket.socket) -> str:
    data = bytearray()
    while (piece := connection.recv(65536)) and len(data) < _MAX_REPLY:
        data += piece
    return data.decode(errors="replace")
