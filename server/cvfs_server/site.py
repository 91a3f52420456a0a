"""Where a publishing machine keeps its repositories' configuration, keys, storage and spool area; opens nothing.

All places hang below one directory, by default the root of the machine: with another one the whole publisher works without
root. Source: FORMAT section 3.3.
"""

from dataclasses import dataclass

from cvfs.format.fqrn import check_fqrn


@dataclass(frozen=True, slots=True)
class Site:
    """The places of all repositories of a machine; `root` is what stands before each path, without a slash at its end."""

    root: str = ""

    @property
    def repositories(self) -> str:
        """One directory for each repository's configuration."""
        return f"{self.root}/etc/cvmfs/repositories.d"

    @property
    def keys(self) -> str:
        return f"{self.root}/etc/cvmfs/keys"

    @property
    def web_root(self) -> str:
        """What a web server shows as /cvmfs."""
        return f"{self.root}/srv/cvmfs"

    def configuration(self, fqrn: str) -> str:
        """The file server.conf of a repository. Raises UsageError for an impossible name."""
        return f"{self.repositories}/{check_fqrn(fqrn)}/server.conf"

    def key(self, fqrn: str, kind: str) -> str:
        """A key file: `kind` is masterkey, pub, crt or key. Raises UsageError for an impossible name."""
        return f"{self.keys}/{check_fqrn(fqrn)}.{kind}"

    def storage(self, fqrn: str) -> str:
        """The published files. Raises UsageError for an impossible name."""
        return f"{self.web_root}/{check_fqrn(fqrn)}"

    def spool(self, fqrn: str) -> str:
        """Scratch space, lock and local state. Raises UsageError for an impossible name."""
        return f"{self.root}/var/spool/cvmfs/{check_fqrn(fqrn)}"
