"""Which processes are our own: their requests must never wait for what they themselves are about to do; it starts none."""

import os
import threading

_GENERATIONS = 4


class Kin:
    """This process, and the clients that are made known with what they start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: set[int] = set()

    def add(self, pid: int) -> None:
        """A client is ours from here on."""
        with self._lock:
            self._clients.add(pid)

    def remove(self, pid: int) -> None:
        """It has ended."""
        with self._lock:
            self._clients.discard(pid)

    def includes(self, thread: int) -> bool:
        """Whether a thread, by its number in our namespace of processes, belongs to one of ours; never 0, a stranger's."""
        process, above = _family(thread)
        if process == os.getpid():
            return True
        with self._lock:
            clients = set(self._clients)
        for _ in range(_GENERATIONS):
            if process in clients:
                return True
            process, above = _family(above)
        return False


def _family(thread: int) -> tuple[int, int]:
    """The process of a thread and the process that started that; zeros if there is none."""
    if not thread:
        return 0, 0
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except OSError:
        return 0, 0
    return int(fields[b"Tgid"]), int(fields[b"PPid"])
