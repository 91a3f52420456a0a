"""Commands about the revision that a mount shows: look for a newer one, list what is loaded."""

from cvfs.client.control import Answer
from cvfs.client.observe.mounted import Mounted
from cvfs.client.talk.commands import Command


class RevisionCommands:
    """What is asked of the revision shown."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def commands(self) -> list[Command]:
        """The commands by their words."""
        return [
            Command("revision", self.revision, help="gets the repository revision"),
            Command("remount", self.remount, "[sync]", "look for new catalogs"),
            Command("open catalogs", self.open_catalogs, help="shows the loaded catalogs (not all cached ones)"),
        ]

    def revision(self, _: str) -> str:
        """The number."""
        return f"{self._mounted.repository.number}\n"

    def remount(self, _: str) -> str:
        """Always at once: nothing has to be drained, since the kernel is told what changed."""
        return "New revision applied\n" if self._mounted.refresher.refresh() else "Catalog up to date\n"

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
