"""Processes that work for one command and never outlive it; knows no task."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_PR_SET_PDEATHSIG = 1


def process_pool(
    workers: int | None, initializer: Callable[..., None], arguments: tuple[Any, ...]
) -> ProcessPoolExecutor:
    """As many processes as there are processors unless told, at least two; each calls `initializer(*arguments)` first.

    They are forked, not spawned: one is ready in a millisecond, and the pool starts its own threads afterwards.
    """
    count = workers or max(2, os.cpu_count() or 1)
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(count, context, _start, (initializer, arguments))


def _start(initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # An interrupt from the terminal reaches every process: the command decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    initializer(*arguments)


def _die_with_parent() -> None:
    """A killed command must not leave workers behind: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent.pid:
        os._exit(1)
