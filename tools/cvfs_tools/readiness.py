"""Telling whoever started this program that it is ready: systemd for a unit of Type=notify, or the parent mount."""

import contextlib
import os
import socket


def tell_ready() -> None:
    """Say so, if anybody wants to hear it (sd_notify(3)); who has gone away in between is told nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An address that begins with @ has no file.
    place = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as news:
        news.setblocking(False)
        news.sendto(b"READY=1", place)
