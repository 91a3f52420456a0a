"""Commands about the cache of a mount: what is in it, how large it may be, what goes and what stays."""

import contextlib
import os
from collections.abc import Callable

from cvfs.client.cache.base import Cache, CacheEntry, EntryKind
from cvfs.client.content import Piece
from cvfs.client.control import Answer
from cvfs.client.observe.mounted import Mounted
from cvfs.client.talk.commands import DONE, Command, number
from cvfs.errors import CvfsError, NotFound

_MIB = 2**20


class CacheCommands:
    """What is asked of the cache."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def commands(self) -> list[Command]:
        """The commands by their words."""
        return [
            Command("cache instance", self.instance, help="describes the cache"),
            Command("cache size", self.size, help="gets the current size of the cache"),
            Command("cache list", self.list, "[pinned|catalogs]", "gets what is in the cache"),
            Command("cache limit get", self.limit, help="gets the limit in MB, -1 for none"),
            Command("cache limit set", self.set_limit, "<MB>", "sets the limit until the mount ends"),
            Command("cleanup", self.clean_up, "<MB>", "cleans the cache until its size is not more than that"),
            Command("cleanup rate", self.rate, "<period in mn>", "counts the cleanups in the last minutes"),
            Command("evict", self.evict, "<path>", "removes the content of a file from the cache"),
            Command("pin", self.pin, "<path>", "keeps the content of a file in the cache"),
        ]

    def instance(self, _: str) -> str:
        """Kind and place."""
        cache = self._mounted.plane.cache
        return f"{cache.describe() if cache else 'No cache: everything is fetched anew'}\n"

    def size(self, _: str) -> Answer:
        """Bytes in use, and how many of them are held."""
        cache = self._cache()
        used, pinned = cache.usage()[0], sum(entry.size for entry in cache.entries() if entry.held)
        text = f"Current cache size is {_shown(used)}, pinned: {_shown(pinned)}\n"
        return Answer(text, data={"used": used, "pinned": pinned})

    def list(self, which: str) -> Answer:
        """Contents by hash: the cache does not know by which paths they were reached."""
        if which not in _WANTED:
            return Answer("unknown command\n", good=False)
        found = [entry for entry in self._cache().entries() if _WANTED[which](entry)]
        return Answer("".join(f"{entry.content.name}\n" for entry in found))

    def limit(self, _: str) -> str:
        """The quota."""
        quota = self._cache().usage()[1]
        return f"{-1 if quota is None else quota // _MIB}\n"

    def set_limit(self, text: str) -> Answer:
        """Another quota; the configuration counts again after a new mount."""
        self._cache().resize(None if text == "-1" else number(text, "MB", least=1) * _MIB)
        return DONE

    def clean_up(self, text: str) -> Answer:
        """Down to that many MB."""
        if self._cache().clean_up(number(text, "MB") * _MIB):
            return DONE
        return Answer("Not fully cleaned (there might be pinned chunks)\n", good=False)

    def rate(self, text: str) -> str:
        """How often the cache was cleaned."""
        return f"{self._cache().cleanups_within(number(text, 'minutes') * 60)}\n"

    def evict(self, path: str) -> Answer:
        """Every object of the file; what is open stays readable."""
        cache = self._cache()
        try:
            pieces = self._pieces(path)
        except CvfsError:
            return Answer("No such regular file\n", good=False)
        for piece in pieces:
            cache.evict(piece.wanted.content)
        return DONE

    def pin(self, path: str) -> Answer:
        """Every object of the file is fetched, and held until the mount ends; none of them if one cannot be had."""
        cache, repository = self._cache(), self._mounted.repository
        with contextlib.ExitStack() as on_failure:
            try:
                pieces = self._pieces(path)
                contents = repository.contents_of(repository.lookup(self._inside(path)))
                for piece in pieces:
                    cache.pin(piece.wanted.content)
                    on_failure.callback(cache.unpin, piece.wanted.content)
                    os.close(contents.open(piece.wanted))
            except CvfsError as error:
                return Answer(f"No such regular file or pinning failed ({error})\n", good=False)
            on_failure.pop_all()
        return DONE

    def _pieces(self, path: str) -> tuple[Piece, ...]:
        """The objects of a regular file. Raises CvfsError."""
        inside = self._inside(path)
        entry = self._mounted.repository.lookup(inside)
        if not entry.is_regular:
            raise NotFound(f"{path}: not a regular file")
        return self._mounted.repository.pieces(inside, entry)

    def _inside(self, path: str) -> str:
        """Paths count from the root of the repository; those by way of the mount point are understood too."""
        return path.removeprefix(self._mounted.mountpoint) if path.startswith("/") else f"/{path}"

    def _cache(self) -> Cache:
        cache = self._mounted.plane.cache
        if cache is None:
            raise NotFound("this mount keeps nothing: it has no cache")
        return cache


_WANTED: dict[str, Callable[[CacheEntry], bool]] = {
    "": lambda _: True,
    "pinned": lambda entry: entry.held,
    "catalogs": lambda entry: entry.kind is EntryKind.CATALOG,
}


def _shown(size: int) -> str:
    return f"{size // _MIB}MB ({size} Bytes)"
