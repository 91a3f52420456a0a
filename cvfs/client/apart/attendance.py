"""Waiting for a command as its user would: signals go to it, stops and ends are shared; it starts nothing.

The command is in the same process group, so that the terminal's own signals (Ctrl-C, Ctrl-Z, a new size) reach it anyway.
Those are not passed on: it would get them twice.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Callable

_NOT_CAUGHT = {signal.SIGKILL, signal.SIGSTOP}
_OF_THE_TERMINAL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_OWN_FAULTS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}
_WAITED_FOR = signal.valid_signals() - _NOT_CAUGHT - _OF_THE_TERMINAL - _OWN_FAULTS
_DIED = 128


def hold_signals() -> None:
    """From here on what is sent to this process waits for `attend`. A process that is started now would inherit it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)


def attend(command: int, on_other: Callable[[int], None]) -> int:
    """Wait for the process `command`, a child, to end: its wait status. Other children that ended go to `on_other`.

    Signals must have been held since before the command could end.
    """
    while (status := _reap(command, on_other)) is None:
        info = signal.sigwaitinfo(_WAITED_FOR)
        # Positive: from the kernel.
        if info.si_signo != signal.SIGCHLD and info.si_code <= 0 and info.si_pid != command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, info.si_signo)
    return status


def _reap(command: int, on_other: Callable[[int], None]) -> int | None:
    """The wait status of the command, None as long as it lives. One that stops itself stops us: our parent waits for us."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return None
        if pid != command and not os.WIFSTOPPED(status):
            on_other(pid)
        elif not os.WIFSTOPPED(status):
            return status
        elif pid == command and os.WSTOPSIG(status) == signal.SIGSTOP:
            os.kill(os.getpid(), signal.SIGSTOP)


def end_as(status: int) -> int:
    """End as another process ended, by the same signal; if it was by none, its exit status is for the caller to end with."""
    if not os.WIFSIGNALED(status):
        return os.waitstatus_to_exitcode(status)
    number = os.WTERMSIG(status)
    # One core is enough, and ours says nothing.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return _DIED + number
