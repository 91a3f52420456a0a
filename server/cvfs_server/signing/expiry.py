"""How long clients will go on believing what a repository publishes: its whitelist's time, and warnings; signs nothing.

Source: FORMAT sections 3.1, 3.6.
"""

from dataclasses import dataclass

from cvfs.errors import FormatError, MissingObject, PathError, StoreError
from cvfs.format.signature import Signed, load_public_key, split_signed, verify_whitelist_signature
from cvfs.format.whitelist import Whitelist
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs.store.base import fetch_document
from cvfs.trust import expiry
from cvfs_server.repository import WHITELIST
from cvfs_server.settings import RepositorySettings
from cvfs_server.signing.keys import read_certificate, read_key_file
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of

WARNING_DAYS = 7
_DAY = 86400
EXPIRED, UNREACHABLE = "whitelist expired", "whitelist unreachable"


@dataclass(frozen=True, slots=True)
class WhitelistState:
    """A repository's whitelist as clients find it: for how many seconds it holds, and why they refuse it, if they do."""

    fqrn: str
    whitelist: Whitelist | None
    seconds_left: float
    problem: str = ""

    @property
    def days_left(self) -> int:
        """Whole days, negative afterwards."""
        return int(self.seconds_left // _DAY)

    @property
    def warning(self) -> str:
        """What the publisher should know, in one line; empty while there is time enough."""
        advice = "sign it with cvfs-server resign"
        if self.problem:
            return f"{self.fqrn}: {self.problem}, clients accept no new revision: {advice}"
        if self.whitelist is None or self.seconds_left >= WARNING_DAYS * _DAY:
            return ""
        hours = int(self.seconds_left // 3600)
        left = f"{self.days_left} days" if hours >= 48 else f"{hours} hours"
        return f"{self.fqrn}: the whitelist expires in {left}, at {self.whitelist.expires} UTC: {advice}"


def whitelist_state(site: Site, settings: RepositorySettings, now: float) -> WhitelistState:
    """The state of the published whitelist at the Unix time `now`; whatever is wrong with it is its `problem`."""
    fqrn, whitelist = settings.fqrn, None
    try:
        signed = split_signed(fetch_document(storage_of(settings), WHITELIST))
        whitelist = parse_whitelist(signed.payload)
        problem = _problem(site, signed, whitelist, fqrn, now)
    except MissingObject:
        problem = f"{UNREACHABLE}: there is none"
    except StoreError as error:
        problem = f"{UNREACHABLE}: {error}"
    except (FormatError, PathError) as error:
        problem = f"whitelist invalid: {error}"
    return WhitelistState(fqrn, whitelist, expiry(whitelist) - now if whitelist else 0, problem)


def expiry_warning(site: Site, settings: RepositorySettings, now: float) -> str:
    """What whoever publishes should be told about the whitelist; empty while there is time enough."""
    return whitelist_state(site, settings, now).warning


def _problem(site: Site, signed: Signed, whitelist: Whitelist, fqrn: str, now: float) -> str:
    """Why clients refuse it, in the order in which they look. Raises FormatError or PathError for a key that is none."""
    place = site.key(fqrn, "pub")
    if not verify_whitelist_signature((load_public_key(read_key_file(place)),), signed):
        return f"whitelist not signed with the master key of {place}"
    if whitelist.is_expired(now):
        return EXPIRED
    if whitelist.fqrn != fqrn:
        return f"whitelist is for {whitelist.fqrn}"
    return "" if whitelist.lists(read_certificate(site.key(fqrn, "crt"))) else "whitelist does not list the certificate"
