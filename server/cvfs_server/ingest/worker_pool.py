"""Processes that work for one command and never outlive it; knows no task."""

import ctypes
import gc
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_PR_SET_PDEATHSIG = 1


def process_pool(
    workers: int | None, initializer: Callable[..., None], arguments: tuple[Any, ...]
) -> "ProcessPoolExecutor":
    """As many processes as there are processors unless told, at least two; each calls `initializer(*arguments)` first.

    They are forked, not spawned: one is ready in a millisecond, and the pool starts its own threads afterwards.
    """
    # Most commands never come here, and this takes a tenth of the time that they need to start.
    import multiprocessing  # noqa: PLC0415
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    count = workers or max(2, os.cpu_count() or 1)
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(count, context, _start, (os.getpid(), initializer, arguments))


def _start(parent: int, initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # An interrupt from the terminal reaches every process: the command decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    # What was there before the fork is not looked at again: it stays in memory that is shared.
    gc.freeze()
    initializer(*arguments)


def _die_with(parent: int) -> None:
    """A killed command must not leave workers behind: they would wait for work for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
