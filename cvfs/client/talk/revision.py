"""Commands about the revision that a mount shows: look for a newer one, show another, list what is loaded."""

from cvfs.client.control import Answer
from cvfs.client.observe.mounted import Mounted
from cvfs.client.talk.commands import DONE, Command, number
from cvfs.errors import FormatError, UsageError
from cvfs.hashes import ContentHash, ObjectKind


class RevisionCommands:
    """What is asked of the revision shown."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def commands(self) -> list[Command]:
        """The commands by their words."""
        return [
            Command("revision", self.revision, help="gets the repository revision"),
            Command("remount", self.remount, "[sync]", "look for new catalogs"),
            Command("chroot", self.chroot, "<hash>", "shows another root catalog until the next remount"),
            Command("max ttl info", self.max_ttl, help="gets the maximum ttl"),
            Command("max ttl set", self.set_max_ttl, "<minutes>", "sets the maximum ttl, 0 for none"),
            Command("detach nested catalogs", self.detach, help="closes all catalogs but the root"),
            Command("open catalogs", self.open_catalogs, help="shows the loaded catalogs (not all cached ones)"),
        ]

    def revision(self, _: str) -> str:
        """The number."""
        return f"{self._mounted.repository.number}\n"

    def remount(self, _: str) -> str:
        """Always at once: nothing has to be drained, since the kernel is told what changed."""
        return "New revision applied\n" if self._mounted.refresher.refresh() else "Catalog up to date\n"

    def chroot(self, text: str) -> Answer:
        """Another root catalog, known by its hash alone."""
        try:
            root = ContentHash.parse(text, ObjectKind.CATALOG)
        except FormatError as error:
            raise UsageError(f"{text}: {error}") from error
        self._mounted.refresher.show(root)
        return DONE

    def max_ttl(self, _: str) -> str:
        """How long no revision is shown without looking for a newer one."""
        seconds = self._mounted.refresher.max_ttl
        return f"{seconds / 60:g} minutes\n" if seconds else "unset\n"

    def set_max_ttl(self, text: str) -> Answer:
        """From now on, until the mount ends."""
        self._mounted.refresher.set_max_ttl(number(text, "minutes") * 60)
        return DONE

    def detach(self, _: str) -> Answer:
        """They are opened again when they are needed."""
        self._mounted.repository.tree.detach_nested()
        return DONE

    def open_catalogs(self, _: str) -> Answer:
        """Mount points of catalogs, each indented below the loaded one that it is in."""
        names = sorted(nested.path for nested in self._mounted.repository.tree.open_catalogs())
        above: list[bytes] = []
        lines = []
        for name in sorted(names, key=lambda path: path.split(b"/")):
            while above and not (name + b"/").startswith(above[-1] + b"/"):
                above.pop()
            lines.append(f"{'    ' * len(above)}-> {name.decode(errors='surrogateescape')}\n")
            above.append(name)
        return Answer("".join(lines))
