"""What this machine believes and remembers of a repository, for people to look at; asks no server and changes nothing."""

import json
import os
import time
from dataclasses import dataclass
from typing import Any

from cvfs.client.settings import Settings
from cvfs.client.trust_anchors import key_files, read_blacklists, read_key, trust_state
from cvfs.client.trust_state import TrustState
from cvfs.errors import CvfsError
from cvfs.format.fqrn import is_fqrn
from cvfs.format.signature import key_fingerprint, split_signed
from cvfs.format.whitelist import Whitelist
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.trust import Seen, expiry

_DAY = 86400


@dataclass(frozen=True, slots=True)
class TrustReport:
    """`keys` are files and fingerprints, or what is wrong with them; `verified` is the Unix time of the last success.

    `floor` is the oldest revision that the blacklists accept.
    """

    settings: Settings
    directory: str | None
    seen: Seen | None
    verified: float | None
    whitelist: Whitelist | None
    keys: tuple[tuple[str, str], ...]
    floor: int

    @classmethod
    def gather(cls, settings: Settings) -> "TrustReport":
        """As it is now. Raises FormatError or UsageError for a memory that is damaged or cannot be read."""
        state = trust_state(settings)
        kept = state.kept() if state else None
        return cls(
            settings,
            state.directory if state else None,
            state.seen() if state else None,
            kept.accepted if kept else None,
            parse_whitelist(split_signed(kept.whitelist).payload) if kept else None,
            tuple((name, _fingerprint(name)) for name in key_files(settings)),
            read_blacklists(settings.trust.blacklists).floor(settings.fqrn),
        )

    def days_left(self, now: float) -> int | None:
        """Whole days until the whitelist that was seen last expires; None if none was."""
        return int((expiry(self.whitelist) - now) // _DAY) if self.whitelist else None

    def as_json(self, now: float) -> str:
        """One object. Times in Unix seconds, stamps of whitelists in 14 digits of UTC, the limit of age in hours."""
        seen, whitelist, limits = self.seen, self.whitelist, self.settings.trust.limits
        facts: dict[str, Any] = {
            "fqrn": self.settings.fqrn,
            "directory": self.directory,
            "revision": seen.revision if seen else None,
            "published": seen.timestamp if seen else None,
            "root_hash": seen.root_catalog if seen else None,
            "verified": self.verified,
            "whitelist_issued": whitelist.issued if whitelist else None,
            "whitelist_expires": whitelist.expires if whitelist else None,
            "whitelist_days": self.days_left(now),
            "keys": [{"file": name, "fingerprint": fingerprint} for name, fingerprint in self.keys],
            "minimum_revision": limits.revision,
            "blacklisted_below": self.floor,
            "max_manifest_age": limits.age / 3600,
            "blacklists": list(self.settings.trust.blacklists),
        }
        return json.dumps(facts)

    def lines(self, now: float) -> list[tuple[str, str]]:
        """The same as names and texts."""
        trust, limits = self.settings.trust, self.settings.trust.limits
        return [
            ("Repository name", self.settings.fqrn),
            *self._remembered(now),
            *(("Master key", f"{fingerprint} {name}") for name, fingerprint in self.keys or (("", "none"),)),
            ("Minimum revision", str(max(limits.revision, self.floor) or "none")),
            ("Oldest manifest", f"{limits.age / 3600:g} hours" if limits.age else "any age"),
            *(("Blacklist", name + ("" if os.path.exists(name) else " (not there)")) for name in trust.blacklists),
            ("Remembered in", self.directory or "nowhere"),
        ]

    def _remembered(self, now: float) -> list[tuple[str, str]]:
        found = [("Newest revision seen", "none")]
        if self.seen:
            found = [
                ("Newest revision seen", str(self.seen.revision)),
                ("Published", _moment(self.seen.timestamp)),
                ("Root hash", self.seen.root_catalog),
            ]
        if self.whitelist and self.verified is not None:
            found += [
                ("Last verified", _moment(self.verified)),
                ("Whitelist issued", self.whitelist.issued),
                ("Whitelist expires", f"{self.whitelist.expires} ({self.days_left(now)} days left)"),
            ]
        return found


def remembered_repositories(settings: Settings) -> list[str]:
    """The names of all repositories of which something is remembered where these settings say."""
    try:
        names = os.listdir(settings.trust.state) if settings.trust.state else []
    except FileNotFoundError:
        return []
    return sorted(name for name in names if is_fqrn(name))


def describe_memory(state: TrustState) -> str:
    """What is remembered, in a few words; a memory that is damaged has some too."""
    try:
        seen = state.seen()
    except CvfsError:
        return "a damaged record"
    if seen is None:
        return "nothing"
    return f"revision {seen.revision} of {_moment(seen.timestamp)}, root catalog {seen.root_catalog}"


def _fingerprint(name: str) -> str:
    try:
        return key_fingerprint(read_key(name))
    except CvfsError as error:
        return str(error).removeprefix(f"{name}: ")


def _moment(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"second {seconds:.0f}"
