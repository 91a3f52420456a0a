"""Which proxy is in use, and which ones are known to be down; not thread-safe, it knows no clock and contacts nobody.

A member of the first group that still has one is chosen at random and kept. A proxy that failed is left out until the
preferred ones are tried again, or until there is none left at all.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from cvfs.store.proxies import DIRECT, ProxyChain, at_address, shard_order


class ProxyState(NamedTuple):
    """One proxy as the control socket shows it."""

    url: str
    active: bool
    down: bool


class ProxyGroups:
    """The chain and what is known of it. Times are those of one monotonic clock, in seconds."""

    def __init__(self, chain: ProxyChain, random: Random, *, shard: bool = False) -> None:
        self._random = random
        self._shard = shard
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._down: set[str] = set()
        self._revived: dict[str, int] = {}
        self._configured = chain
        self._groups = chain.groups
        self.generation = 0
        self.group = 0
        self.active = DIRECT
        self.set_chain(chain)

    def set_chain(self, chain: ProxyChain) -> None:
        """Other proxies: begin with the first group, whatever was known is forgotten."""
        self._configured = chain
        self.group = 0
        self._expand()
        self._revive()
        self._choose()

    @property
    def chain(self) -> ProxyChain:
        """The groups as they were configured."""
        return self._configured

    def set_addresses(self, proxy: str, addresses: tuple[str, ...]) -> None:
        """A configured name has several addresses: each is a member of the group in its place."""
        if self._addresses.get(proxy, ()) == addresses:
            return
        self._addresses[proxy] = addresses
        self._expand()
        if self.active not in self._groups[self.group]:
            self._choose()

    @property
    def disturbed(self) -> bool:
        """Whether anything is not as preferred: a proxy is down or a later group in use."""
        return bool(self._down) or self.group > 0

    def in_order(self, path: str = "") -> Iterator[str]:
        """The proxies that are not known to be down, best first: the active one, its group, the later groups."""
        count = len(self._groups)
        for number in ((self.group + step) % count for step in range(count)):
            members = [proxy for proxy in self._groups[number] if proxy not in self._down]
            if self._shard:
                members = shard_order(members, path)
            elif self.active in members:
                members.remove(self.active)
                members.insert(0, self.active)
            yield from members

    def left_out(self) -> list[str]:
        """The proxies that are known to be down."""
        return [proxy for group in self._groups for proxy in group if proxy in self._down]

    def states(self) -> tuple[tuple[ProxyState, ...], ...]:
        """All groups for the control socket."""
        return tuple(
            tuple(
                ProxyState(proxy, proxy == self.active and number == self.group, proxy in self._down) for proxy in group
            )
            for number, group in enumerate(self._groups)
        )

    def fail(self, proxy: str, generation: int) -> bool:
        """Leave out a proxy that failed a request begun in `generation`; False if that is no news.

        With all of its group failed the next group is in use; with all of all groups failed everything begins anew.
        """
        known = any(proxy in group for group in self._groups)
        if not known or proxy in self._down or generation < self._revived.get(proxy, 0):
            return False
        self._down.add(proxy)
        if proxy == self.active or not self._left(self.group):
            self._advance()
        self.generation += 1
        return True

    def absolve(self, proxy: str) -> None:
        """It was something else: the proxy is up."""
        if proxy in self._down:
            self._down.discard(proxy)
            self.generation += 1
            self._revived[proxy] = self.generation

    def restore(self) -> None:
        """The preferred proxies again: nothing is down, the first group is in use."""
        before, self.group = self.group, 0
        self._revive()
        if before != 0:
            self._choose()

    def rebalance(self) -> None:
        """Begin anew with a random member of the first group."""
        self.group = 0
        self._revive()
        self._choose()

    def switch_proxy(self) -> None:
        """Another member of the active group, if there is one that is up."""
        others = [proxy for proxy in self._left(self.group) if proxy != self.active]
        self.active = self._random.choice(others) if others else self.active
        self.generation += 1

    def switch_group(self) -> None:
        """The next group, the first one behind the last."""
        self.group = (self.group + 1) % len(self._groups)
        self._down -= set(self._groups[self.group])
        self._choose()

    def _left(self, number: int) -> list[str]:
        return [proxy for proxy in self._groups[number] if proxy not in self._down]

    def _advance(self) -> None:
        """To a member that is up: in this group, in a later one, or, when there is none, to the first group anew."""
        count = len(self._groups)
        for number in ((self.group + step) % count for step in range(count)):
            if self._left(number):
                self.group = number
                break
        else:
            self.group = 0
            self._revive()
        self._choose()

    def _choose(self) -> None:
        self.active = self._random.choice(self._left(self.group) or self._groups[self.group])
        self.generation += 1

    def _revive(self) -> None:
        """Nothing is down any more. What began before this moment can no longer tell that one is."""
        self.generation += 1
        for proxy in self._down:
            self._revived[proxy] = self.generation
        self._down.clear()

    def _expand(self) -> None:
        self._groups = tuple(tuple(self._members(group)) for group in self._configured.groups) or ((DIRECT,),)

    def _members(self, group: tuple[str, ...]) -> Iterator[str]:
        for proxy in group:
            addresses = self._addresses.get(proxy, ())
            if len(addresses) > 1:
                yield from (at_address(proxy, address) for address in addresses)
            else:
                yield proxy
