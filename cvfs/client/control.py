"""The control socket of a mount: a line in, an answer out, whatever the mount is doing; it knows no command itself.

Each connection has a thread of its own, so that a command which takes its time holds up nobody, and there are only so many.
"""

import contextlib
import errno
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cvfs.errors import CvfsError, Unreachable, UsageError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
"""Commands under way at a time; who comes then is told so."""

_MAX_REQUEST = 4096
_MAX_REPLY = 64 * 2**20
_PATIENCE = 2.0
# The original's cvmfs_talk ends its command neither with a line end nor with the stream.
_PAUSE = 0.25
_LONGEST_ADDRESS = 107

# What a request begins with that wants to know whether the command succeeded.
PLAIN = ""
AS_JSON = "--json"
AS_LINES = "--lines"


class Answer(NamedTuple):
    """What a command has to say: `text` in whole lines for people, `data` for programs, `good` False for a failure."""

    text: str
    data: object = None
    good: bool = True

    def shown(self, form: str) -> str:
        """The text, or one JSON object: `ok`, and as `answer` the data if there is any, else the lines of the text."""
        if form == PLAIN:
            return self.text
        lines = self.data is None or form == AS_LINES
        return json.dumps({"ok": self.good, "answer": self.text.splitlines() if lines else self.data}) + "\n"


Respond = Callable[[str], Answer]
"""The answer to a command line. What it raises as CvfsError is told to whoever asked."""


def socket_path(workspace: str, fqrn: str) -> str:
    """Where the socket of a repository's mount lies."""
    return os.path.join(workspace, f"cvmfs_io.{fqrn}")


class ControlServer:
    """Answers commands on a Unix socket that only its owner may use: `owner` if it is a user's number, else who serves."""

    def __init__(self, path: str, respond: Respond, owner: int | None = None) -> None:
        self.path = path
        self._respond = respond
        self._owner = owner
        self._socket: socket.socket | None = None
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

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
        for left_behind in _sockets_beside(self.path):
            if not _is_alive(left_behind):
                _remove_socket(left_behind)
        if _is_alive(self.path):
            self.path = f"{self.path}.{os.getpid()}"
        _remove_socket(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(listener)
        except OSError:
            listener.close()
            raise
        return listener

    def _bind(self, listener: socket.socket) -> None:
        with _address(self.path) as address:
            listener.bind(address)
        os.chmod(self.path, 0o600)
        if self._owner is not None:
            os.chown(self.path, self._owner, -1)
        listener.listen(MAX_CONNECTIONS)

    def stop(self) -> None:
        """Stop listening and remove the socket. Commands under way are not waited for."""
        listener, self._socket = self._socket, None
        if listener:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def revive(self) -> None:
        """Listen again where somebody removed the socket, with all of the cache for instance. Raises UsageError."""
        if self._socket and not os.path.exists(self.path):
            log.warning("%s: somebody removed the control socket, made again", self.path)
            self.stop()
            self.start()

    def _serve(self, listener: socket.socket) -> None:
        while self._socket is listener:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                # Out of descriptors, for instance, which passes.
                if self._socket is listener:
                    log.warning("%s: no connection can be taken: %s", self.path, error.strerror)
                    time.sleep(_PAUSE)
                continue
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        """A thread for the connection, where there is room for one: the listening thread answers no command itself."""
        if not self._places.acquire(blocking=False):
            _refuse(connection)
            return
        try:
            threading.Thread(target=self._converse, args=(connection,), name="command", daemon=True).start()
        except RuntimeError as error:
            log.warning("%s: no thread for a command: %s", self.path, error)
            self._places.release()
            _refuse(connection)

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._answer(connection)
        except OSError as error:
            log.info("a control connection broke: %s", error)
        except Exception:
            log.exception("a control command failed")
        finally:
            self._places.release()

    def _answer(self, connection: socket.socket) -> None:
        line = _read_line(connection).decode(errors="replace").strip()
        form = next((form for form in (AS_JSON, AS_LINES) if line.startswith(form)), PLAIN)
        try:
            answer = self._respond(line.removeprefix(form).strip())
        except CvfsError as error:
            answer = Answer(f"Failed ({error})\n", good=False)
        connection.settimeout(_PATIENCE)
        connection.sendall(answer.shown(form).encode(errors="surrogateescape"))


def _refuse(connection: socket.socket) -> None:
    """By the thread that should be listening: what was asked is read so that the answer arrives, but not waited for."""
    with connection, contextlib.suppress(OSError):
        connection.settimeout(_PAUSE)
        connection.recv(_MAX_REQUEST)
        connection.sendall(b"Failed (too many commands at a time)\n")


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


def _sockets_beside(path: str) -> Iterator[str]:
    """The names that further mounts of the same repository took."""
    directory, first = os.path.split(path)
    for name in os.listdir(directory):
        if name.startswith(f"{first}.") and name[len(first) + 1 :].isdecimal():
            yield os.path.join(directory, name)


def _remove_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _is_alive(path: str) -> bool:
    """Whether another mount of the same repository listens there: one that is busy does, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        with _address(path) as address:
            return connection.connect_ex(address) not in (errno.ENOENT, errno.ECONNREFUSED)


def _read_line(connection: socket.socket) -> bytes:
    """Up to the end of the line, a pause, or the end of what the client sends; the deadline is for all of it."""
    line, deadline = b"", time.monotonic() + _PATIENCE
    while not line.endswith(b"\0") and b"\n" not in line and len(line) < _MAX_REQUEST:
        left = max(0.001, deadline - time.monotonic())
        connection.settimeout(min(_PAUSE, left) if line else left)
        try:
            piece = connection.recv(_MAX_REQUEST)
        except TimeoutError:
            piece = b""
        if not piece:
            break
        line += piece
    return line.partition(b"\n")[0].rstrip(b"\0")


def ask(path: str, command: str, timeout: float = 30.0) -> str:
    """Send one command to a mount and return its answer. Raises Unreachable if nobody answers in time."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(command.encode(errors="surrogateescape") + b"\n")
            return _read_all(connection, time.monotonic() + timeout)
    except OSError as error:
        raise Unreachable(
            f"{path}: no mount answers here ({error.strerror or error}): is the repository mounted?"
        ) from error


def _read_all(connection: socket.socket, deadline: float) -> str:
    """The deadline is for all of it: an answer that dribbles in is none."""
    data = bytearray()
    while (piece := connection.recv(65536)) and len(data) < _MAX_REPLY:
        data += piece
        connection.settimeout(max(0.001, deadline - time.monotonic()))
    return data.decode(errors="surrogateescape")
