"""Lines of /etc/fstab for repositories; steps, none of them done."""

import re

from cvfs_tools.setup.plan import Directory, Lines, Section

FSTAB = "/etc/fstab"
OPTIONS = "defaults,_netdev,nodev,nosuid"
"""`_netdev`: not before the network is up, and taken away before it goes."""

# Somebody may have unmounted it already.
_UNMOUNTED = 'umount "$0" || ! mountpoint -q "$0"'


def fstab_lines(directory: str, repositories: tuple[str, ...]) -> Section:
    """A line for each repository, mounted below `directory` at boot."""
    places = [f"{directory}/{fqrn}" for fqrn in repositories]
    lines = tuple(
        f"{fqrn} {place} cvfs {OPTIONS} 0 0".encode() for fqrn, place in zip(repositories, places, strict=True)
    )
    against = rb"\s*[^#\s]\S*\s+(?:%s)/?\s" % b"|".join(re.escape(place.encode()) for place in places)
    return Section(
        "fstab",
        (*(Directory(place) for place in places), Lines(FSTAB, lines, against)),
        (("systemctl", "daemon-reload"),),
        tuple(("mount", place) for place in places),
        tuple(("sh", "-c", _UNMOUNTED, place) for place in places),
    )
