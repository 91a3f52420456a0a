"""Threads for requests that have to wait, bounded in number and started when first needed; they know no protocol."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Workers:
    """Up to `limit` daemon threads: one that hangs in a download must not keep the process from ending.

    Only one thread submits, so the bookkeeping needs no lock. Start threads after the fork: they do not survive it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # One for each job that is done and was not followed by another: a semaphore, at a tenth of what Python's costs.
        self._finished: deque[None] = deque()
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job) -> None:
        """Run `job` soon, in the order of submission. It should not raise: what escapes it is only logged.

        Raises RuntimeError if the system gives no thread and there is none yet: then nothing will run it.
        """
        try:
            self._finished.pop()
        except IndexError:
            if len(self._threads) < self._limit:
                self._start()
        self._jobs.put(job)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"fuse-worker-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                raise
            log.warning("%s: the %d that there are have to do", error, len(self._threads))
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("a FUSE worker's job failed")
            self._finished.append(None)

    def stop(self) -> None:
        """Let every thread end after the jobs there are; waits for none."""
        for _ in self._threads:
            self._jobs.put(None)

    def drain(self, timeout: float) -> bool:
        """After `stop`: wait up to `timeout` seconds until every thread has ended; False if one has not."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
