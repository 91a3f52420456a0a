"""Whom the process of a mount acts for: root mounts, and may then become somebody else; it decides nothing about access."""

import contextlib
import os
import pwd
from collections.abc import Iterator

from cvfs.client.settings.mount import ProcessSettings
from cvfs.errors import UsageError


def identity(settings: ProcessSettings) -> tuple[int, int] | None:
    """User and group that the process shall become; None if it stays what it is. Raises UsageError."""
    if settings.user is None and settings.group is None:
        return None
    user = os.getuid() if settings.user is None else settings.user
    group = os.getgid() if settings.group is None else settings.group
    if (user, group) == (os.getuid(), os.getgid()):
        return None
    if os.geteuid() != 0:
        raise UsageError(f"uid={user}, gid={group}: only root can mount for somebody else")
    return user, group


@contextlib.contextmanager
def acting_for(chosen: tuple[int, int] | None) -> Iterator[None]:
    """What is opened and made in here is that user's."""
    if chosen is None:
        yield
        return
    user, group = chosen
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def become(chosen: tuple[int, int] | None) -> None:
    """Be that user for good, with no other groups."""
    if chosen is None:
        return
    user, group = chosen
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def user_number(name: str) -> int:
    """The number of a user given by name or number. Raises UsageError."""
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(f"CVMFS_TALK_OWNER={name}: no such user") from None
