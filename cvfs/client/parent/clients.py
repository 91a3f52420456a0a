"""A repository's client as a process of its own: started, waited for until it serves, asked to end; it mounts by itself.

Its messages become messages of ours.
"""

import contextlib
import logging
import os
import subprocess
import threading
from collections.abc import Sequence

from cvfs.client.readiness import VARIABLE, Readiness
from cvfs.errors import MountError

log = logging.getLogger(__name__)

_LONGEST_LINE = 4096
_ENDED_WITHIN = 5.0


class Client:
    """The process that mounts and serves one repository. `words` start it."""

    def __init__(self, fqrn: str, words: Sequence[str]) -> None:
        self.fqrn = fqrn
        self._words = words
        self._last_words = ""
        self.pid = 0
        self.descriptor = -1

    def start(self) -> Readiness:
        """Start the process; where it will tell that it is ready. Raises MountError."""
        with contextlib.ExitStack() as on_failure:
            try:
                news = on_failure.enter_context(Readiness.listen())
                self._spawn(news.address)
            except OSError as error:
                raise MountError(f"{self.fqrn}: no process can be started: {error.strerror}") from error
            on_failure.pop_all()
        return news

    def _spawn(self, address: str) -> None:
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, VARIABLE: address},
            cwd="/",
            # What a terminal sends to us it does not send to them: users of a repository may need it longer.
            start_new_session=True,
        )
        self.pid = self._process.pid
        try:
            self.descriptor = os.pidfd_open(self.pid)
        except OSError:
            # Linux before 5.3, or a sandbox that does not know the call: nobody could tell that it ended.
            self._process.kill()
            self._process.wait(_ENDED_WITHIN)
            raise
        self._listener = threading.Thread(target=self._listen, name=f"client-{self.fqrn}", daemon=True)
        self._listener.start()

    def wait_ready(self, news: Readiness, deadline: float) -> None:
        """Wait until it serves, at most until `deadline` of the monotonic clock. Raises MountError with its reason."""
        if news.wait(self.pid, deadline):
            return
        if self.has_ended(0):
            raise MountError(self.bury())
        self._process.kill()
        self.bury()
        raise MountError(f"{self.fqrn}: was not mounted in time")

    def bury(self) -> str:
        """Wait for the end of a process that has ended or was killed; its last words, or how it ended."""
        try:
            status = self._process.wait(_ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            return f"{self.fqrn}: process {self.pid} does not end"
        self._listener.join(_ENDED_WITHIN)
        os.close(self.descriptor)
        self.descriptor = -1
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return self._last_words or f"{self.fqrn}: its process ended with {how}"

    def has_ended(self, timeout: float) -> bool:
        """Whether the process ends in so many seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _listen(self) -> None:
        """Its messages, line by line; a line that never ends comes in parts."""
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while line := pipe.readline(_LONGEST_LINE):
                if text := line.decode(errors="replace").strip():
                    # Told in the name of the parent, which is the same program.
                    self._last_words = text.removeprefix("cvfs: ")
                    log.info("%s", self._last_words)
