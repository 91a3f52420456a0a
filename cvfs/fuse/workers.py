"""Threads for requests that have to wait, bounded in number and started when first needed; they know no protocol."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Workers:
    """Up to `limit` daemon threads: one that hangs in a download must not keep the process from ending.

    One thread submits at a time. Start threads after the fork: they do not survive it.

    Each thread sleeps by itself, and a job wakes the one that slept last. Threads that wait for one queue wake each
    other in turns: a queue's lock is handed on by whoever was woken, and half of them find nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threads: list[_Worker] = []
        # Guards what follows.
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._jobs: deque[Job] = deque()
        self._stopping = False

    def submit(self, job: Job) -> None:
        """Run `job` soon, in the order of submission. It should not raise: what escapes it is only logged.

        Raises RuntimeError after `stop`, or if the system gives no thread and there is none yet: then nothing will run it.
        """
        if not self._idle and len(self._threads) < self._limit:
            self._start()
        with self._lock:
            if self._stopping:
                raise RuntimeError("the workers were stopped")
            if not self._idle:
                self._jobs.append(job)
                return
            worker = self._idle.pop()
        worker.wake(job)

    def _start(self) -> None:
        worker = _Worker(f"fuse-worker-{len(self._threads)}", self._next)
        try:
            worker.start()
        except RuntimeError as error:
            if not self._threads:
                raise
            log.warning("%s: the %d that there are have to do", error, len(self._threads))
        else:
            self._threads.append(worker)

    def _next(self, worker: "_Worker") -> Job | None:
        """What a worker is to do next; it waits for that. None is the end."""
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            if self._stopping:
                return None
            self._idle.append(worker)
        return worker.sleep()

    def stop(self) -> None:
        """Let every thread end after the jobs there are; waits for none."""
        with self._lock:
            self._stopping = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.wake(None)

    def drain(self, timeout: float) -> bool:
        """After `stop`: wait up to `timeout` seconds until every thread has ended; False if one has not."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class _Worker(threading.Thread):
    """A thread that does what `next_job` gives it, which may let it `sleep` until somebody calls `wake`."""

    def __init__(self, name: str, next_job: "Callable[[_Worker], Job | None]") -> None:
        super().__init__(name=name, daemon=True)
        self._next_job = next_job
        self._job: Job | None = None
        # Held while there is nothing to do.
        self._bed = threading.Lock()
        self._bed.acquire()

    def wake(self, job: Job | None) -> None:
        self._job = job
        self._bed.release()

    def sleep(self) -> Job | None:
        self._bed.acquire()
        job, self._job = self._job, None
        return job

    def run(self) -> None:
        while (job := self._next_job(self)) is not None:
            try:
                job()
            except Exception:
                log.exception("a FUSE worker's job failed")
