"""Processes that share the work of one check, or nobody: then a task is done when its result is asked for; knows no task.

Tasks are functions of what every process has, the kit, and of one argument.
"""

import mmap
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, Generic, Protocol, TypeVar

from cvfs.errors import StoreError
from cvfs_server.ingest.worker_pool import process_pool


class Shared(Protocol):
    """What can be copied to other processes."""

    def let_go(self) -> None:
        """Called just before: close what only one process may use."""


Kit = TypeVar("Kit", bound=Shared)
Argument = TypeVar("Argument")
Result = TypeVar("Result")


class StopFlag:
    """Raised by one process, seen by all that it has forked."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def __bool__(self) -> bool:
        return self._shared[0] != 0

    def raise_it(self) -> None:
        """From now on it is true."""
        self._shared[0] = 1


class Crew(Generic[Kit]):
    """Does tasks with the kit: in this process until `grow`. `stop` tells tasks that nobody waits for them any more."""

    def __init__(self, kit: Kit, workers: int | None, stop: StopFlag) -> None:
        self._kit = kit
        self._workers = workers
        self._stop = stop
        self._pool: Executor | None = None

    def grow(self) -> None:
        """Work in other processes from now on, unless one worker was asked for."""
        if self._workers != 1 and self._pool is None:
            self._kit.let_go()
            self._pool = process_pool(self._workers, _start_worker, (self._kit,))

    def submit(self, task: Callable[[Kit, Argument], Result], argument: Argument) -> Callable[[], Result]:
        """Begin a task; what is returned waits for its result, and raises what it raised. Raises StoreError."""
        if self._pool is None:
            return lambda: task(self._kit, argument)
        try:
            future: Future[Result] = self._pool.submit(_work, task, argument)
        except BrokenExecutor as error:
            raise _died() from error
        return lambda: _result(future)

    def close(self) -> None:
        """Let the processes end; what has not begun is not done."""
        self._stop.raise_it()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise _died() from error


def _died() -> StoreError:
    return StoreError("a process that looked at objects died: check again, with more memory or one worker")


_worker_kit: Any = None


def _start_worker(kit: Any) -> None:
    global _worker_kit  # noqa: PLW0603  # the state of a worker process
    _worker_kit = kit


def _work(task: Callable[[Any, Any], Any], argument: Any) -> Any:
    return task(_worker_kit, argument)
