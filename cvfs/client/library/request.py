"""What a program asks to open, as a value that can be compared, pickled and asked for its settings again; it opens nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cvfs.client.configuration_sources import Sources, settings_of, tell_warnings
from cvfs.client.settings import Settings, settings_for_url, settings_from
from cvfs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Request:
    """A repository by its name or URL, with what is said about it; `assigned` are CVMFS_* parameters, sorted by name.

    In another process, on another machine, the same request is answered with the configuration found there.
    """

    repository: str
    assigned: tuple[tuple[str, str], ...] = ()
    etc: str | None = None

    @classmethod
    def of(cls, repository: str, assigned: Mapping[str, str | None], etc: str | None = None) -> "Request":
        """Without those parameters that are None."""
        return cls(repository, tuple(sorted((name, text) for name, text in assigned.items() if text is not None)), etc)

    def settings(self) -> Settings:
        """The settings on this machine, now. Raises UsageError, FormatError."""
        by_url = "://" in self.repository
        return (self._settings_for_url() if by_url else self._settings_for_name()).with_absolute_places()

    def _settings_for_name(self) -> Settings:
        configuration = Sources(dict(self.assigned), etc=self.etc).configuration(self.repository)
        tell_warnings(configuration)
        return settings_of(configuration)

    def _settings_for_url(self) -> Settings:
        """Nothing of this machine's configuration counts: the URL says it, and the arguments."""
        given = dict(self.assigned)
        if self.etc is not None or "CVMFS_SERVER_URL" in given:
            raise UsageError(f"{self.repository}: a URL says where the repository is, no other URL or tree can")
        said = settings_for_url(
            self.repository,
            given.get("CVMFS_PUBLIC_KEY"),
            cache_dir=given.get("CVMFS_CACHE_DIR"),
            tag=given.get("CVMFS_REPOSITORY_TAG"),
            root_hash=given.get("CVMFS_ROOT_HASH"),
        )
        full = settings_from(said.fqrn, {"CVMFS_SERVER_URL": self.repository, **given})
        cache = replace(full.cache, directory=said.cache.directory)
        return replace(full, trust=replace(full.trust, state=said.trust.state, blacklists=()), cache=cache)
