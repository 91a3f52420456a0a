"""The client that shows the published tree below the union: its parameters, its process; mounts nothing itself.

It is the command that users mount with, started as they start it. In a user namespace it is also what keeps the namespace.
"""

import contextlib
import os
import re
import subprocess
import time

from cvfs.client.readiness import VARIABLE, Readiness
from cvfs.errors import MountError, StoreFull
from cvfs.hashes import ContentHash
from cvfs.interpreter import python
from cvfs_server.settings import RepositorySettings
from cvfs_server.site import Site
from cvfs_server.state import make_directory, no_link, read_state, write_state
from cvfs_server.transaction.layout import Layout

_PREFIXES = ("CVMFS_", "CVFS_")
_READY_WITHIN = 60.0
_KILLED_WITHIN = 10.0
_MAX_COMPLAINT = 2000
_MAX_COMMAND = 2**16
_QUOTA_MB = 4000
_ROOT_HASH = re.compile(r"^CVMFS_ROOT_HASH=(.*)$", re.MULTILINE)


def start_client(site: Site, settings: RepositorySettings, layout: Layout, root: ContentHash, *, apart: bool) -> int:
    """Show the revision with this root at `layout.lower`; the number of the process that does.

    `apart` starts it in a user namespace of its own, with mounts that nobody else sees. Raises MountError, StoreFull.
    """
    for place in (layout.lower, layout.cache):
        make_directory(place)
    write_state(layout.client_local, _local_text(root, apart=apart))
    files = f"config={_configuration(site, settings, layout)}:{layout.client_local}"
    mount = ("mount", *(("--apart",) if apart else ()), layout.fqrn, layout.lower, "-f", "-o", files)
    # Whatever the user's environment says is meant for mounts of his own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    try:
        with open(layout.client_log, "wb", opener=no_link) as log, Readiness.listen() as news:
            process = subprocess.Popen(
                [*python("cvfs_tools.cvfs_command"), *mount],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | {VARIABLE: news.address},
                cwd="/",
                start_new_session=True,
            )
            _await(process, news, layout)
    except OSError as error:
        raise MountError(f"cannot start the client of {layout.fqrn}: {error.strerror}") from error
    # It is nobody's child as soon as this process ends.
    process.returncode = 0
    return process.pid


def shown_root(layout: Layout) -> str:
    """The root hash that the client was started with last, empty if there was none."""
    text = (read_state(layout.client_local) or b"").decode("ascii", "replace")
    found = _ROOT_HASH.search(text)
    return found[1] if found else ""


def is_client(pid: int, layout: Layout) -> bool:
    """Whether that process is alive and shows this repository; a number may have gone to another one meanwhile."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsencode(layout.lower) in file.read(_MAX_COMMAND).split(b"\0")
    except OSError:
        return False


def _await(process: "subprocess.Popen[bytes]", news: Readiness, layout: Layout) -> None:
    if news.wait(process.pid, time.monotonic() + _READY_WITHIN):
        return
    if process.poll() is None:
        process.kill()
        process.wait(_KILLED_WITHIN)
    with open(layout.client_log, "rb") as log:
        complaint = log.read(_MAX_COMPLAINT).decode("utf-8", "replace").strip().replace("\n", "; ")
    raise MountError(f"{layout.fqrn} cannot be mounted at {layout.lower}: {complaint or 'the client does not answer'}")


def _local_text(root: ContentHash, *, apart: bool) -> bytes:
    """The parameters of one revision. Where a user namespace knows one user only, he owns everything."""
    return f"CVMFS_ROOT_HASH={root}\nCVMFS_CLAIM_OWNERSHIP={'yes' if apart else 'no'}\n".encode()


def _configuration(site: Site, settings: RepositorySettings, layout: Layout) -> str:
    """The file client.conf beside server.conf, made where there is none; in the spool area where that is not allowed."""
    if os.path.exists(layout.configuration):
        return layout.configuration
    text = _configuration_text(site, settings, layout)
    with contextlib.suppress(StoreFull):
        write_state(layout.configuration, text)
        return layout.configuration
    path = f"{layout.spool}/client.conf"
    write_state(path, text)
    return path


def _configuration_text(site: Site, settings: RepositorySettings, layout: Layout) -> bytes:
    parameters: dict[str, object] = {
        "CVMFS_CACHE_BASE": layout.cache,
        "CVMFS_CACHE_DIR": layout.cache,
        "CVMFS_RELOAD_SOCKETS": layout.cache,
        "CVMFS_WORKSPACE": layout.cache,
        "CVMFS_QUOTA_LIMIT": _QUOTA_MB,
        "CVMFS_SERVER_URL": settings.url if settings.s3 else f"file://{settings.storage}",
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_PUBLIC_KEY": site.key(settings.fqrn, "pub"),
        "CVMFS_AUTO_UPDATE": "no",
        "CVMFS_HIDE_MAGIC_XATTRS": "yes",
        # Links are shown, and copied, as they are published.
        "CVMFS_SERVER_CACHE_MODE": "yes",
        # The layers below a union that is in use must not change by themselves.
        "CVFS_WATCHDOG": "no",
    }
    return "".join(f"{name}='{value}'\n" for name, value in parameters.items()).encode("utf-8", "surrogateescape")
