"""Where a transaction keeps its parts, as the original names them; touches no disk."""

from dataclasses import dataclass

from cvfs_server.settings import RepositorySettings
from cvfs_server.site import Site


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one repository: `union` is where users edit, everything else lies in the spool area."""

    fqrn: str
    spool: str
    union: str
    configuration: str

    @classmethod
    def of(cls, site: Site, settings: RepositorySettings) -> "Layout":
        """The places that a site and server.conf say."""
        configuration = site.configuration(settings.fqrn).removesuffix("server.conf") + "client.conf"
        return cls(settings.fqrn, settings.spool, f"{site.root}/cvmfs/{settings.fqrn}", configuration)

    @property
    def lower(self) -> str:
        """The published tree, read-only."""
        return f"{self.spool}/rdonly"

    @property
    def cache(self) -> str:
        """The cache of the client that shows it."""
        return f"{self.spool}/cache"

    @property
    def upper(self) -> str:
        """What was changed."""
        return f"{self.spool}/scratch/current"

    @property
    def wastebin(self) -> str:
        """What was changed before and is being removed."""
        return f"{self.spool}/scratch/wastebin"

    @property
    def work(self) -> str:
        """Scratch space of overlayfs itself, on the file system of `upper`."""
        return f"{self.spool}/ofs_workdir"

    @property
    def client_local(self) -> str:
        """The client's parameters that change with each revision."""
        return f"{self.spool}/client.local"

    @property
    def client_log(self) -> str:
        """What the client has to say."""
        return f"{self.spool}/client.log"

    @property
    def open_mark(self) -> str:
        """Is there while a transaction is open; see `record`."""
        return f"{self.spool}/in_transaction.lock"

    @property
    def publishing_mark(self) -> str:
        """Is there while the transaction is being published."""
        return f"{self.spool}/is_publishing.lock"

    @property
    def verb_lock(self) -> str:
        """Held by the verb that is at work on the transaction."""
        return f"{self.spool}/transaction.lock"
