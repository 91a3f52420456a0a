"""Addresses of host names, with a deadline: the system's resolver asked in threads of its own; it connects to nobody.

What was known is given while it is asked for anew, and when it cannot be had any more: only the first request for a name
ever waits.
"""

import contextlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cvfs.errors import Trouble, Unreachable

_log = logging.getLogger(__name__)

_MOST_QUESTIONS = 16
# Redirections, where they are followed, may lead to any number of names.
_MOST_KNOWN = 1000
# After so many seconds a question counts as lost: the resolver hangs, or this process was forked off while it was asked.
_LOST_AFTER = 60.0
_RESOLVER_CONFIGURATION = "/etc/resolv.conf"
_Addresses = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """How names are resolved. Times in seconds. The system's resolver tells no time to live: `least_ttl` stands for it.

    `roaming`: everything is forgotten when the machine has got other name servers.
    """

    timeout: float = 3.0
    retries: int = 1
    least_ttl: float = 60.0
    prefer_ipv6: bool = False
    roaming: bool = False


class Names:
    """Host names to addresses; the preferred family comes first. Safe for any number of threads."""

    def __init__(
        self,
        policy: NamePolicy = NamePolicy(),
        *,
        clock: Callable[[], float] = time.monotonic,
        look_up: Callable[[str], list[str]] | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._look_up = look_up or system_look_up
        self._known: dict[str, _Known] = {}
        self._questions: dict[str, _Question] = {}
        self._configured = 0
        self._lock = threading.Lock()

    def addresses(self, host: str, within: float | None = None) -> _Addresses:
        """All addresses of `host`. Raises Unreachable if there are none, or not within that many seconds."""
        literal = literal_address(host)
        if literal:
            return (literal,)
        known, question = self._find(host)
        if known:
            return known.addresses
        if question is None:
            raise Unreachable(f"{host}: too many names are being resolved", Trouble.NOT_CONNECTED)
        patience = self._policy.timeout * (1 + self._policy.retries)
        question.answered.wait(patience if within is None else min(within, patience))
        if question.addresses:
            return question.addresses
        reason = question.error or "the name servers do not answer"
        raise Unreachable(f"{host}: cannot be resolved: {reason}", Trouble.NOT_CONNECTED)

    def known(self, host: str) -> _Addresses:
        """What is known of `host` without waiting, only of the preferred family if it has any; asked for if need be."""
        literal = literal_address(host)
        if literal:
            return (literal,)
        known, _ = self._find(host)
        if known is None:
            return ()
        wanted = ":" in known.addresses[0]
        return tuple(address for address in known.addresses if (":" in address) == wanted)

    def forget(self) -> None:
        """Everything is asked for anew."""
        with self._lock:
            self._known.clear()

    def _find(self, host: str) -> "tuple[_Known | None, _Question | None]":
        """What is known, and where that is nothing or out of date the question that is under way, if any more can be."""
        with self._lock:
            self._notice_roaming()
            known = self._known.get(host)
            return known, None if known and self._clock() < known.expires else self._ask(host)

    def _ask(self, host: str) -> "_Question | None":
        """The question for this name that is under way, or a new one. None if too many are."""
        now = self._clock()
        for name, question in list(self._questions.items()):
            if now - question.asked > _LOST_AFTER:
                del self._questions[name]
        if host not in self._questions:
            if len(self._questions) >= _MOST_QUESTIONS:
                return None
            question = self._questions[host] = _Question(now)
            threading.Thread(target=self._answer, args=(host, question), name="resolver", daemon=True).start()
        return self._questions[host]

    def _answer(self, host: str, question: "_Question") -> None:
        found = self._resolved(host, question)
        with self._lock:
            if found:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[host] = _Known(found, self._clock() + self._policy.least_ttl)
            elif host in self._known:
                last = self._known[host]
                self._known[host] = _Known(last.addresses, self._clock() + self._policy.least_ttl)
                _log.warning("%s: %s; going on with its last known addresses", host, question.error)
            if self._questions.get(host) is question:
                del self._questions[host]
        question.addresses = found
        question.answered.set()

    def _resolved(self, host: str, question: "_Question") -> _Addresses:
        for _ in range(1 + self._policy.retries):
            try:
                return self._sorted(self._look_up(host))
            except (OSError, UnicodeError) as error:
                question.error = str(error)
        return ()

    def _sorted(self, addresses: list[str]) -> _Addresses:
        preferred = 6 if self._policy.prefer_ipv6 else 4
        unique = dict.fromkeys(addresses)
        return tuple(sorted(unique, key=lambda address: (6 if ":" in address else 4) != preferred))

    def _notice_roaming(self) -> None:
        if not self._policy.roaming:
            return
        with contextlib.suppress(OSError):
            configured = os.stat(_RESOLVER_CONFIGURATION).st_mtime_ns
            if configured != self._configured and self._configured:
                self._known.clear()
            self._configured = configured


class _Known(NamedTuple):
    addresses: _Addresses
    expires: float


class _Question:
    """One name that is being resolved."""

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.answered = threading.Event()
        self.addresses: _Addresses = ()
        self.error = ""


def literal_address(host: str) -> str | None:
    """The address, if the host is given by one; brackets are removed."""
    bare = host.strip("[]")
    try:
        ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return bare


def system_look_up(host: str) -> list[str]:
    """What the system's resolver says. Raises OSError; may take long."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
